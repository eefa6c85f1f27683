"""Records and captions of a prepared split, read from the memory-mapped captions.jsonl where they are used."""

from __future__ import annotations

import hashlib
import mmap
import operator
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from stackgan.data.format import Record, parse_record

__all__ = ["Captions", "ImageCaptions", "Records"]


class Records(Sequence[Record]):
    """Records of a captions.jsonl; 24 bytes of memory each.

    All lines are read and checked at the start, and each again where it is used.

    Args:
        facts: of the split in dataset.json: digest and counts.

    Attributes:
        offsets: (N + 1,) int64; the captions of record i are captions offsets[i]:offsets[i + 1] of the file.
        species: (N,) int64; equal for equal species, and different for all records without a species.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged or inconsistent.
    """

    def __init__(self, file: Path, facts: Mapping[str, Any]) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: missing; prepare the folder again")
        self.file = file
        ends, offsets, species = array("q", [0]), array("q", [0]), array("q")
        numbers: dict[str, int] = {}
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != facts["captions_sha256"]:
                raise ValueError(f"{file}: changed or truncated since it was written (digest differs); prepare again")
            stream.seek(0)
            # by LF alone: a caption may contain line separators such as U+2028
            for number, line in enumerate(stream, 1):
                record = parse_record(line, f"{file}, line {number}")
                ends.append(ends[-1] + len(line))
                offsets.append(offsets[-1] + len(record.captions))
                species.append(-1 if record.species is None else numbers.setdefault(record.species, len(numbers)))
            if len(species) != facts["images"]:
                raise ValueError(
                    f"{file}: {len(species)} lines for {facts['images']} images; prepare the folder again"
                )
            if offsets[-1] != facts["captions"]:
                raise ValueError(
                    f"{file}: holds {offsets[-1]} captions, dataset.json has {facts['captions']}; "
                    "prepare the folder again"
                )
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._ends = ends
        self._last: tuple[int, Record] | None = None  # as captions of one record are mostly read one after another
        self.offsets: NDArray[np.int64] = np.frombuffer(offsets, np.int64)
        self.species: NDArray[np.int64] = np.frombuffer(species, np.int64)
        alone = self.species < 0
        self.species[alone] = len(numbers) + np.arange(alone.sum())
        self.species.flags.writeable = False

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number, last = _index(place, len(self)), self._last
        if last is None or last[0] != number:
            line = self._map[self._ends[number] : self._ends[number + 1]]
            self._last = last = number, parse_record(line, f"{self.file}, line {number + 1}")
        return last[1]

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(len(self)))


class Captions(Sequence[str]):
    """All captions of a split, image after image."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __len__(self) -> int:
        return int(self._records.offsets[-1])

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row, offsets = _index(place, len(self)), self._records.offsets
        image = int(np.searchsorted(offsets, row, side="right")) - 1
        return self._records[image].captions[row - int(offsets[image])]

    def __iter__(self) -> Iterator[str]:
        return (caption for record in self._records for caption in record.captions)


class ImageCaptions(Sequence[tuple[str, ...]]):
    """The captions of each image, or of the images ``rows``."""

    def __init__(self, records: Records, rows: NDArray[np.int64] | None = None) -> None:
        self._records = records
        self._rows = np.arange(len(records)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, place: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(place, slice):
            return [self._records[int(row)].captions for row in self._rows[place]]
        return self._records[int(self._rows[_index(place, len(self))])].captions

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return (self._records[int(row)].captions for row in self._rows)


def _index(place: Any, length: int) -> int:
    number = operator.index(place)
    if not -length <= number < length:
        raise IndexError(f"row {number} of {length}")
    return number % length
