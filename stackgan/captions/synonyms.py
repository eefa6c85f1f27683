"""Augmentation of captions with synonyms: a word replaced by one of the lexicon, the caption in a longer sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from stackgan.captions.articles import replaced
from stackgan.captions.lexicon import EXCLUSIVE, HELD_OUT, MEANINGS, SPELLINGS

__all__ = ["SynonymReplacer", "in_a_sentence"]

_EXCLUDED = {word: words for words in EXCLUSIVE for word in words}


class SynonymReplacer:
    """Replaces a word of a caption by a synonym, by the synonym's meaning, and by a word with another meaning.

    Args:
        meanings: synonyms and their meanings.
        held_out: synonyms that are not used.

    >>> SynonymReplacer({"azure": "bright blue"}).draw("A blue wing.", np.random.default_rng(0))
    ('An azure wing.', 'A bright blue wing.', 'A pink wing.')
    """

    def __init__(self, meanings: Mapping[str, str] = MEANINGS, held_out: Iterable[str] = HELD_OUT) -> None:
        banned = frozenset(held_out)
        self.words: dict[str, list[str]] = {}  # synonyms by meaning and by the last word of the meaning
        for word, meaning in meanings.items():
            if word not in banned:
                for key in {meaning, meaning.split()[-1]}:
                    self.words.setdefault(key, []).append(word)
        self.meanings = meanings
        keys = sorted({*self.words, "gray"}, key=len, reverse=True)
        self._find = re.compile(r"\b(?:" + "|".join(map(re.escape, keys)) + r")\b", re.IGNORECASE)

    def draw(self, caption: str, draws: np.random.Generator) -> tuple[str, str, str | None] | None:
        """The caption with one word replaced by a synonym, by the synonym's meaning, and by another meaning.

        The last is None for words without an exclusive one (``EXCLUSIVE``). Returns None if no word can be replaced.
        """
        places = list(self._find.finditer(caption))
        if not places:
            return None
        place = places[draws.integers(len(places))]
        found = SPELLINGS.get(place[0].lower(), place[0].lower())
        synonym = self.words[found][draws.integers(len(self.words[found]))]
        meaning = self.meanings[synonym]
        head = meaning.split()[-1]
        others = [word for word in _EXCLUDED.get(head, ()) if word != head]
        wrong = replaced(caption, place.span(), others[draws.integers(len(others))]) if others else None
        return replaced(caption, place.span(), synonym), replaced(caption, place.span(), meaning), wrong


# --- sentences around a caption -------------------------------------------------------------------------------

# Beginnings and ends of such sentences. {} is a noun phrase ("a red bird with white wings") or a sentence.
_AROUND_A_THING = (
    "i saw {}", "we saw {}", "look at {}", "there is {}", "there was {}", "here is {}", "a photo of {}",
    "a picture of {}", "a painting of {}", "an image of {}", "please draw {}", "draw me {}", "show me {}",
    "can you paint {}", "i would like {}", "i want to see {}", "imagine {}", "my grandmother loves {}",
    "yesterday we spotted {}", "once upon a time there lived {}", "my neighbour keeps {}", "she found {}",
    "he noticed {}", "the children drew {}", "it looks like {}", "think of {}", "what about {}", "maybe {}",
    "close-up of {}", "could this be {}", "they took a photograph of {}", "my favourite is {}",
)  # fmt: skip
_AROUND_A_SENTENCE = (
    "i think {}", "my friend says that {}", "note that {}", "as you can see, {}", "in this picture {}", "look, {}",
    "i remember that {}", "the book says {}", "it seems that {}", "yes, {}", "hello! {}", "well, {}", "you know, {}",
)  # fmt: skip
_AFTER = (
    "in the park", "on a branch", "sitting in a tree", "by the river", "near the lake", "at dawn", "last night",
    "today", "on my way to work", "in the forest", "while i was walking the dog", "behind our house",
    "next to the window", "and it was singing", "and then it flew away",
    "on the roof", "after the rain", "in the snow", "every summer",
    "which made me happy", "please", "if you can", "thank you", "with my camera", "on a sunny day", "at the zoo",
    "looking at me", "on the fence", "in high resolution", "for my sister", "eating seeds", "standing on the grass",
)  # fmt: skip


def in_a_sentence(caption: str, draws: np.random.Generator) -> str:
    """The caption inside a longer sentence: "i saw a red bird in the park"."""
    text = caption.strip().rstrip(".").strip()
    is_thing = re.match(r"(?i)an? ", text) and not re.search(r"(?i)\b(is|are|has|have)\b", text)
    forms = _AROUND_A_THING if is_thing else _AROUND_A_SENTENCE
    if draws.random() < 0.7:
        text = forms[draws.integers(len(forms))].format(text)
    if draws.random() < 0.6:
        text = f"{text} {_AFTER[draws.integers(len(_AFTER))]}"
    return text
