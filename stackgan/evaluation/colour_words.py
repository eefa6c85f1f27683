"""The colour-word test: does changing one colour word of a caption move the picture's colours to that colour?

No network judges: the colours of the foreground are measured in CIELAB. For captions t_A, t_B that differ in one
word, A for B, painted with the same seed to x_A, x_B,

    margin = [m_B(x_B) − m_A(x_B)] − [m_B(x_A) − m_A(x_A)]

with m_K(x) the share of the foreground that is of colour K. The test's figure is the share of pairs of margin above
0, a margin of exactly 0 counted half: pictures that ignore the word give one half. The control measures the same
pictures with the words of other pairs.

Foreground, weights w of the pixels (no segmentation; a centred bird is assumed):

    w ∝ exp(−r² / 2 ρ²) · (1 − exp(−d² / 2 δ²))        r distance from the centre as a share of the side,
                                                      d the smallest CIELAB distance to a pixel of the border

For a pair both pictures are measured with the mean of their two weights, so that only colours can move a margin.

Colours: pixel p is of colour K by softmax over K of −(smallest distance of p to K's prototypes)² / 2 τ².
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import from_levels, to_pil
from stackgan.pipeline import StackGANPipeline

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "BASIC",
    "SHADES",
    "ColourPair",
    "PairMeasure",
    "colour_pairs",
    "colour_share",
    "colour_word_figures",
    "colours_named",
    "foreground",
    "measure_pairs",
    "pair_figures",
    "photos_told_apart",
    "to_lab",
]

SIDE = 32  # px at which pictures are measured; larger ones are averaged down
BORDER = 2  # px wide
CENTRE = 0.25  # ρ, a share of the side
DIFFERENT = 12.0  # δ, CIELAB units
SPREAD = 12.0  # τ, CIELAB units
SHUFFLES = 20  # permutations that the control is the mean of
BATCH = 24  # pairs painted at a time
CHUNK = 64  # pictures measured at a time
SHOWN = 24  # pairs on a sheet

# sRGB prototypes: a vivid and a dull one, as pictures of birds have them.
_PROTOTYPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((205, 30, 38), (150, 50, 45)),
    "orange": ((242, 124, 24), (205, 120, 60)),
    "yellow": ((248, 212, 40), (205, 180, 75)),
    "green": ((60, 145, 60), (100, 120, 60)),
    "blue": ((40, 96, 205), (85, 120, 165)),
    "purple": ((120, 58, 162), (100, 80, 130)),
    "pink": ((246, 150, 188), (215, 150, 155)),
    "brown": ((120, 74, 40), (115, 92, 70)),
    "black": ((24, 24, 30), (45, 43, 42)),
    "white": ((248, 247, 244), (222, 220, 212)),
    "grey": ((140, 142, 148), (112, 110, 108)),
}
BASIC: tuple[str, ...] = tuple(_PROTOTYPES)
"""The colours, in the order of all columns here."""

_SPELLINGS = {name: name for name in BASIC} | {"gray": "grey", "violet": "purple"}
_STEMS = {name: (name,) for name in BASIC} | {
    "grey": ("grey", "gray"), "purple": ("purpl", "violet", "lavender", "lilac", "mauve"), "blue": ("blu",),
    "white": ("whit",), "orange": ("orang",), "yellow": ("yellow", "golden"),
}  # fmt: skip

SHADES: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet", "ruby", "vermilion", "carmine", "garnet"),
    "orange": ("tangerine", "apricot", "amber", "pumpkin", "carrot", "marigold"),
    "yellow": ("golden", "lemon", "mustard", "saffron", "buttery", "lemony"),
    "green": ("emerald", "jade", "olive", "verdant", "shamrock", "malachite"),
    "blue": ("azure", "cobalt", "sapphire", "cerulean", "ultramarine", "navy"),
    "purple": ("lilac", "mauve", "plum", "amethyst", "aubergine", "mulberry"),
    "pink": ("rose", "fuchsia", "magenta", "carnation", "peony", "bubblegum"),
    "brown": ("chestnut", "chocolate", "mahogany", "umber", "walnut", "hazel"),
    "black": ("ebony", "onyx", "obsidian", "inky", "sable", "coal"),
    "white": ("ivory", "pearl", "snowy", "alabaster", "chalk", "pearly"),
    "grey": ("charcoal", "slate", "pewter", "ashen", "leaden", "silver"),
}
"""Words that stand for a basic colour; the test takes those that no training caption holds."""

# A colour of one of these is a few pixels at most, whatever the picture does.
_SMALL = frozenset(
    (
        "beak", "beaks", "bill", "bills", "billed", "mandible", "eye", "eyes", "eyed", "eyering", "eyerings",
        "eyebrow", "eyebrows", "pupil", "pupils", "iris", "leg", "legs", "foot", "feet", "tarsus", "tarsals",
        "claw", "claws", "toes", "talons", "tip", "tips", "lore", "lores", "malar", "stripe", "stripes",
        "spot", "spots", "spotted",
    )
)  # fmt: skip
# Before a colour word they make one colour with it, which another word may not have: no "light black".
_MODIFIERS = frozenset(
    ("light", "dark", "bright", "pale", "deep", "vivid", "dull", "jet", "pure", "tan", "teal", "rust", "cream")
) | frozenset(shade for shades in SHADES.values() for shade in shades)  # fmt: skip


@dataclass(frozen=True)
class ColourPair:
    """Captions that differ in one colour word.

    Attributes:
        caption: holds ``old``'s word; ``new_caption`` has ``word`` in its place.
        old, new: basic colours (of :data:`BASIC`).
        word: the new word: ``new`` itself, or a shade of it.
    """

    caption: str
    new_caption: str
    old: str
    new: str
    word: str


@dataclass(frozen=True)
class PairMeasure:
    """Pictures of N pairs, measured with the mean of both foregrounds.

    Attributes:
        shares: (2, N, 11) of x_A and x_B: how much of the foreground is of each basic colour.
        means: (2, N, 3) of x_A and x_B: mean CIELAB colour of the foreground.
    """

    shares: Tensor
    means: Tensor


# ------------------------------------------------------------------------------------------------- captions


def colour_pairs(
    captions: Sequence[str],
    count: int,
    seed: int,
    synonyms: bool = False,
    training_captions: Sequence[str] | None = None,
) -> list[ColourPair]:
    """Pairs of captions that differ in one colour word; every ordered pair of colours as often as any other.

    A word is taken where its colour is named once, not as part of a compound ("blue-gray") and of something larger
    than a bill, an eye or a leg; it never becomes a colour that the caption names already. A caption serves again,
    with another colour, only where a colour has too few.

    Args:
        captions: to choose from.
        count: of pairs at most; there are fewer where captions are few.
        seed: the same seed chooses the same pairs.
        synonyms: put a shade word (:data:`SHADES`) in place of the basic one, and only one that no training caption
            holds.
        training_captions: needed with ``synonyms``.

    Raises:
        ValueError: a count below 1, synonyms without training captions, fewer than two colours to choose from.

    >>> texts = ["a small red bird.", "this is an orange bird with a black bill"]
    >>> [pair.new_caption for pair in colour_pairs(texts, 2, seed=0)]
    ['a small orange bird.', 'this is a red bird with a black bill']
    """
    if count < 1:
        raise ValueError(f"count is {count}: ask for 1 pair of captions or more")
    words: Mapping[str, Sequence[str]] = {colour: (colour,) for colour in BASIC}
    if synonyms:
        if training_captions is None:
            raise ValueError("synonyms need training_captions, to choose words that none of them holds")
        known = {part for caption in set(training_captions) for part in re.findall(r"[a-z]+", caption.lower())}
        words = {colour: [shade for shade in shades if shade not in known] for colour, shades in SHADES.items()}
    draws = np.random.default_rng((seed, 0xC01))
    uses = _uses(captions, draws)
    colours = [colour for colour in BASIC if uses[colour] and words[colour]]
    if len(colours) < 2:
        raise ValueError(
            f"{len(captions)} captions name {len(colours)} basic colours that the colour-word test can change"
            f"{' to words that no training caption holds' if synonyms else ''}: it needs 2 or more"
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
                    found.append(ColourPair(use.caption, use.put(word), old, new, word))
        turn += 1
        if len(found) == before:
            break
    return found[:count]


@dataclass(frozen=True)
class _Use:
    """A colour word in a caption: where it stands, and all colours that the caption names."""

    caption: str
    span: tuple[int, int]
    named: frozenset[str]

    def put(self, word: str) -> str:
        before, after = self.caption[: self.span[0]], self.caption[self.span[1] :]
        article = r"\1n\2" if word[0] in "aeiou" else r"\1\2"
        return re.sub(r"\b([aA])n?(\s+)$", article, before) + word + after


class _Queue:
    """Uses of one colour, the one that waited longest first; no use twice for one new colour."""

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
    """Of each basic colour the uses that can be changed, in random order; at most one of each caption."""
    distinct = list(dict.fromkeys(captions))
    found: dict[str, list[_Use]] = {colour: [] for colour in BASIC}
    for row in draws.permutation(len(distinct)):
        options = _changeable(distinct[row])
        if options:
            rarest = min(options, key=lambda option: len(found[option[0]]))
            found[rarest[0]].append(rarest[1])
    return found


def _changeable(caption: str) -> list[tuple[str, _Use]]:
    tokens = [(m[0].lower(), m.span()) for m in re.finditer(r"[^\W_]+(?:[-'][^\W_]+)*|[^\w\s]", caption)]
    named = [colours_in(token) for token, _ in tokens]
    times = {colour: sum(colour in names for names in named) for colour in BASIC}
    every = frozenset(colour for colour in BASIC if times[colour])
    found = []
    for i, (token, span) in enumerate(tokens):
        colour = _SPELLINGS.get(token)
        if colour is None or times[colour] != 1:
            continue
        beside = named[max(0, i - 1) : i] + named[i + 1 : i + 2]
        if any(beside) or (i and tokens[i - 1][0] in _MODIFIERS) or _small([t for t, _ in tokens], i):
            continue
        found.append((colour, _Use(caption, span, every)))
    return found


@lru_cache(maxsize=65536)
def colours_in(token: str) -> frozenset[str]:
    """Basic colours that a word names: itself, "bluish", "blue-gray".

    >>> sorted(colours_in("yellowish-white")), sorted(colours_in("wing"))
    (['white', 'yellow'], [])
    """
    parts = re.split(r"[-']", token.lower())
    return frozenset(c for c, stems in _STEMS.items() if any(part.startswith(stems) for part in parts))


def colours_named(caption: str) -> list[str]:
    """Basic colours that a caption names, each once, in its order.

    >>> colours_named("a grayish bird with a black and white crown and white wings")
    ['grey', 'black', 'white']
    """
    tokens = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", caption)
    return list(dict.fromkeys(colour for token in tokens for colour in sorted(colours_in(token))))


def _small(tokens: Sequence[str], place: int) -> bool:
    """Whether the colour at ``place`` is that of a small part: "black eyes", "a bill that is orange"."""
    for token in tokens[place + 1 : place + 4]:
        if token in _SMALL or token.split("-")[-1] in _SMALL:
            return True
        if token in (",", ".", ";", "with", "has", "on"):
            break
    before = tokens[max(0, place - 6) : place]
    return any(token in _SMALL for token in before) and any(token in ("is", "are", "being") for token in before)


# -------------------------------------------------------------------------------------------------- measure


def to_lab(images: Tensor) -> Tensor:
    """sRGB pictures (N, 3, H, W) in [−1, 1] -> CIELAB (N, 3, H, W), white point D65 (IEC 61966-2-1, CIE 15).

    >>> [round(v) for v in to_lab(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)).flatten().tolist()]
    [53, 80, 67]
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images of shape {tuple(images.shape)}: give (N, 3, H, W) in [-1, 1]")
    rgb = ((images.float() + 1) / 2).clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = linear.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = torch.einsum("ij,njhw->nihw", matrix / matrix.sum(1, keepdim=True), linear)  # relative to white
    edge = 6 / 29
    f = torch.where(xyz > edge**3, xyz.clamp_min(1e-9) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def foreground(images: Tensor) -> Tensor:
    """Weights of the pixels (N, s, s), s = min(side, 32), of a sum of 1: near the centre and unlike the border."""
    return _foreground(to_lab(_small_enough(images)))


def _foreground(lab: Tensor) -> Tensor:
    count, _, side, _ = lab.shape
    axis = (torch.arange(side, device=lab.device) + 0.5) / side - 0.5
    centre = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * CENTRE**2))  # (s, s)
    blurred = F.avg_pool2d(F.pad(lab, (1, 1, 1, 1), mode="replicate"), 3, 1)  # no speckle is a border colour
    frame = torch.ones(side, side, dtype=torch.bool, device=lab.device)
    frame[BORDER:-BORDER, BORDER:-BORDER] = False
    border = blurred[:, :, frame].transpose(1, 2)  # (N, K, 3)
    apart = torch.cdist(blurred.flatten(2).transpose(1, 2), border).amin(2)  # (N, s²)
    unlike = 1 - torch.exp(-(apart**2) / (2 * DIFFERENT**2))
    weights = centre * (unlike.view(count, side, side) + 1e-3)  # never all 0
    return weights / weights.sum((1, 2), keepdim=True)


