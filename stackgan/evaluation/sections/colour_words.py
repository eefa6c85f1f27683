"""Colour-word test: effect of replacing one colour word of a caption on the image's colours.

Colours are measured without a network (:mod:`stackgan.evaluation.colour_measure`). For captions t_A, t_B that differ
in one colour word, and images x_A, x_B generated with the same seed,

    margin = [m_B(x_B) − m_A(x_B)] − [m_B(x_A) − m_A(x_A)]

with m_K(x) the share of colour K in the foreground. The metric is the share of pairs with a margin above 0, where a
margin of 0 counts half: 0.5 if the word has no effect. The control measures the same images with the words of other
pairs.
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
from stackgan.images.pixels import to_pil

__all__ = ["colour_word_figures", "pair_figures", "section"]

MOST = 500  # pairs of each kind
SHUFFLES = 20  # permutations for the control
BATCH = 24  # pairs generated together
SHOWN = 24  # pairs on a sheet
KINDS = {"words": "basic colour words", "synonyms": "shade words that occur in no training caption"}


def section(context: Context) -> Findings:
    """Colour-word test on captions of the split, with basic colour words and with shade words."""
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
        "foreground has more of the new colour relative to the old one than before, measured in CIELAB without a "
        "network. 50 %: the word has no effect. Other pairs' words: the same images, other words. Gained more than "
        "others: compared with every third colour; a word that only removes the old colour counts as moved, but has "
        "50 % here. ± one standard error for other pairs, which are independent: √(p (1 − p) / n).",
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
    """Generate the images of each pair of captions with one seed (seed, seed + 1, …) and measure colour changes.

    Args:
        captions: of the evaluated split.
        count: maximum number of pairs, with basic colours and with shade words each.
        training_captions: needed for shade words.
        quote: whether the sheets show the captions.

    Returns: figures under ``words`` and ``synonyms`` (:func:`pair_figures`; omitted without pairs), and sheets of the
    same names with the images of a pair side by side and the changed word below.
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
            continue  # captions without colours, or no shade word outside the training captions
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
    """Yield (number of the first pair, x_A, x_B) in batches."""
    for start in tqdm(range(0, len(pairs), BATCH), desc=f"generating {title}", unit="batch"):
        part = pairs[start : start + BATCH]
        seeds = list(range(seed + start, seed + start + len(part)))
        e = source.encode([*(pair.caption for pair in part), *(pair.new_caption for pair in part)])
        before, after = source.images(e, [*seeds, *seeds]).float().cpu().chunk(2)
        yield start, before, after


def pair_figures(measure: PairMeasure, names: Sequence[tuple[str, str]], seed: int = 0) -> dict[str, Any]:
    """Shares (0–1) of N pairs with colours ``names``, (old, new).

    ``moved``: margin above 0, ties half, with its standard ``error``; ``shuffled_control``: ``moved`` with the names
    of other pairs, mean of 20 permutations; ``whole_foreground``: the mean colour became closer to the new colour's
    prototypes; ``gained_over_others``: the new colour gained more than a third one, mean over all third ones
    (removing the old colour alone gives a margin above 0, but one half here); ``to``, ``from``: ``moved`` by new and
    by old colour.

    Raises:
        ValueError: there are no pairs, or not one pair of names for each pair of images.
    """
    count = measure.shares.shape[1]
    if not count or len(names) != count:
        raise ValueError(f"{count} pairs of images and {len(names)} of colour names: give one per pair, 1 or more")
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
