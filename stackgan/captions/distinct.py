"""Different captions among many, in a few bytes of memory each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stackgan.io.digests import DigestIndex, digests

__all__ = ["distinct_rows"]


def distinct_rows(texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the different texts, each where it occurs first, in order; and for every text its number among them.

    >>> first, number = distinct_rows(["b", "a", "b", "c", "a"])
    >>> first.tolist(), number.tolist()
    ([0, 1, 3], [0, 1, 0, 2, 1])
    """
    index = DigestIndex(digests(texts))
    changes = index.first()
    rows = index.order[changes]
    place = np.empty(len(rows), np.int64)
    place[np.argsort(rows)] = np.arange(len(rows))
    number = np.empty(len(index.order), np.int64)
    number[index.order] = place[np.cumsum(changes) - 1]
    return np.sort(rows), number
