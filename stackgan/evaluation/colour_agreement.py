"""Do named colours arrive where they belong? Painted birds, whose truth is known, read by a colour reader."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from data_prep.painted import caption_colours, held_out_combinations, painting_of
from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.attribute_classifier import PARTS, SIDE, PaintedReader, Reading, true_reading
from stackgan.evaluation.image_sets import Photos, PictureSet

__all__ = ["ColourAgreement", "chance", "colour_agreement", "full_caption_rows", "read_pictures", "read_real"]


@dataclass(frozen=True)
class ColourAgreement:
    """Shares (0–1) of named colours that the reader finds on the pictures.

    ``named``: of all named colours of crown, breast and wing; ``all_three``: of pictures with all three right;
    ``held_out``: of the colours that make up a combination of two parts that training never showed; ``parts``: one
    share a part.
    """

    pictures: int
    named: float
    all_three: float
    held_out: float | None
    parts: dict[str, float]


def colour_agreement(found: NDArray[np.str_], named: NDArray[np.str_]) -> ColourAgreement:
    """Compare colours read (N, 3) with colours named (N, 3), columns crown, breast, wing.

    >>> a = colour_agreement(np.array([["red", "white", "black"]]), np.array([["red", "blue", "black"]]))
    >>> round(a.named, 3), a.all_three, a.parts["breast"]
    (0.667, 0.0, 0.0)
    """
    if found.shape != named.shape or found.ndim != 2 or found.shape[1] != len(PARTS) or not len(found):
        raise ValueError(f"colours read {found.shape} and named {named.shape} must both be (N, {len(PARTS)}), N > 0")
    right = found == named
    unseen = np.zeros_like(right)
    for i, row in enumerate(named):
        for combination in held_out_combinations(dict(zip(PARTS, row.tolist(), strict=True))):
            unseen[i, [PARTS.index(part) for part, _ in combination]] = True
    return ColourAgreement(
        pictures=len(named),
        named=float(right.mean()),
        all_three=float(right.all(1).mean()),
        held_out=float(right[unseen].mean()) if unseen.any() else None,
        parts={part: float(right[:, i].mean()) for i, part in enumerate(PARTS)},
    )


def full_caption_rows(split: PreparedSplit, count: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Places of ``count`` captions that name crown, breast and wing, and the colours named (count, 3).

    One a bird in order, then each bird's next; where all are used up they come again from the start.

    Raises:
        ValueError: the split has none.
    """
    named = [caption_colours(caption) for caption in split.captions]
    turns: list[list[int]] = []
    for first, last in zip(split.offsets, split.offsets[1:], strict=False):
        for turn, row in enumerate(row for row in range(first, last) if len(named[row]) == len(PARTS)):
            turns += [[]] if turn == len(turns) else []
            turns[turn].append(row)
    rows = np.array([row for turn in turns for row in turn], dtype=np.int64)
    if not len(rows):
        raise ValueError(f"{split.path}: no caption names crown, breast and wing")
    rows = np.resize(rows, count)
    return rows, np.array([[named[row][part] for part in PARTS] for row in rows.tolist()])


def read_pictures(reader: PaintedReader, pictures: PictureSet) -> Reading:
    """What birds all pictures of a set show."""
    chunks = pictures.chunks("reading colours")
    return Reading.join([reader.read(F.interpolate(chunk, (SIDE, SIDE), mode="area")) for chunk in chunks])


def read_real(reader: PaintedReader, photos: Photos) -> dict[str, Any]:
    """How well the reader reads a split's own pictures, whose truth is known: colours, then the scene."""
    truth = true_reading([painting_of(record.parameters) for record in photos.split.records])
    found = read_pictures(reader, photos)
    return {**asdict(colour_agreement(found.colours, truth.colours)), **found.scene_like(truth)}


def chance(named: NDArray[np.str_]) -> float:
    """The share of agreement expected between two independent rows: the sum over colours of squared frequency."""
    total = 0.0
    for column in named.T:
        _, counts = np.unique(column, return_counts=True)
        total += float(((counts / len(column)) ** 2).sum())
    return total / named.shape[1]
