"""Captions of painted birds in CUB's style, and the colours in such captions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from data_prep.painted_parameters import BirdParameters
from stackgan.captions.articles import replaced, with_article
from stackgan.captions.lexicon import SPELLINGS

CAPTIONS_PER_BIRD = 10
FULL_CAPTIONS = 6  # number of the ten captions that name the colours of crown, breast and wings

_WORDS = {
    "crown": ("crown", "crown", "crown", "head", "cap"),
    "breast": ("breast", "breast", "belly", "belly", "chest", "front"),
    "wing": ("wings", "wings", "wings", "wing feathers"),
    "tail": ("tail", "tail", "tail feathers"),
    "beak": ("beak", "beak", "bill"),
}
_SIZES = {
    "small": ("small", "small", "small", "little", "tiny"),
    "medium": ("medium sized", "medium-sized", "mid-sized"),
    "large": ("large", "large", "big"),
}
_BEAKS = {
    "short pointed": ("short pointed", "short", "small pointed", "short and pointed"),
    "long pointed": ("long pointed", "long", "long straight", "long and pointed"),
    "short hooked": ("short hooked", "hooked", "small hooked"),
    "long hooked": ("long hooked", "hooked", "long and hooked"),
    "curved": ("curved", "long curved", "long curved"),
    "conical": ("stubby", "conical", "short thick", "short conical"),
}
_TAILS = {"short": ("short",), "long": ("long",), "forked": ("forked",), "fan": ("fan-shaped", "fanned")}
_SPOKEN = {"grey": ("grey", "gray"), "purple": ("purple", "purple", "purple", "violet")}


class _Describer:
    """Random phrases that describe one bird correctly."""

    def __init__(self, bird: BirdParameters, rng: np.random.Generator) -> None:
        self.p = bird
        self.rng = rng

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def colour(self, part: str) -> str:
        name: str = getattr(self.p, part).colour
        return self.one(_SPOKEN.get(name, (name,)))

    def size(self) -> str:
        return self.one(_SIZES[self.p.size])

    def beak(self) -> str:
        words = [self.one(_BEAKS[self.p.beak_shape])]
        if self.chance(0.3):
            words.append(self.colour("beak"))
        words.append(self.one(_WORDS["beak"]))
        return with_article(" ".join(words))

    def tail(self) -> str:
        kind = self.rng.integers(3)
        noun = self.one(_WORDS["tail"])
        words = [self.one(_TAILS[self.p.tail_shape])] if kind != 1 else []
        if kind != 0:
            words.append(self.colour("tail"))
        phrase = " ".join([*words, noun])
        return phrase if noun.endswith("feathers") else with_article(phrase)

    def part(self, part: str) -> str:
        """ "a blue crown", "black wings"."""
        phrase = f"{self.colour(part)} {self.one(_WORDS[part])}"
        return phrase if part == "wing" else with_article(phrase)

    def parts(self, parts: Sequence[str]) -> str:
        """The parts in any order; two of one colour may share the colour word: "a blue crown and breast"."""
        order = [parts[i] for i in self.rng.permutation(len(parts))]
        phrases: list[str] = []
        while order:
            first = order.pop(0)
            same = [x for x in order if getattr(self.p, x).colour == getattr(self.p, first).colour]
            if same and self.chance(0.5):
                second = same[0]
                order.remove(second)
                nouns = f"{self.one(_WORDS[first])} and {self.one(_WORDS[second])}"
                phrase = f"{self.colour(first)} {nouns}"
                phrases.append(phrase if first == "wing" else with_article(phrase))
            else:
                phrases.append(self.part(first))
        return self.join(phrases)

    def join(self, phrases: Sequence[str]) -> str:
        if len(phrases) == 1:
            return phrases[0]
        if len(phrases) == 2:
            return f"{phrases[0]} and {phrases[1]}"
        comma = "," if self.chance(0.5) else ""
        return f"{', '.join(phrases[:-1])}{comma} and {phrases[-1]}"

    def clauses(self, parts: Sequence[str]) -> str:
        """ "the crown is blue, the breast is white and its wings are black"."""
        order = [parts[i] for i in self.rng.permutation(len(parts))]
        phrases = []
        for i, part in enumerate(order):
            noun = self.one(_WORDS[part])
            if part == "crown" and self.chance(0.2):
                noun = "top of the head"
            owner = "its" if i or self.chance(0.3) else "the"
            whose = f" of {self.one(('this', 'the'))} bird" if not i and owner == "the" else ""
            phrases.append(f"{owner} {noun}{whose} {'are' if part == 'wing' else 'is'} {self.colour(part)}")
        return self.join(phrases)

    def place(self) -> str:
        p = self.p
        if p.background == "sky":
            options = ["sitting on a wire", "perched on a wire", "in front of the sky"]
            options.append("on a wire against the sky")
        elif p.background == "branch":
            options = ["perched on a branch", "sitting on a branch", "on a branch", "among the leaves"]
        elif p.pose == "swimming":
            options = ["swimming on the water", "floating on the water", "on the water", "swimming in a lake"]
        elif p.pose == "wading":
            options = ["standing in the water", "by the water", "wading in shallow water"]
        else:
            options = ["standing in the grass", "on the ground", "in a meadow", "in the grass"]
        if p.pose == "pecking":
            options.append("leaning forward")
        if p.pose == "upright":
            options.append("sitting upright")
        return self.one(options)

    def opening(self) -> str:
        return self.one(("this is", "this is", "there is", "a picture of", "")).strip()

    def sentence(self, subject: str, rest: str) -> str:
        """ "this is a small bird with …", with or without the opening."""
        return f"{self.opening()} {with_article(subject)} {rest}".strip()


def _odd(p: BirdParameters) -> list[str]:
    """The parts whose colour differs from that in "a COLOUR bird"."""
    return [part for part in ("crown", "breast") if getattr(p, part).colour != p.body.colour]


def _plain(p: BirdParameters) -> bool:
    return all(getattr(p, x).colour == p.body.colour for x in ("crown", "breast", "wing", "tail"))


def _full(s: _Describer) -> str:
    """A caption that determines the colours of crown, breast and wings."""
    p = s.p
    three = ["crown", "breast", "wing"]
    odd = _odd(p)
    if _plain(p) and s.chance(0.5):
        red = s.colour("body")
        return s.one((
            f"this bird is all {red}",
            f"{s.opening()} {with_article(f'{s.size()} all {red} bird')}".strip(),
            f"this is a {s.size()} bird that is completely {red}",
            f"this {s.size()} bird is all {red} with {s.beak()}",
            f"this bird is {red} all over and has {s.beak()}",
            f"an all {red} bird with {s.beak()} {s.place()}",
        ))  # fmt: skip
    if len(odd) < 2 and s.chance(0.75 if not odd else 0.5):  # "a small red bird with black wings"
        named = [*odd, "wing"]
        red = s.colour("body")
        extra = s.one(("", "", "beak", "tail", "place"))
        phrase = s.parts(named) if extra not in ("beak", "tail") else ""
        if extra == "beak":
            phrase = s.join([s.part(x) for x in named] + [s.beak()])
        elif extra == "tail":
            phrase = s.join([s.part(x) for x in named] + [s.tail()])
        elif extra == "place":
            phrase = f"{phrase} {s.place()}"
        size = f"{s.size()} " if s.chance(0.6) else ""
        return s.one((
            f"{s.sentence(f'{size}{red} bird', f'with {phrase}')}",
            f"{with_article(f'{size}{red} bird')} with {phrase}",
            f"{with_article(f'{size}{red} bird')} that has {phrase}",
            f"this {size}bird is {red} with {phrase}",
            f"this {size}{red} bird has {phrase}",
        ))  # fmt: skip
    form = s.rng.integers(8)
    size = f"{s.size()} " if s.chance(0.55) else ""
    body = f"{s.colour('body')} " if s.chance(0.35) else ""
    if form == 0:
        return f"the bird has {s.parts(three)}"
    if form == 1:
        return s.sentence(f"{size}{body}bird", f"with {s.parts(three)}")
    if form == 2:
        return s.clauses(three)
    if form == 3:
        items = [s.part(x) for x in three] + [s.beak() if s.chance(0.6) else s.tail()]
        items = [items[i] for i in s.rng.permutation(4)]
        return s.sentence(f"{size}{body}bird", f"with {s.join(items)}")
    if form == 4:
        return f"this {size}{body}bird has {s.parts(three)} and is {s.place()}"
    if form == 5:
        return s.sentence(f"{size}{body}bird {s.place()}", f"with {s.parts(three)}")
    if form == 6:
        pair = [three[i] for i in s.rng.permutation(3)]
        one, two = pair[:2], pair[2]
        verb = "are" if two == "wing" else "is"
        return f"this {size}bird has {s.parts(one)}, and its {s.one(_WORDS[two])} {verb} {s.colour(two)}"
    return f"{with_article(f'{size}{body}bird')} that has {s.parts(three)}"


def _some(s: _Describer) -> str:
    """A caption with less information: one or two parts, size, beak, tail, place."""
    p = s.p
    three = ["crown", "breast", "wing"]
    chosen = [three[i] for i in s.rng.permutation(3)[: int(s.rng.integers(1, 3))]]
    form = s.rng.integers(7)
    size = f"{s.size()} "
    if form == 0:
        return s.sentence(f"{size}bird", f"with {s.join([*map(s.part, chosen), s.beak()])}")
    if form == 1:
        return f"the bird has {s.beak()} and {s.parts(chosen)}"
    if form == 2:
        return s.sentence(f"{size}bird", f"{s.place()} with {s.parts(chosen)}")
    if form == 3:
        return f"this bird has {s.join([*map(s.part, chosen), s.tail()])}"
    if form == 4:
        return f"{s.clauses(chosen)}, and it has {s.beak()}"
    if form == 5 and not _odd(p):
        subject = f"{size}{s.colour('body')} bird"
        return s.sentence(subject, s.one((f"with {s.beak()}", s.place(), f"with {s.tail()}")))
    return s.sentence(f"{size}bird", f"with {s.beak()} and {s.tail()}")


def captions(bird: BirdParameters, rng: np.random.Generator) -> tuple[str, ...]:
    """Ten different captions of the bird; six of them determine the colours of crown, breast and wings."""
    s = _Describer(bird, rng)
    lines: list[str] = []
    for make, count in ((_full, FULL_CAPTIONS), (_some, CAPTIONS_PER_BIRD)):
        while len(lines) < count:
            line = make(s).replace("  ", " ")
            if line not in lines:
                lines.append(line)
    return tuple(lines[i] + ("." if s.chance(0.5) else "") for i in rng.permutation(len(lines)))


_COLOUR = "|".join(SPELLINGS)
_PART_OF = {
    "top of the head": "crown", "top of its head": "crown", "crown": "crown", "head": "crown", "cap": "crown",
    "breast": "breast", "belly": "breast", "chest": "breast", "front": "breast",
    "wing feathers": "wing", "wings": "wing", "wing": "wing",
}  # fmt: skip
_PART = "|".join(_PART_OF)
_ADJECTIVE_FIRST = re.compile(rf"\b({_COLOUR}) ({_PART})\b(?: and ({_PART})\b)?")
_CLAUSE = re.compile(rf"\b({_PART})(?: of (?:this|the) bird)? (?:is|are) ({_COLOUR})\b")
_BIRD = re.compile(rf"\b(all |completely )?({_COLOUR}) bird\b")
_BIRD_IS = re.compile(rf"(?<!of the )(?<!of this )\bbird (?:that )?is (all |completely )?({_COLOUR})\b( all over)?")


def caption_colours(caption: str) -> dict[str, str]:
    """The colours of crown, breast and wing that are determined by a caption of this grammar.

    "A red bird" determines body, crown and breast, "an all red bird" also the wings, unless the caption names them
    separately. Spelling is normalised: gray is grey, violet is purple.

    >>> caption_colours("a small red bird with black wings.")
    {'crown': 'red', 'breast': 'red', 'wing': 'black'}
    >>> caption_colours("the bird has a blue crown and gray wing feathers")
    {'crown': 'blue', 'wing': 'grey'}
    """
    text = " ".join(caption.lower().split())
    found: dict[str, str] = {}
    for match in _ADJECTIVE_FIRST.finditer(text):
        for part in match.group(2), match.group(3):
            if part:
                found[_PART_OF[part]] = match.group(1)
    for match in _CLAUSE.finditer(text):
        found[_PART_OF[match.group(1)]] = match.group(2)
    for pattern in _BIRD, _BIRD_IS:
        for match in pattern.finditer(text):
            entire = bool(match.group(1)) or (pattern is _BIRD_IS and bool(match.group(3)))
            for part in ("crown", "breast", "wing") if entire else ("crown", "breast"):
                found.setdefault(part, match.group(2))
    named = {part: found[part] for part in ("crown", "breast", "wing") if part in found}
    return {part: SPELLINGS[colour] for part, colour in named.items()}


def recoloured(caption: str, part: str, colour: str) -> str | None:
    """The caption with one colour word replaced, which changes the colour of ``part`` and of no other part.

    None if there is no such word.

    >>> recoloured("a small red bird with black wings.", "wing", "yellow")
    'a small red bird with yellow wings.'
    >>> recoloured("a small red bird with black wings.", "crown", "yellow")
    >>> recoloured("this bird has a black crown", "crown", "orange")
    'this bird has an orange crown'
    """
    wanted = caption_colours(caption) | {part: colour}
    for match in re.finditer(rf"\b(?:{_COLOUR})\b", caption, re.IGNORECASE):
        changed = replaced(caption, match.span(), colour)
        if caption_colours(changed) == wanted and changed != caption:
            return changed
    return None
