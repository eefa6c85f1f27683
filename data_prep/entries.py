"""Photos with their captions, gathered from text files or from the rows of tables, on the disk."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stackgan.io.json_reader import ListOf, parse_json
from stackgan.io.lazy_sequence import LazySequence
from stackgan.io.spool import StringSpool

__all__ = ["Entries", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A photo with its captions.

    Attributes:
        path: relative to SRC.
        names: all paths by which it is reached through links, its own first.
        split: as the metadata say.
    """

    path: str
    names: tuple[str, ...]
    captions: tuple[str, ...]
    species: str | None = None
    split: str | None = None


class Entries(LazySequence[Entry]):
    """The photos for which rows were added, in the order of ``photos``; 41 bytes of memory each, with one row.

    Args:
        photos: paths.
        names: all paths of a photo, its own first.
    """

    def __init__(self, photos: Sequence[str], names: Callable[[str], tuple[str, ...]]) -> None:
        self._photos, self._names = photos, names
        self._rows = StringSpool()
        self._before = array("q")  # row -> the row before it of the same photo, or -1
        self._last = np.full(len(photos), -1)  # photo -> its last row, or -1
        self._left_out = np.zeros(len(photos), bool)
        self._places = np.zeros(0, np.int64)  # of `photos` with rows

    def add(
        self,
        photo: int,
        captions: Sequence[str],
        species: str | None = None,
        split: str | None = None,
        where: str = "",
    ) -> None:
        """Add captions to ``photos[photo]``; all rows of a photo have one species, and one split if any.

        Args:
            where: the place of the row, for messages.

        Raises:
            ValueError: the row contradicts an earlier one; with another split, the photo is left out.
        """
        last, place = int(self._last[photo]), where
        if last >= 0:
            _, earlier_species, earlier_split, earlier = self._row(last)
            if earlier_species != species:
                raise ValueError(f"{self._photos[photo]}: species {species!r} here, {earlier_species!r} before")
            if earlier_split is not None:
                if split is not None and split != earlier_split:
                    self._left_out[photo] = True
                    before = f"{earlier_split!r} in {earlier}"
                    raise ValueError(f"{self._photos[photo]}: split {split!r} here, {before}; the photo is left out")
                split, place = earlier_split, earlier
        self._last[photo] = len(self._rows)
        self._before.append(last)
        self._rows.append(json.dumps([list(captions), species, split, place], ensure_ascii=False))

    def close(self) -> None:
        """End the adding; before it, the sequence is empty."""
        self._places = np.flatnonzero((self._last >= 0) & ~self._left_out)

    def __len__(self) -> int:
        return len(self._places)

    def item(self, number: int) -> Entry:
        photo = int(self._places[number])
        path, row = self._photos[photo], int(self._last[photo])
        captions, species, split, _ = self._row(row)
        parts = [captions]
        while (row := self._before[row]) >= 0:
            parts.append(self._row(row)[0])
        joined = tuple(caption for part in reversed(parts) for caption in part)
        return Entry(path, self._names(path), joined, species, split)

    def _row(self, row: int) -> tuple[list[str], str | None, str | None, str]:
        captions, species, split, where = parse_json(self._rows[row], "row", ListOf(object))
        return captions, species, split, where
