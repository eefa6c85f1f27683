"""Different captions among many, in a few bytes of memory each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct_rows"]


def distinct_rows(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the different texts, each where it occurs first, in order; and for every text its number among them.

    Texts are compared by digests of 128 bits.

    >>> first, number = distinct_rows(["b", "a", "b", "c", "a"])
    >>> first.tolist(), number.tolist()
    ([0, 1, 3], [0, 1, 0, 2, 1])
    """
    digests = bytearray()
    for text in texts:
        digests += hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    high, low = np.frombuffer(digests, np.uint64).reshape(-1, 2).T
    order = np.lexsort((low, high))  # stable: equal digests stay in the order of the texts
    changes = np.ones(len(order), bool)
    changes[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    rows = order[changes]  # the first occurrence in each run of equal digests
    place = np.empty(len(rows), np.int64)
    place[np.argsort(rows)] = np.arange(len(rows))
    number = np.empty(len(order), np.int64)
    number[order] = place[np.cumsum(changes) - 1]
    return np.sort(rows), number
