"""Reads prepared folders (:mod:`stackgan.data.format`), the only input of training and evaluation."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackgan.data.format import (
    as_embeddings,
    embeddings_file,
    open_images,
    open_npy,
    read_meta,
    write_npy,
)
from stackgan.data.records import Captions, ImageCaptions, Records
from stackgan.io.files import atomic_file

__all__ = ["PreparedFolder", "PreparedSplit"]


class PreparedSplit:
    """One split of a prepared folder: images and their records, on the disk, with 24 bytes of memory for each.

    Attributes:
        images: (N, L, L, 3) uint8, memory-mapped and read-only.
        records: sequence of N records.
        offsets: (N + 1,) int64; the captions of image i are rows offsets[i]:offsets[i + 1] of `captions`.
        captions: sequence of all captions of the split, image after image; the rows of every embeddings array.
    """

    def __init__(self, folder: Path, name: str, side: int, facts: Mapping[str, Any]) -> None:
        self.path = folder
        self.name = name
        self.facts = facts
        self.images = open_images(folder / "images.npy", int(facts["images"]), side)
        self.records = Records(folder / "captions.jsonl", facts)
        self.captions = Captions(self.records)
        self.offsets = self.records.offsets

    def __len__(self) -> int:
        return len(self.records)

    def species_numbers(self) -> NDArray[np.int64]:
        """Species number of each image, (N,) int64; an image without a species gets its own number."""
        return self.records.species

    def image_captions(self, rows: NDArray[np.int64] | None = None) -> ImageCaptions:
        """Sequence of the captions of each image, or of the images `rows`."""
        return ImageCaptions(self.records, rows)

    def embedding_names(self) -> list[str]:
        """Names under which embeddings are stored for this split, sorted."""
        files = (self.path / "embeddings").glob("*.npy")
        return sorted(urllib.parse.unquote(file.stem) for file in files if not file.name.startswith("."))

    def embeddings(self, name: str) -> np.memmap[Any, np.dtype[np.float32]]:
        """Embeddings stored under `name`, (captions of the split, T) float32, memory-mapped.

        Raises:
            FileNotFoundError: there are none of that name; the message lists the existing names.
            ValueError: the file is truncated, or its number of rows is not that of the captions.
        """
        file = self.path / "embeddings" / embeddings_file(name)
        if not file.is_file():
            there = ", ".join(self.embedding_names()) or "none"
            raise FileNotFoundError(f"{file.parent}: no embeddings {name!r}; stored here: {there}")
        array = open_npy(file)
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[0] != len(self.captions):
            raise ValueError(
                f"{file}: holds {array.dtype} {array.shape}, expected float32 ({len(self.captions)}, T); "
                "delete the file; if an encoder wrote it, it will be computed again from the captions"
            )
        return array

    def store_embeddings(self, name: str, array: NDArray[Any]) -> None:
        """Store `array`, (captions of the split, T), under `name`, replacing an existing one atomically."""
        values = as_embeddings(array, name)
        if values.shape[0] != len(self.captions):
            raise ValueError(
                f"{self.path}: {len(values)} rows of embeddings {name!r} for {len(self.captions)} captions"
            )
        target = self.path / "embeddings" / embeddings_file(name)
        target.parent.mkdir(exist_ok=True)
        with atomic_file(target) as partial:
            write_npy(partial, values)


class PreparedFolder:
    """A prepared folder, checked when it is opened.

    Attributes:
        path, kind, size, load_side: as written by `PreparedWriter`.
        meta: dataset.json as parsed.
        splits: name → `PreparedSplit`, "train" first.
        identity: sha256 of dataset.json. That file holds the digests of every split's pixels and captions, so
            two folders of the same identity hold the same data.
    """

    def __init__(self, path: Path, meta: dict[str, Any], identity: str) -> None:
        self.path = path
        self.meta = meta
        self.identity = identity
        self.kind: str = meta["kind"]
        self.size: int = meta["size"]
        self.load_side: int = meta["load_side"]
        splits: dict[str, Any] = meta["splits"]
        self.splits: Mapping[str, PreparedSplit] = MappingProxyType(
            {name: PreparedSplit(path / name, name, self.load_side, facts) for name, facts in splits.items()}
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PreparedFolder:
        """Open and check: version, keys, array shapes against file sizes, captions against their digest.

        The size of every file is checked; pixels are not read, see `verify`.

        Raises:
            FileNotFoundError: there is no prepared folder at `path`, or a file of it is missing.
            ValueError: a file is damaged or inconsistent; the message names it.
        """
        folder = Path(path)
        file = folder / "dataset.json"
        if not file.is_file():
            found = "no such folder" if not folder.exists() else "no dataset.json in it"
            raise FileNotFoundError(f"{folder}: {found}; make a prepared folder with `stackgan prepare`")
        data = file.read_bytes()
        meta = read_meta(file, data)
        return cls(folder, meta, hashlib.sha256(data).hexdigest())

    @property
    def train(self) -> PreparedSplit:
        """The training split; raises ``ValueError`` if there is none."""
        if "train" not in self.splits:
            raise ValueError(f"{self.path}: has no train split; prepare a folder with one")
        return self.splits["train"]

    def verify(self) -> None:
        """Compare all pixels with the digests in dataset.json; raises ValueError naming a file that differs."""
        for name, split in self.splits.items():
            digest = hashlib.sha256()
            for start in range(0, len(split), 256):
                digest.update(np.ascontiguousarray(split.images[start : start + 256]).tobytes())
            if digest.hexdigest() != self.meta["splits"][name]["pixels_sha256"]:
                file = split.path / "images.npy"
                raise ValueError(f"{file}: pixels differ from dataset.json's digest; prepare the folder again")
