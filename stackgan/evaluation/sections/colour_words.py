"""The colour-word test: does changing one colour word of a caption move the image's colours to that colour?

No network is involved in the measure (:mod:`stackgan.evaluation.colour_measure`). For captions t_A, t_B that differ
in one word, A for B, whose images x_A, x_B are generated with the same seed,

    margin = [m_B(x_B) − m_A(x_B)] − [m_B(x_A) − m_A(x_A)]

with m_K(x) the share of the foreground that is of colour K. The test's figure is the share of pairs of margin above
0, a margin of exactly 0 counted half: images that ignore the word give one half. The control measures the same images
with the words of other pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stackgan.evaluation.colour_measure import COLOUR_ORDER, PairMeasure, distances_to_colours, measure_pairs
from stackgan.evaluation.colour_pairs import ColourPair, colour_pairs
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Sheet, Table, percent
from stackgan.evaluation.image_source import ImageSource
from stackgan.images.grid import caption_sheet
from stackgan.pipeline import to_pil

__all__ = ["colour_word_figures", "pair_figures", "section"]

MOST = 500  # pairs of each kind
SHUFFLES = 20  # permutations that the control is the mean of
BATCH = 24  # pairs generated at a time
SHOWN = 24  # pairs on a sheet
KINDS = {"words": "basic colour words", "synonyms": "shade words that no training caption holds"}


def section(context: Context) -> Findings:
    """The test on captions of the split, with basic colour words and with shade words."""
    context.require_text_encoder()
    train = context.prepared.splits.get("train")
    figures, sheets = colour_word_figures(
        context.source,
        context.split.captions,
        count=min(context.count, MOST),
        seed=context.settings.seed,
        training_captions=train.captions if train is not None else None,
        quote=not context.settings.hide_captions,
    )
    if not figures:
        raise NotMeasured("no caption of the split names a colour that can be changed")
    return Findings(
        figures=figures,
        protocol="Pairs of captions that differ in one colour word, generated with the same seed. Moved: the "
        "foreground has more of the new colour against the old one than before, measured in CIELAB without any "
        "network. 50 %: the word has no effect. Other pairs' words: the same images, other words. Gained more than "
        "others: against every third colour in turn; a word that only removes the old colour counts as moved and is "
        "at 50 % here.",
        tables=_tables(figures),
        headlines=[("colour words that move the colours", percent(f["moved"])) for f in [figures.get("words")] if f],
        sheets=[Sheet(f"colour-{name}", f"Before and after, {KINDS[name]}:", sheet) for name, sheet in sheets],
    )


def _tables(figures: dict[str, Any]) -> list[Table]:
    header = ("", "pairs", "moved to the new colour", "other pairs' words", "new colour gained more than others")
    rows = [
        (
            KINDS[name],
            str(f["pairs"]),
            f"{percent(f['moved'])} ± {percent(f['error'])}",
            percent(f["shuffled_control"]),
            percent(f["gained_over_others"]),
        )
        for name, f in figures.items()
    ]
    if "words" not in figures:
        return [Table(header, rows)]
    to, old = figures["words"]["to"], figures["words"]["from"]
    colours = [colour for colour in COLOUR_ORDER if colour in to or colour in old]
    by_colour = [
        (name, *(percent(shares.get(colour), 0) for colour in colours))
        for name, shares in (("to", to), ("from", old))
    ]
    return [Table(header, rows), Table(("", *colours), by_colour, title="basic colour words, moved, by colour")]


def colour_word_figures(
    source: ImageSource,
    captions: Sequence[str],
    *,
    count: int,
    seed: int,
    training_captions: Sequence[str] | None,
    quote: bool = True,
) -> tuple[dict[str, Any], list[tuple[str, Image.Image]]]:
    """Generate pairs of captions, both of a pair with one seed (seed, seed + 1, …), and measure how colours change.

    Args:
        captions: of the split that is measured.
        count: of pairs at most, once with basic colours, once with shade words.
        training_captions: without them there are no shade words.
        quote: whether the sheets show the captions.

    Returns: figures under ``words`` and ``synonyms`` (:func:`pair_figures`; absent where captions give no pairs), and
        sheets of the same names: the images of a pair side by side, the difference of their captions under them.
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
            continue  # captions without colours, or no shade word that is new to training
        measures, rows = [], []
        for start, before, after in _generated(source, pairs, seed, f"colour {name}"):
            measures.append(measure_pairs(before, after))
            for pair, *images in zip(pairs[start:SHOWN], to_pil(before), to_pil(after), strict=False):
                rows.append((f"{pair.old} > {pair.word}" + f": {pair.new_caption}" * quote, images))
        measure = PairMeasure(*(torch.cat([getattr(m, key) for m in measures], 1) for key in ("shares", "means")))
        figures[name] = pair_figures(measure, [(pair.old, pair.new) for pair in pairs], seed)
        if synonyms:
            figures[name]["shades"] = sorted({pair.word for pair in pairs})
        sheets.append((name, caption_sheet(rows, columns=4)))
    return figures, sheets


@torch.inference_mode()
def _generated(
    source: ImageSource, pairs: Sequence[ColourPair], seed: int, title: str
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(number of the first pair, x_A, x_B), some pairs at a time."""
    for start in tqdm(range(0, len(pairs), BATCH), desc=f"generating {title}", unit="batch"):
        part = pairs[start : start + BATCH]
        seeds = list(range(seed + start, seed + start + len(part)))
        e = source.encode([*(pair.caption for pair in part), *(pair.new_caption for pair in part)])
        before, after = source.images(e, [*seeds, *seeds]).float().cpu().chunk(2)
        yield start, before, after


def pair_figures(measure: PairMeasure, names: Sequence[tuple[str, str]], seed: int = 0) -> dict[str, Any]:
    """Shares (0–1) of N pairs, whose colours ``names`` gives as (old, new).

    ``moved``: margin above 0, ties half, with its standard ``error``; ``shuffled_control``: ``moved`` with the names
    of other pairs, the mean of 20 permutations; ``whole_foreground``: the mean colour came nearer to the new colour's
    prototypes; ``gained_over_others``: the new colour gained more than a third one, the mean over all third ones (a
    word without effect of its own only removes the old colour, which gives a margin above 0, and one half here);
    ``to``, ``from``: ``moved`` by new and by old colour.

    Raises:
        ValueError: no pair, or not one pair of names for each pair of images.
    """
    count = measure.shares.shape[1]
    if not count or len(names) != count:
        raise ValueError(f"{count} pairs of images and {len(names)} of colour names: give one a pair, 1 or more")
    old = np.array([COLOUR_ORDER.index(a) for a, _ in names])
    new = np.array([COLOUR_ORDER.index(b) for _, b in names])
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
        "to": {name: float(moved[new == k].mean()) for k, name in enumerate(COLOUR_ORDER) if (new == k).any()},
        "from": {name: float(moved[old == k].mean()) for k, name in enumerate(COLOUR_ORDER) if (old == k).any()},
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
    before, after = distances_to_colours(measure.means).numpy()[:, np.arange(len(new)), new]
    return (after < before) + 0.5 * (after == before)