def colour_share(images: Tensor, weights: Tensor | None = None) -> Tensor:
    """How much of the foreground is of each basic colour: (N, 11), rows sum to 1, columns as in :data:`BASIC`.

    Args:
        images: (N, 3, s, s) in [−1, 1].
        weights: (N, s, s) in place of the pictures' own :func:`foreground`.
    """
    found = []
    for start in range(0, len(images), CHUNK):
        lab = to_lab(_small_enough(images[start : start + CHUNK]))
        found.append(_shares(lab, _foreground(lab) if weights is None else weights[start : start + CHUNK]))
    return torch.cat(found)


def _shares(lab: Tensor, weights: Tensor) -> Tensor:
    member = torch.softmax(-(_distances(lab.flatten(2).transpose(1, 2)) ** 2) / (2 * SPREAD**2), -1)  # (N, s², 11)
    return torch.einsum("np,npk->nk", weights.flatten(1), member)


def _distances(lab: Tensor) -> Tensor:
    """From CIELAB colours (N, P, 3) to the closest prototype of each basic colour, (N, P, 11)."""
    levels = torch.tensor([level for levels in _PROTOTYPES.values() for level in levels], device=lab.device)  # (K, 3)
    prototypes = to_lab(from_levels(levels.T[None, :, None]))[0, :, 0].T.to(lab.dtype)
    apart = torch.cdist(lab, prototypes.expand(len(lab), -1, -1))
    return torch.stack([part.amin(2) for part in apart.split([len(p) for p in _PROTOTYPES.values()], 2)], 2)


