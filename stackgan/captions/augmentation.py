"""Caption augmentation: shortened captions, captions with synonyms, and captions inside longer sentences.

Captions of data sets are long and similar. Users type "a tiny crimson bird", and a generator trained only on long
captions follows such short texts badly. An augmented caption is derived from a caption and describes the same image:

1. shortened (half of them): keeps the subject with the predicates of "is" and at most two other phrases:
   "this bird is red with black wings, and has a short beak" -> "a red bird with a short beak";
2. with a synonym (half of them, :mod:`stackgan.captions.synonyms`): "a crimson bird with a short beak";
3. inside a longer sentence (a quarter of them): "i saw a crimson bird with a short beak in the park".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stackgan.captions.articles import with_article
from stackgan.captions.hard_negatives import FUNCTION_WORDS
from stackgan.captions.synonyms import SynonymReplacer, in_a_sentence
from stackgan.io.spool import StringSpool

__all__ = ["AugmentedTexts", "Shortener", "augmented_captions", "content_words"]

SHORTENED, WITH_SYNONYM, IN_SENTENCE = 0.5, 0.5, 0.25  # shares of all augmented captions
LONGEST = 6  # maximum number of words of a phrase; longer runs are not used
NOUN = 0.6  # minimum share of a noun's uses that are at the end of a phrase
FEWEST_USES = 5  # minimum uses of a noun

_IS = frozenset(("is", "are", "was", "were"))
_HEDGES = frozenset(
    (
        "almost", "nearly", "mostly", "completely", "entirely", "overall", "mainly", "primarily", "totally", "all",
        "both", "also", "very", "quite", "some", "it", "its", "it's", "s", "colored", "coloured", "color", "colour",
    )
)  # fmt: skip
_ARTICLES = frozenset(("a", "an", "the"))
_WHICH = frozenset(("that", "which", "who"))
_JOINS = frozenset(("and", ",", "or"))


@dataclass(frozen=True)
class AugmentedTexts:
    """Augmented captions, on the disk.

    Attributes:
        texts: an augmented version of each caption.
        words: content words of the caption that are kept (:func:`content_words`), before replacement by synonyms, in
            alphabetical order and separated by spaces.
    """

    texts: Sequence[str]
    words: Sequence[str]


@dataclass(frozen=True)
class _Phrase:
    words: tuple[str, ...]
    subject: int | None  # number of the previous phrase if this one is its predicate after "is"


class Shortener:
    """Shortens captions to some of their phrases.

    Args:
        captions: to estimate nouns from: words that are mostly at the end of a phrase.

    >>> texts = ["this small bird is red with black wings, and has a short beak.", "a bird has a tail that is grey"]
    >>> shortener = Shortener(texts * 5)
    >>> shortener.phrases(texts[0])
    ('small red bird', ['black wings', 'short beak'])
    >>> shortener.phrases(texts[1])
    ('bird', ['grey tail'])
    """

    def __init__(self, captions: Sequence[str]) -> None:
        uses: Counter[str] = Counter()
        last: Counter[str] = Counter()
        for caption in captions:
            for phrase in _runs(caption):
                if phrase.subject is None:  # "is red": an adjective at the end
                    uses.update(phrase.words)
                    last[phrase.words[-1]] += 1
        enough = {word: times for word, times in uses.items() if times >= FEWEST_USES}
        self.nouns = frozenset(word for word, times in enough.items() if last[word] >= NOUN * times)

    def phrases(self, caption: str) -> tuple[str, list[str]]:
        """The caption's subject with its predicates, and its other phrases; "" if no subject is found."""
        found = _runs(caption, self.nouns)
        things: dict[int, list[str]] = {}  # by number of the phrase
        for number, phrase in enumerate(found):
            thing = phrase.words[-1] in self.nouns
            if thing and phrase.subject is None:
                things[number] = list(phrase.words)
            elif not thing and phrase.subject in things and not set(phrase.words) & set(things[phrase.subject]):
                things[phrase.subject][-1:] = [*phrase.words, things[phrase.subject][-1]]
        if not things:
            return "", []
        about, *others = things.values()
        return _text(about), [_text(words) for words in others if len(words) > 1 and words[-1] != about[-1]]

    def draw(self, caption: str, draws: np.random.Generator) -> str | None:
        """Subject and up to two other phrases of the caption, or None for a single subject without attributes."""
        about, others = self.phrases(caption)
        plain = " " not in about
        if not about or (plain and not others):
            return None
        count = int(draws.integers(int(plain), min(len(others), 2) + 1))
        chosen = [others[i] for i in sorted(draws.permutation(len(others))[:count])]
        bare = draws.random() < 0.3  # without articles, as in search queries
        text = about if bare else _with_article(about)
        tails = chosen if bare else [_with_article(phrase) for phrase in chosen]
        return f"{text} with {' and '.join(tails)}" if tails else text


