"""Which texts are equal, and where a text is, by digests of 128 bits: a few bytes of memory for each text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["DigestIndex", "digest", "digests"]


def digest(text: str) -> bytes:
    """16 bytes that are different for different texts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def digests(texts: Iterable[str]) -> bytearray:
    """The digests of texts, one after another."""
    found = bytearray()
    for text in texts:
        found += digest(text)
    return found


class DigestIndex:
    """Finds the rows of a text among many; 24 bytes of memory for each row.

    Args:
        keys: their digests, 16 bytes a row.

    >>> index = DigestIndex(digests(["b", "a", "b", "c"]))
    >>> index.find("b").tolist(), index.find("d").tolist(), index.repeated().tolist()
    ([0, 2], [], [2])
    """

    def __init__(self, keys: bytes | bytearray) -> None:
        high, low = np.frombuffer(keys, np.uint64).reshape(-1, 2).T
        self.order: NDArray[np.int64] = np.lexsort((low, high))  # stable: equal ones stay in the order of the rows
        self._high, self._low = high[self.order], low[self.order]

    def find(self, text: str) -> NDArray[np.int64]:
        """The rows of this text, ascending."""
        high, low = np.frombuffer(digest(text), np.uint64)
        start, end = (int(np.searchsorted(self._high, high, side)) for side in ("left", "right"))
        return self.order[start:end][self._low[start:end] == low]

    def first(self) -> NDArray[np.bool_]:
        """(N,): for ``order``, whether the row is the first one of its text."""
        changes = np.ones(len(self.order), bool)
        changes[1:] = (self._high[1:] != self._high[:-1]) | (self._low[1:] != self._low[:-1])
        return changes

    def repeated(self) -> NDArray[np.int64]:
        """The rows whose text a row before them has, ascending."""
        return np.sort(self.order[~self.first()])
