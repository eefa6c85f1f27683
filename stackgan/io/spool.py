"""Lists of strings and arrays on the disk instead of in memory: in temporary files without a name, memory-mapped.

They disappear with the process, however it ends. The system keeps their pages in its cache while there is room and
writes them out otherwise. The files are in Python's temporary folder, which the environment variable TMPDIR moves.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stackgan.io.lazy_sequence import LazySequence

__all__ = ["SelectedStrings", "StringSpool", "release", "spooled_array"]

BUFFER = 1 << 20  # bytes


class StringSpool(LazySequence[str]):
    """Strings that are appended and then read by number; eight bytes of memory each.

    >>> spool = StringSpool(["a red bird", "", "ein blauer Käfer"])
    >>> spool[2], spool[-1], len(spool), list(spool)[:2]
    ('ein blauer Käfer', 'ein blauer Käfer', 3, ['a red bird', ''])
    """

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="stackgan-", buffering=BUFFER)  # noqa: SIM115
        self._ends = array("q", [0])
        self._map: mmap.mmap | None = None
        for text in strings:
            self.append(text)

    def append(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        try:
            self._file.write(data)
        except OSError as error:
            raise _named(error) from None
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def item(self, number: int) -> str:
        start, end = self._ends[number], self._ends[number + 1]
        return self._bytes()[start:end].decode("utf-8", "surrogatepass") if end > start else ""

    def _bytes(self) -> mmap.mmap:
        if self._map is None or len(self._map) < self._ends[-1]:
            try:
                self._file.flush()
            except OSError as error:
                raise _named(error) from None
            self._map = mmap.mmap(self._file.fileno(), self._ends[-1], access=mmap.ACCESS_READ)
        return self._map


class SelectedStrings(LazySequence[str]):
    """The strings ``texts[rows[0]], texts[rows[1]], …`` without a copy of them.

    >>> list(SelectedStrings(["a", "b", "c"], np.array([2, 0, 2])))
    ['c', 'a', 'c']
    """

    def __init__(self, texts: Sequence[str], rows: NDArray[np.int64]) -> None:
        self.texts, self.rows = texts, rows

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, number: int) -> str:
        return self.texts[int(self.rows[number])]


def spooled_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A writable array of zeros on the disk, memory-mapped; one without elements is in memory.

    Raises:
        OSError: the disk is full; the space is reserved here, as a write through a map cannot report it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="stackgan-") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise _named(error) from None
        return np.memmap(file, dtype, "r+", shape=shape)


def release(mapped: NDArray[Any]) -> None:
    """Unmap the pages of a memory-mapped array that were used so far: they stay in the system's cache only.

    The array remains usable. Without effect on other arrays, and where the system has no ``madvise``.
    """
    pages = getattr(mapped, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _named(error: OSError) -> OSError:
    """The error with the folder in it, and what to do."""
    advice = f"{tempfile.gettempdir()}: {error.strerror}; free space there, or name another folder in TMPDIR"
    return OSError(error.errno, advice)