def augmented_captions(captions: Sequence[str], seed: int) -> AugmentedTexts:
    """An augmented version of each caption; equal captions at different positions get different ones."""
    shortener, synonyms = Shortener(captions), SynonymReplacer()
    draws = np.random.default_rng((seed, 0x7E))
    texts, words = StringSpool(), StringSpool()
    for caption in captions:
        text, kept = _augment(caption, shortener, synonyms, draws)
        texts.append(text)
        words.append(" ".join(sorted(kept)))
    return AugmentedTexts(texts, words)


def content_words(text: str) -> frozenset[str]:
    """The words of a text that are not function words.

    >>> sorted(content_words("A red bird with a red crown"))
    ['bird', 'crown', 'red']
    """
    return frozenset(_words(text)) - FUNCTION_WORDS


def _augment(
    caption: str, shortener: Shortener, synonyms: SynonymReplacer, draws: np.random.Generator
) -> tuple[str, frozenset[str]]:
    """The augmented caption and the content words that it keeps."""
    shortened, with_synonym, in_sentence = draws.random(3) < (SHORTENED, WITH_SYNONYM, IN_SENTENCE)
    text = caption.strip().rstrip(".").strip()
    if shortened:
        text = shortener.draw(caption, draws) or text
    words = content_words(text)
    if with_synonym and (drawn := synonyms.draw(text, draws)) is not None:
        text = drawn[0]
    if in_sentence and set(_words(text)[:1]) <= FUNCTION_WORDS:  # not for captions without articles
        text = in_a_sentence(text, draws)
    return text, words


def _runs(caption: str, nouns: Collection[str] = ()) -> list[_Phrase]:
    """Runs of words between function words; "and" and commas continue a run that does not yet end with a noun."""
    found: list[_Phrase] = []
    run: list[str] = []
    subject: int | None = None
    before = ""

    def close(by: str) -> None:
        nonlocal subject
        while run and run[-1] in _JOINS:
            run.pop()
        used = 0 < len(run) <= LONGEST
        if used:
            found.append(_Phrase(tuple(run), subject))
        if used:
            subject = len(found) - 1 if by in _IS else None
        elif by in _IS and before in _WHICH and found:
            subject = len(found) - 1
        elif by not in _IS and by not in _ARTICLES:
            subject = None
        run.clear()

    for token in [*_words(caption, signs=True), "."]:
        if token in _HEDGES:
            continue
        if token in _JOINS and run and run[-1] not in nouns:
            run += [token] * (run[-1] not in _JOINS)
        elif token in FUNCTION_WORDS or not token[0].isalnum():
            close(token)
        else:
            run.append(token)
        before = token
    return found


def _text(words: Sequence[str]) -> str:
    return " ".join(words).replace(" ,", ",")


def _with_article(phrase: str) -> str:
    """The phrase with an article, unless it looks like a plural."""
    return phrase if phrase.endswith("s") else with_article(phrase)


def _words(text: str, signs: bool = False) -> list[str]:
    return re.findall(r"[^\W_]+(?:[-'][^\W_]+)*" + (r"|[^\w\s]" if signs else ""), text.lower())