def measure_pairs(before: Tensor, after: Tensor) -> PairMeasure:
    """Measure x_A (N, 3, s, s) and x_B (N, 3, s, s), both in [−1, 1]."""
    if before.shape != after.shape:
        raise ValueError(f"pictures {tuple(before.shape)} and {tuple(after.shape)}: pairs must be of one shape")
    shares, means = [], []
    for start in range(0, len(before), CHUNK):
        labs = [to_lab(_small_enough(images[start : start + CHUNK])) for images in (before, after)]
        weights = (_foreground(labs[0]) + _foreground(labs[1])) / 2
        shares.append(torch.stack([_shares(lab, weights) for lab in labs]))
        means.append(torch.stack([torch.einsum("nhw,nchw->nc", weights, lab) for lab in labs]))
    return PairMeasure(torch.cat(shares, 1).double().cpu(), torch.cat(means, 1).double().cpu())


def _small_enough(images: Tensor) -> Tensor:
    return F.interpolate(images.float(), (SIDE, SIDE), mode="area") if images.shape[-1] > SIDE else images.float()


# -------------------------------------------------------------------------------------------------- figures


def pair_figures(measure: PairMeasure, names: Sequence[tuple[str, str]], seed: int = 0) -> dict[str, Any]:
    """Shares (0–1) of N pairs, whose colours ``names`` gives as (old, new).

    ``moved``: margin above 0, ties half, with its standard ``error``; ``shuffled_control``: ``moved`` with the names
    of other pairs, the mean of 20 permutations; ``whole_foreground``: the mean colour came nearer to the new colour's
    prototypes; ``gained_over_others``: the new colour gained more than a third one, the mean over all third ones (a
    word that is not understood takes the old colour away, which moves the margin, and gives one half here); ``to``,
    ``from``: ``moved`` by new and by old colour.

    Raises:
        ValueError: no pair, or not one pair of names a pair of pictures.
    """
    count = measure.shares.shape[1]
    if not count or len(names) != count:
        raise ValueError(f"{count} pairs of pictures and {len(names)} of colour names: give one a pair, 1 or more")
    old = np.array([BASIC.index(a) for a, _ in names])
    new = np.array([BASIC.index(b) for _, b in names])
    moved = _moved(measure, old, new)
    draws = np.random.default_rng((seed, 0xC02))
    orders = [draws.permutation(count) for _ in range(SHUFFLES)]
    share = float(moved.mean())
    return {
        "pairs": count,
        "moved": share,
        "error": math.sqrt(share * (1 - share) / count),
        "shuffled_control": float(np.mean([_moved(measure, old[order], new[order]).mean() for order in orders])),
        "whole_foreground": float(_nearer(measure, new).mean()),
        "gained_over_others": float(_gained(measure, old, new).mean()),
        "to": {BASIC[k]: float(moved[new == k].mean()) for k in range(len(BASIC)) if (new == k).any()},
        "from": {BASIC[k]: float(moved[old == k].mean()) for k in range(len(BASIC)) if (old == k).any()},
    }


