"""Pairs of captions that differ in one colour word, for the colour-word test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stackgan.captions.articles import replaced
from stackgan.captions.lexicon import SHADES, SPELLINGS, colours_in
from stackgan.evaluation.colour_measure import COLOUR_ORDER

__all__ = ["ColourPair", "colour_pairs"]

# Parts whose colour covers only a few pixels.
_SMALL = frozenset(
    (
        "beak", "beaks", "bill", "bills", "billed", "mandible", "eye", "eyes", "eyed", "eyering", "eyerings",
        "eyebrow", "eyebrows", "pupil", "pupils", "iris", "leg", "legs", "foot", "feet", "tarsus", "tarsals",
        "claw", "claws", "toes", "talons", "tip", "tips", "lore", "lores", "malar", "stripe", "stripes",
        "spot", "spots", "spotted",
    )
)  # fmt: skip
# Modifiers of colour words that are not valid for every colour: no "light black".
_MODIFIERS = frozenset(
    ("light", "dark", "bright", "pale", "deep", "vivid", "dull", "jet", "pure", "tan", "teal", "rust", "cream")
) | frozenset(shade for shades in SHADES.values() for shade in shades)  # fmt: skip


@dataclass(frozen=True)
class ColourPair:
    """Captions that differ in one colour word.

    Attributes:
        caption: contains a word for ``old``, which is replaced by ``word`` in ``new_caption``.
        old, new: basic colours.
        word: the new word: ``new`` itself, or a shade of it.
    """

    caption: str
    new_caption: str
    old: str
    new: str
    word: str


def colour_pairs(
    captions: Sequence[str],
    count: int,
    seed: int,
    synonyms: bool = False,
    training_captions: Sequence[str] | None = None,
) -> list[ColourPair]:
    """Pairs of captions that differ in one colour word, balanced over ordered pairs of colours.

    A word is replaced if its colour is named once, is not part of a compound ("blue-gray"), and does not describe a
    bill, an eye or a leg; the new colour is not in the caption already. A caption is used repeatedly, with different
    colours, only if there are too few of a colour.

    Args:
        captions: to select from.
        count: maximum number of pairs; fewer if there are few captions.
        seed: of the selection.
        synonyms: use shade words (:data:`stackgan.captions.lexicon.SHADES`) that occur in no training caption instead
            of basic colour words.
        training_captions: needed with ``synonyms``.

    Raises:
        ValueError: a count below 1, synonyms without training captions, or fewer than two colours to select from.

    >>> texts = ["a small red bird.", "this is an orange bird with a black bill"]
    >>> [pair.new_caption for pair in colour_pairs(texts, 2, seed=0)]
    ['a small orange bird.', 'this is a red bird with a black bill']
    """
    if count < 1:
        raise ValueError(f"count is {count}: it must be 1 or more")
    words: Mapping[str, Sequence[str]] = {colour: (colour,) for colour in COLOUR_ORDER}
    if synonyms:
        if training_captions is None:
            raise ValueError("synonyms need training_captions, to select words that do not occur in them")
        known = {part for caption in set(training_captions) for part in re.findall(r"[a-z]+", caption.lower())}
        words = {colour: [shade for shade in shades if shade not in known] for colour, shades in SHADES.items()}
    draws = np.random.default_rng((seed, 0xC01))
    uses = _uses(captions, draws)
    colours = [colour for colour in COLOUR_ORDER if uses[colour] and words[colour]]
    if len(colours) < 2:
        raise ValueError(
            f"{len(captions)} captions name {len(colours)} basic colours that the colour-word test can change"
            f"{' to words that occur in no training caption' if synonyms else ''}: it needs 2 or more"
        )
    found: list[ColourPair] = []
    queues = {colour: _Queue(uses[colour]) for colour in colours}
    turn = 0
    while len(found) < count:
        before = len(found)
        both = [pair for one, other in combinations(colours, 2) for pair in [((one, other), (other, one))]]
        for place in draws.permutation(len(both)):
            for old, new in both[place]:
                use = queues[old].take(new)
                if use is not None:
                    word = words[new][turn % len(words[new])]
                    found.append(ColourPair(use.caption, replaced(use.caption, use.span, word), old, new, word))
        turn += 1
        if len(found) == before:
            break
    return found[:count]


@dataclass(frozen=True)
class _Use:
    """A colour word in a caption: its span, and all colours in the caption."""

    caption: str
    span: tuple[int, int]
    named: frozenset[str]


class _Queue:
    """Queue of the uses of one colour, least recently used first; no use is taken twice for the same new colour."""

    def __init__(self, uses: Sequence[_Use]) -> None:
        self.uses = list(uses)
        self.taken: list[set[str]] = [set() for _ in uses]
        self.next = 0

    def take(self, new: str) -> _Use | None:
        for step in range(len(self.uses)):
            place = (self.next + step) % len(self.uses)
            if new not in self.uses[place].named and new not in self.taken[place]:
                self.taken[place].add(new)
                self.next = place + 1
                return self.uses[place]
        return None


def _uses(captions: Sequence[str], draws: np.random.Generator) -> dict[str, list[_Use]]:
    """Replaceable uses of each basic colour, in random order; at most one per caption."""
    distinct = list(dict.fromkeys(captions))
    found: dict[str, list[_Use]] = {colour: [] for colour in COLOUR_ORDER}
    for row in draws.permutation(len(distinct)):
        options = _changeable(distinct[row])
        if options:
            rarest = min(options, key=lambda option: len(found[option[0]]))
            found[rarest[0]].append(rarest[1])
    return found


def _changeable(caption: str) -> list[tuple[str, _Use]]:
    tokens = [(m[0].lower(), m.span()) for m in re.finditer(r"[^\W_]+(?:[-'][^\W_]+)*|[^\w\s]", caption)]
    named = [colours_in(token) for token, _ in tokens]
    times = {colour: sum(colour in names for names in named) for colour in COLOUR_ORDER}
    every = frozenset(colour for colour in COLOUR_ORDER if times[colour])
    found = []
    for i, (token, span) in enumerate(tokens):
        colour = SPELLINGS.get(token)
        if colour is None or times[colour] != 1:
            continue
        beside = named[max(0, i - 1) : i] + named[i + 1 : i + 2]
        if any(beside) or (i and tokens[i - 1][0] in _MODIFIERS) or _small([t for t, _ in tokens], i):
            continue
        found.append((colour, _Use(caption, span, every)))
    return found


def _small(tokens: Sequence[str], place: int) -> bool:
    """Whether the colour at ``place`` describes a small part: "black eyes", "a bill that is orange"."""
    for token in tokens[place + 1 : place + 4]:
        if token in _SMALL or token.split("-")[-1] in _SMALL:
            return True
        if token in (",", ".", ";", "with", "has", "on"):
            break
    before = tokens[max(0, place - 6) : place]
    return any(token in _SMALL for token in before) and any(token in ("is", "are", "being") for token in before)
