"""Captions as people type them: a few words out of a caption, other words for what it says, a sentence around it.

Captions of data sets are long and of one mould. Who types types "a tiny crimson bird", and a generator that has never
met short texts paints them badly. A rewording is made of a caption itself, so that it is true of the same picture:

1. cut short (half of them): the caption's phrases are found, its subject's with what a plain "is" says of it and at
   most two others: "this bird is red with black wings, and has a short beak" -> "a red bird with a short beak";
2. in other words (half of them, :mod:`stackgan.captions.lexicon`): "a crimson bird with a short beak";
3. inside a sentence (a quarter of them): "i saw a crimson bird with a short beak in the park".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stackgan.captions.hard_negatives import FUNCTION_WORDS
from stackgan.captions.lexicon import Paraphraser, before_word

__all__ = ["Rewording", "Shortener", "content_words", "reworded_captions"]

CUT, OTHER_WORDS, WRAPPED = 0.5, 0.5, 0.25  # shares of all rewordings
LONGEST = 6  # words of a phrase; longer ones are no plain phrases
NOUN = 0.6  # share of its uses that a noun ends a phrase in
FEWEST_USES = 5  # of a word whose place in phrases is to be known

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
class Rewording:
    """A caption told otherwise.

    Attributes:
        text: as somebody might type it.
        words: what it says, in words of the caption (:func:`content_words`).
    """

    text: str
    words: frozenset[str]


@dataclass(frozen=True)
class _Phrase:
    words: tuple[str, ...]
    said_of: int | None  # number of the phrase before that it follows by "is"


class Shortener:
    """Finds the phrases of captions and tells some of them.

    Args:
        captions: that it learns from which words are nouns: those that phrases end in.

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
                if phrase.said_of is None:  # "is red": an adjective at the end
                    uses.update(phrase.words)
                    last[phrase.words[-1]] += 1
        enough = {word: times for word, times in uses.items() if times >= FEWEST_USES}
        self.nouns = frozenset(word for word, times in enough.items() if last[word] >= NOUN * times)

    def phrases(self, caption: str) -> tuple[str, list[str]]:
        """What the caption is about, with what is said of it, and its other phrases; "" where it cannot be found."""
        found = _runs(caption, self.nouns)
        things: dict[int, list[str]] = {}  # by the number of their phrase
        for number, phrase in enumerate(found):
            thing = phrase.words[-1] in self.nouns
            if thing and phrase.said_of is None:
                things[number] = list(phrase.words)
            elif not thing and phrase.said_of in things and not set(phrase.words) & set(things[phrase.said_of]):
                things[phrase.said_of][-1:] = [*phrase.words, things[phrase.said_of][-1]]
        if not things:
            return "", []
        about, *others = things.values()
        return _text(about), [_text(words) for words in others if len(words) > 1 and words[-1] != about[-1]]

    def draw(self, caption: str, draws: np.random.Generator) -> str | None:
        """A few words of the caption, or None where no phrases are found in it that say something."""
        about, others = self.phrases(caption)
        plain = " " not in about
        if not about or (plain and not others):
            return None
        count = int(draws.integers(int(plain), min(len(others), 2) + 1))
        chosen = [others[i] for i in sorted(draws.permutation(len(others))[:count])]
        bare = draws.random() < 0.3  # as in a search box
        text = about if bare else _with_article(about)
        tails = chosen if bare else [_with_article(phrase) for phrase in chosen]
        return f"{text} with {' and '.join(tails)}" if tails else text


def reworded_captions(captions: Sequence[str], seed: int) -> list[Rewording]:
    """A rewording of each caption; equal captions at different places get different ones."""
    shortener, paraphraser = Shortener(captions), Paraphraser()
    draws = np.random.default_rng((seed, 0x7E))
    return [_reword(caption, shortener, paraphraser, draws) for caption in captions]


def content_words(text: str) -> frozenset[str]:
    """The words of a text that are no function words.

    >>> sorted(content_words("A red bird with a red crown"))
    ['bird', 'crown', 'red']
    """
    return frozenset(_words(text)) - FUNCTION_WORDS


def _reword(caption: str, shortener: Shortener, paraphraser: Paraphraser, draws: np.random.Generator) -> Rewording:
    cut, other, wrapped = draws.random(3) < (CUT, OTHER_WORDS, WRAPPED)
    text = caption.strip().rstrip(".").strip()
    if cut:
        text = shortener.draw(caption, draws) or text
    words = content_words(text)
    if other and (drawn := paraphraser.draw(text, draws)) is not None:
        text = drawn[0]
    if wrapped and set(_words(text)[:1]) <= FUNCTION_WORDS:  # not what stands in a search box
        text = paraphraser.wrap(text, draws)
    return Rewording(text, words)


def _runs(caption: str, nouns: Collection[str] = ()) -> list[_Phrase]:
    """Runs of words between function words; "and" and commas go on with a run that no noun ends yet."""
    found: list[_Phrase] = []
    run: list[str] = []
    said_of: int | None = None
    before = ""

    def close(by: str) -> None:
        nonlocal said_of
        while run and run[-1] in _JOINS:
            run.pop()
        told = 0 < len(run) <= LONGEST
        if told:
            found.append(_Phrase(tuple(run), said_of))
        if told:
            said_of = len(found) - 1 if by in _IS else None
        elif by in _IS and before in _WHICH and found:
            said_of = len(found) - 1
        elif by not in _IS and by not in _ARTICLES:
            said_of = None
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
    if phrase.endswith("s"):
        return phrase
    return before_word("a ", phrase) + phrase


def _words(text: str, signs: bool = False) -> list[str]:
    return re.findall(r"[^\W_]+(?:[-'][^\W_]+)*" + (r"|[^\w\s]" if signs else ""), text.lower())
