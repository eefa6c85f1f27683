"""Selection of the captions of a split to generate images for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.painted import caption_colours
from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.attribute_classifier import PARTS

__all__ = ["caption_rows", "full_caption_rows", "spread_rows"]


def caption_rows(split: PreparedSplit, count: int) -> NDArray[np.int64]:
    """Rows of ``count`` captions in ``split.captions``: every image's first, then every image's second, …

    If there are fewer captions, they are repeated from the start, for other seeds.

    Raises:
        ValueError: the split has none.
    """
    counts = np.diff(split.offsets)
    if not counts.any():
        raise ValueError(f"{split.path}: has no captions to generate images for")
    order = [split.offsets[:-1][counts > turn] + turn for turn in range(int(counts.max()))]
    return np.resize(np.concatenate(order), count)


def full_caption_rows(split: PreparedSplit, count: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Rows of ``count`` captions of painted birds that name crown, breast and wing, and the colours named (count, 3).

    One caption per bird in order, then the next of each bird; if there are fewer, they are repeated from the start.

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


def spread_rows(total: int, count: int) -> NDArray[np.int64]:
    """``count`` rows evenly spaced in ``total``, starting from 0; at most ``total``.

    >>> spread_rows(10, 4).tolist()
    [0, 2, 5, 7]
    """
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)