def _moved(measure: PairMeasure, old: NDArray[np.int64], new: NDArray[np.int64]) -> NDArray[np.float64]:
    rows = np.arange(len(old))
    before, after = measure.shares.numpy()
    margin = (after[rows, new] - after[rows, old]) - (before[rows, new] - before[rows, old])
    return (margin > 0) + 0.5 * (margin == 0)


def _gained(measure: PairMeasure, old: NDArray[np.int64], new: NDArray[np.int64]) -> NDArray[np.float64]:
    rows = np.arange(len(old))
    before, after = measure.shares.numpy()
    gains = after - before  # (N, 11)
    own = gains[rows, new][:, None]
    points = (own > gains) + 0.5 * (own == gains)
    third = np.ones_like(points)
    third[rows, old] = third[rows, new] = 0
    return (points * third).sum(1) / third.sum(1)


def _nearer(measure: PairMeasure, new: NDArray[np.int64]) -> NDArray[np.float64]:
    before, after = _distances(measure.means).numpy()[:, np.arange(len(new)), new]
    return (after < before) + 0.5 * (after == before)


def colour_word_figures(
    pipe: StackGANPipeline,
    captions: Sequence[str],
    *,
    count: int,
    seed: int,
    training_captions: Sequence[str] | None,
    quote: bool = True,
    truncation: float = 1.0,
) -> tuple[dict[str, Any], list[tuple[str, Image.Image]]]:
    """Paint pairs of captions, both of a pair with one seed (seed, seed + 1, …), and measure where colours move.

    Args:
        captions: of the split that is measured.
        count: of pairs at most, once of basic colours, once of shade words.
        training_captions: without them there are no shade words.
        quote: whether the sheets show the captions.
        truncation: of all pictures.

    Returns: figures under ``words`` and ``synonyms`` (:func:`pair_figures`; absent where captions give no pairs), and
        sheets named alike: the pictures of a pair side by side, both captions' difference under them.
    """
    figures: dict[str, Any] = {}
    sheets: list[tuple[str, Image.Image]] = []
    for name, synonyms in (("words", False), ("synonyms", True)):
        if synonyms and training_captions is None:
            continue
        try:
            pairs = colour_pairs(captions, count, seed, synonyms, training_captions)
        except ValueError:
            if count < 1:
                raise
            continue  # captions without colours, or no shade word that training did not have
        measures, rows = [], []
        for start, before, after in _painted(pipe, pairs, seed, truncation, f"colour {name}"):
            measures.append(measure_pairs(before, after))
            for pair, *pictures in zip(pairs[start:SHOWN], to_pil(before), to_pil(after), strict=False):
                rows.append((f"{pair.old} > {pair.word}" + f": {pair.new_caption}" * quote, pictures))
        measure = PairMeasure(*(torch.cat([getattr(m, key) for m in measures], 1) for key in ("shares", "means")))
        figures[name] = pair_figures(measure, [(pair.old, pair.new) for pair in pairs], seed)
        if synonyms:
            figures[name]["shades"] = sorted({pair.word for pair in pairs})
        sheets.append((name, caption_sheet(rows, columns=4)))
    return figures, sheets


