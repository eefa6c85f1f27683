"""Writer of prepared folders (:mod:`stackgan.data.format`), image by image and atomic."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from stackgan.data.format import (
    FORMAT_VERSION,
    SPLIT_NAME,
    Record,
    as_embeddings,
    embeddings_file,
    npy_header,
    parse_record,
    record_to_line,
    write_npy,
)
from stackgan.data.kinds import KINDS
from stackgan.images.crops import load_side
from stackgan.io.digests import DigestIndex, digest
from stackgan.io.files import replace_folder, shown_name

try:  # advisory locks distinguish folders being written from left-over ones; Windows has none and keeps both
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

__all__ = ["PreparedWriter"]

EXAMPLES = 5  # images that are named of those in two splits


class PreparedWriter:
    """Writes a prepared folder image by image; it appears under its final name only when it is complete.

    Files are written to `<out>.partial-<pid>` beside `out`. At the end of the `with` block this folder is renamed to
    `out`; on an exception it is removed. If the process is killed, the partial folder remains and is removed by the
    next preparation of the same `out`. Memory use does not depend on the number of pixels, and grows by 24 bytes with
    each image; that every id is different is therefore checked at the end. Images of equal pixels in two splits are
    counted there, too, with the first few by name: `source["photos_in_several_splits"]`.

    Args:
        out: the folder to create. It must not exist, or be empty, or be a prepared folder with `overwrite`.
        kind: kind of the data set, a name of `stackgan.data.kinds.KINDS`.
        size: side of the training images in pixels; they are stored at `load_side(size)`.
        crop: description of the crop rule for dataset.json.
        source: description of the source, as JSON; without absolute paths, so that the same input gives the same
            bytes.
        overwrite: replace an existing prepared folder at `out`.
        species_disjoint: raise an error for a species in two splits; by default on, except for drawn images, which
            have held-out combinations instead of held-out species.

    Raises:
        FileExistsError: `out` contains something that may not be replaced.
        ValueError: unknown kind, an image of the wrong shape, an empty caption, a repeated id, no images at
            all, a species in two splits, or embeddings with another number of rows than captions.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        *,
        kind: str,
        size: int,
        crop: str,
        source: dict[str, object],
        overwrite: bool = False,
        species_disjoint: bool | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
        self.out = Path(out).resolve()
        self.shown = Path(out)  # as the user wrote it, for messages
        self.kind = kind
        self.size = size
        self.load_side = load_side(size)
        self.crop = crop
        self.source = source
        self.species_disjoint = not KINDS[kind].drawn if species_disjoint is None else species_disjoint
        self.meta: dict[str, Any] = {}
        self.problems: list[dict[str, str]] = []
        self._overwrite = overwrite
        self._partial = self.out.with_name(f"{self.out.name}.partial-{os.getpid()}")
        self._splits: dict[str, _SplitWriter] = {}
        self._ids = bytearray()  # digests
        self._embeddings: dict[str, dict[str, dict[str, object]]] = {}
        self._lock: int | None = None
        self._check_out()

    def _check_out(self) -> None:
        if not self.out.exists():
            return
        if not self.out.is_dir():
            raise FileExistsError(f"{self.shown}: is a file; name a folder that does not exist yet")
        if not any(self.out.iterdir()):
            return
        if not (self.out / "dataset.json").is_file():
            raise FileExistsError(
                f"{self.shown}: exists and is not a prepared folder, so it is not replaced; name another"
            )
        if not self._overwrite:
            raise FileExistsError(f"{self.shown}: exists; pass --overwrite to replace it or name another folder")

    def __enter__(self) -> PreparedWriter:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers()
            self._partial.mkdir()
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise ValueError(f"{self.shown}: cannot be created ({reason}); name another folder") from None
        self._lock = _lock_folder(self._partial)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = error
        if failure is None:
            try:
                self._finish()
            except BaseException as late:
                failure = late
        self._clean_up()
        if isinstance(failure, OSError) and failure.errno is not None and failure.filename is None:
            raise ValueError(f"{self.shown}: cannot be written: {failure.strerror}") from None
        if failure is not None and failure is not error:
            raise failure

    def _clean_up(self) -> None:
        for split in self._splits.values():
            with contextlib.suppress(OSError):  # e.g. a full disk: the first such error is raised afterwards
                split.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self._partial, ignore_errors=True)  # already renamed after a normal end

    def _clear_leftovers(self) -> None:
        for folder in self.out.parent.glob(f"{glob.escape(self.out.name)}.partial-*"):
            lock = _lock_folder(folder)
            if lock is not None:  # the process that wrote it has ended
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)

    def add(self, split: str, image: NDArray[np.uint8], record: Record) -> None:
        """Append one image, (L, L, 3) uint8 with L = load_side(size), and its record to `split`."""
        expected = (self.load_side, self.load_side, 3)
        if image.dtype != np.uint8 or image.shape != expected:
            raise ValueError(f"{record.id}: image is {image.dtype} {image.shape}, expected uint8 {expected}")
        for caption in record.captions:
            if not caption.strip() or "\n" in caption or "\r" in caption:
                raise ValueError(f"{record.id}: caption {caption!r} is empty or has a line break")
        line = record_to_line(record)  # first, as values not valid in JSON raise an error
        if split not in self._splits:
            if not SPLIT_NAME.fullmatch(split):
                raise ValueError(f"split: {split!r} is not a name of lower-case letters, digits, '-' and '_'")
            self._splits[split] = _SplitWriter(self._partial / split, self.load_side)
        self._splits[split].add(image, line, record)
        self._ids += digest(record.id)

    @property
    def split_names(self) -> frozenset[str]:
        """The splits that images have been added to."""
        return frozenset(self._splits)

    def problem(self, path: str, reason: str) -> None:
        """Record an unusable input by its path relative to the source; dataset.json lists it.

        What is not UTF-8 in path and reason is written as backslash escapes.
        """
        self.problems.append({"path": shown_name(path), "reason": shown_name(reason)})

    def embeddings(self, split: str, name: str, array: NDArray[Any]) -> None:
        """Store precomputed embeddings, (captions of the split, T), in the order of the captions."""
        values = as_embeddings(array, name)
        target = self._partial / split / "embeddings" / embeddings_file(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = write_npy(target, values)
        self._embeddings.setdefault(split, {})[name] = {"shape": list(values.shape), "sha256": digest}

    def _finish(self) -> None:
        if not self._splits:
            raise ValueError(f"{self.shown}: nothing was prepared: {_first_problems(self.problems)}")
        order = sorted(self._splits, key=lambda name: (name != "train", name))
        self._check_species(order)
        self._check_ids()
        self._count_shared_photos(order)
        for split, stored in self._embeddings.items():
            captions = self._splits[split].captions if split in self._splits else 0
            for name, facts in stored.items():
                shape = cast(list[int], facts["shape"])
                if shape[0] != captions:
                    raise ValueError(f"{split}: {shape[0]} rows of embeddings {name!r} for {captions} captions")
        self.meta = {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "size": self.size,
            "load_side": self.load_side,
            "crop": self.crop,
            "species_disjoint": self.species_disjoint,
            "source": self.source,
            "splits": {
                name: self._splits[name].finish() | {"embeddings": self._embeddings.get(name, {})} for name in order
            },
            "problems": self.problems,
        }
        text = json.dumps(self.meta, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self._partial / "dataset.json").write_bytes(text.encode())
        self._rename()

    def _check_species(self, order: Sequence[str]) -> None:
        if not self.species_disjoint:
            return
        home: dict[str, str] = {}
        for split in order:
            for species in sorted(self._splits[split].species):
                if species in home:
                    raise ValueError(f"species {species!r} is in two splits, {home[species]!r} and {split!r}")
                home[species] = split

    def _check_ids(self) -> None:
        """At the end instead of in :meth:`add`, so that memory holds 16 bytes for an id."""
        repeated = {bytes(self._ids[16 * row : 16 * row + 16]) for row in DigestIndex(self._ids).repeated().tolist()}
        for split in self._splits.values() if repeated else ():
            for name in split.ids():
                if digest(name) in repeated:
                    raise ValueError(f"{name}: the id appears twice; every image needs its own")

    def _count_shared_photos(self, order: Sequence[str]) -> None:
        """Images of a split with the pixels of one of a split before it, as a photo that is stored in both."""
        keys = [self._splits[split].pixel_keys() for split in order]
        home = np.repeat(np.arange(len(order)), [len(each) for each in keys])
        _, first, inverse = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
        earliest = first[inverse]  # image with the same pixels, itself if there is none before it
        shared = np.flatnonzero(home[earliest] != home)
        if not len(shared):
            return
        pairs = [(row, earliest[row]) for row in shared[:EXAMPLES]]
        wanted = {row for pair in pairs for row in pair}
        named = ((split, name) for split in order for name in self._splits[split].ids())
        titles = {row: f"{split}: {name}" for row, (split, name) in enumerate(named) if row in wanted}
        examples = [f"{titles[row]} = {titles[other]}" for row, other in pairs]
        self.source["photos_in_several_splits"] = {"count": len(shared), "examples": examples}

    def _rename(self) -> None:
        self._check_out()  # again, as it may have been created in the meantime
        replace_folder(self._partial, self.out)


class _SplitWriter:
    """The open files and counters of one split."""

    def __init__(self, folder: Path, side: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.side = side
        self.count = 0
        self.captions = 0
        self.species: set[str] = set()
        self._pixels = hashlib.sha256()
        self._pixel_keys = bytearray()  # digests of 64 bits
        self._lines = hashlib.sha256()
        self._images: IO[bytes] = (folder / "images.npy").open("wb")
        self._images.write(npy_header((0, side, side, 3), np.dtype(np.uint8)))
        self._file = folder / "captions.jsonl"
        self._captions: IO[bytes] = self._file.open("wb")

    def add(self, image: NDArray[np.uint8], line: bytes, record: Record) -> None:
        pixels = image.tobytes()
        self._images.write(pixels)
        self._pixels.update(pixels)
        self._pixel_keys += hashlib.blake2b(pixels, digest_size=8).digest()
        self._captions.write(line)
        self._lines.update(line)
        self.count += 1
        self.captions += len(record.captions)
        if record.species is not None:
            self.species.add(record.species)

    def pixel_keys(self) -> NDArray[np.uint64]:
        """One number for each image, equal for equal pixels."""
        return np.frombuffer(self._pixel_keys, np.uint64)

    def ids(self) -> Iterator[str]:
        """The ids of the images so far, in order."""
        self._captions.flush()
        with self._file.open("rb") as lines:
            for line in lines:
                yield parse_record(line, str(self._file)).id

    def finish(self) -> dict[str, object]:
        self._images.seek(0)
        self._images.write(npy_header((self.count, self.side, self.side, 3), np.dtype(np.uint8)))
        self.close()
        return {
            "images": self.count,
            "captions": self.captions,
            "species": len(self.species),
            "pixels_sha256": self._pixels.hexdigest(),
            "captions_sha256": self._lines.hexdigest(),
        }

    def close(self) -> None:
        self._images.close()
        self._captions.close()


def _first_problems(problems: Sequence[Mapping[str, str]]) -> str:
    if not problems:
        return "the source holds no images"
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{first['path']}: {first['reason']}{more}"


def _lock_folder(folder: Path) -> int | None:
    """Lock `folder` and return the descriptor; None if it is locked already or locks are not available."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
