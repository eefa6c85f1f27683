"""Records and captions of a prepared split, read from the memory-mapped captions.jsonl where they are used."""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackgan.data.format import Record, parse_record
from stackgan.io.lazy_sequence import LazySequence

__all__ = ["Captions", "ImageCaptions", "Records"]


class Records(LazySequence[Record]):
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

    def item(self, number: int) -> Record:
        last = self._last
        if last is None or last[0] != number:
            line = self._map[self._ends[number] : self._ends[number + 1]]
            self._last = last = number, parse_record(line, f"{self.file}, line {number + 1}")
        return last[1]


class Captions(LazySequence[str]):
    """All captions of a split, image after image."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __len__(self) -> int:
        return int(self._records.offsets[-1])

    def item(self, number: int) -> str:
        offsets = self._records.offsets
        image = int(np.searchsorted(offsets, number, side="right")) - 1
        return self._records[image].captions[number - int(offsets[image])]

    def __iter__(self) -> Iterator[str]:
        return (caption for record in self._records for caption in record.captions)


class ImageCaptions(LazySequence[tuple[str, ...]]):
    """The captions of each image, or of the images ``rows``."""

    def __init__(self, records: Records, rows: NDArray[np.int64] | None = None) -> None:
        self._records = records
        self._rows = np.arange(len(records)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, number: int) -> tuple[str, ...]:
        return self._records[int(self._rows[number])].captions