@torch.inference_mode()
def _painted(
    pipe: StackGANPipeline, pairs: Sequence[ColourPair], seed: int, truncation: float, title: str
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(number of the first pair, x_A, x_B), some pairs at a time."""
    for start in tqdm(range(0, len(pairs), BATCH), desc=f"painting {title}", unit="batch"):
        part = pairs[start : start + BATCH]
        seeds = list(range(seed + start, seed + start + len(part)))
        e = pipe.encode([*(pair.caption for pair in part), *(pair.new_caption for pair in part)])
        before, after = pipe.paint(e, [*seeds, *seeds], truncation)[-1].float().cpu().chunk(2)
        yield start, before, after


def photos_told_apart(
    images: Tensor, captions: Sequence[Sequence[str]], count: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """How well the measure tells real photos apart by colours that their captions name: what it can see at all.

    For colours A, B: a photo that three captions or more give A and none B, another the other way round; the share
    of such pairs whose margin is above 0, every two colours as often as any others. Each photo has its own
    foreground here.

    Args:
        images: (N, 3, s, s) in [−1, 1].
        captions: of each photo.

    Returns: ``pairs``, ``told_apart``, and ``colours``, the share by colour; empty where no two colours can be told.
    """
    times = np.zeros((len(captions), len(BASIC)))
    for row, texts in enumerate(captions):
        for text in texts:
            times[row, [BASIC.index(colour) for colour in colours_named(text)]] += 1
    shares = colour_share(images).double().cpu().numpy()
    draws = np.random.default_rng((seed, 0xC03))
    groups = []
    for a, b in combinations(range(len(BASIC)), 2):
        one = np.flatnonzero((times[:, a] >= 3) & (times[:, b] == 0))
        other = np.flatnonzero((times[:, b] >= 3) & (times[:, a] == 0))
        if len(one) and len(other):
            groups.append((a, b, one, other))
    if not groups:
        return {}
    each = max(1, count // len(groups))
    right: dict[int, list[float]] = {k: [] for k in range(len(BASIC))}
    for a, b, one, other in groups:
        p, q = draws.choice(one, each), draws.choice(other, each)
        margin = (shares[p, a] - shares[p, b]) - (shares[q, a] - shares[q, b])
        told = ((margin > 0) + 0.5 * (margin == 0)).tolist()
        right[a] += told
        right[b] += told
    every = [value for values in right.values() for value in values]
    return {
        "pairs": len(every) // 2,
        "told_apart": float(np.mean(every)),
        "colours": {BASIC[k]: float(np.mean(values)) for k, values in right.items() if values},
    }
