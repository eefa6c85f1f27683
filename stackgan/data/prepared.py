"""The prepared folder: what `stackgan prepare` writes and all that training reads.

```
OUT/dataset.json               format version, kind, sizes, crop rule, source, counts, digests, problems
OUT/<split>/images.npy         (N, L, L, 3) uint8, L = load_side(size); a real .npy file, read memory-mapped
OUT/<split>/captions.jsonl     one object a line: id, captions, species, parameters; line i belongs to image i
OUT/<split>/embeddings/*.npy   (captions of the split, T) float32, one file an encoder
```
`data_prep/README.md` describes the format key by key. This file needs NumPy and the standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stackgan.io.files import replace_folder

try:  # advisory locks tell a folder in the making from one left behind; Windows has none and keeps both
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FORMAT_VERSION",
    "Kind",
    "PreparedFolder",
    "PreparedSplit",
    "PreparedWriter",
    "Record",
    "load_side",
]

FORMAT_VERSION = 1
Kind = Literal["cub", "folder", "painted"]
KINDS: tuple[Kind, ...] = ("cub", "folder", "painted")

_HEADER_BYTES = 128  # fixed, so that the number of images can be filled in after the last one is written
_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def load_side(size: int) -> int:
    """Side in pixels at which photos for `size`-pixel training are stored: size · 76 / 64, rounded down.

    The published recipe crops 256 at random out of 304; 76/64 keeps that margin at every size.

    >>> load_side(64), load_side(128), load_side(256)
    (76, 152, 304)
    """
    if size < 1:
        raise ValueError(f"size: {size} is not a positive number of pixels")
    return size * 76 // 64


@dataclass(frozen=True)
class Record:
    """One image's line in captions.jsonl: its name, its captions and what else is known of it."""

    id: str
    captions: tuple[str, ...]
    species: str | None = None
    parameters: dict[str, object] | None = None


class PreparedWriter:
    """Writes a prepared folder image by image and gives it its name only when it is complete.

    Everything goes to `<out>.partial-<pid>` beside `out`. A clean end of the `with` block renames that to
    `out`; an exception removes it. A killed process leaves the partial folder, which the next preparation of
    the same `out` clears away. Memory stays constant in the number of pixels.

    Args:
        out: the folder to make. It must not exist, or be empty, or hold a prepared folder that `overwrite`
            allows to replace.
        kind: where the images come from: "cub", "folder" or "painted".
        size: side of the images that training will see, in pixels; they are stored at `load_side(size)`.
        crop: the crop rule in words, kept in dataset.json.
        source: what was read, as JSON; no absolute paths, so that the same input gives the same bytes.
        overwrite: replace a prepared folder that stands at `out`.
        species_disjoint: refuse a species that appears in two splits; by default on, except for painted
            birds, where held-out combinations take the place of held-out species.

    Raises:
        FileExistsError: `out` holds something that may not be replaced.
        ValueError: unknown kind, an image of the wrong shape, an empty caption, a repeated id, no images at
            all, a species in two splits, or embeddings whose rows are not the captions.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        *,
        kind: Kind,
        size: int,
        crop: str,
        source: dict[str, object],
        overwrite: bool = False,
        species_disjoint: bool | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
        self.out = Path(out).resolve()
        self.shown = Path(out)  # as the user wrote it, for messages
        self.kind: Kind = kind
        self.size = size
        self.load_side = load_side(size)
        self.crop = crop
        self.source = source
        self.species_disjoint = kind != "painted" if species_disjoint is None else species_disjoint
        self.meta: dict[str, Any] = {}
        self.problems: list[dict[str, str]] = []
        self._overwrite = overwrite
        self._partial = self.out.with_name(f"{self.out.name}.partial-{os.getpid()}")
        self._splits: dict[str, _SplitWriter] = {}
        self._ids: set[str] = set()
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
                f"{self.shown}: exists and is not a prepared folder, so it is left alone; name another"
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
            raise ValueError(f"{self.shown}: cannot be made ({reason}); name another folder") from None
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
            with contextlib.suppress(OSError):  # a full disk; the first such error is on its way to the user
                split.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self._partial, ignore_errors=True)  # gone already after a clean end

    def _clear_leftovers(self) -> None:
        for folder in self.out.parent.glob(f"{_escape_glob(self.out.name)}.partial-*"):
            lock = _lock_folder(folder)
            if lock is not None:  # nobody writes it any more
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)

    def add(self, split: str, image: NDArray[np.uint8], record: Record) -> None:
        """Append one image, (L, L, 3) uint8 with L = load_side(size), and its record to `split`."""
        expected = (self.load_side, self.load_side, 3)
        if image.dtype != np.uint8 or image.shape != expected:
            raise ValueError(f"{record.id}: image is {image.dtype} {image.shape}, expected uint8 {expected}")
        if record.id in self._ids:
            raise ValueError(f"{record.id}: the id appears twice; every image needs its own")
        for caption in record.captions:
            if not caption.strip() or "\n" in caption or "\r" in caption:
                raise ValueError(f"{record.id}: caption {caption!r} is empty or has a line break")
        line = _record_to_line(record)  # before anything is written, so that what JSON refuses leaves no half
        if split not in self._splits:
            if not _SPLIT_NAME.fullmatch(split):
                raise ValueError(f"split: {split!r} is not a name of small letters, digits, '-' and '_'")
            self._splits[split] = _SplitWriter(self._partial / split, self.load_side)
        self._splits[split].add(image, line, record)
        self._ids.add(record.id)

    @property
    def split_names(self) -> frozenset[str]:
        """The splits that hold a picture by now."""
        return frozenset(self._splits)

    def problem(self, path: str, reason: str) -> None:
        """Note an input that could not be used, by its path relative to the source; dataset.json lists it."""
        self.problems.append({"path": path, "reason": reason})

    def embeddings(self, split: str, name: str, array: NDArray[Any]) -> None:
        """Store precomputed embeddings, (captions of the split, T), in the order of the captions."""
        values = _as_embeddings(array, name)
        target = self._partial / split / "embeddings" / _embeddings_file(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = _write_npy(target, values)
        self._embeddings.setdefault(split, {})[name] = {"shape": list(values.shape), "sha256": digest}

    def _finish(self) -> None:
        if not self._splits:
            raise ValueError(f"{self.shown}: nothing was prepared: {_first_problems(self.problems)}")
        order = sorted(self._splits, key=lambda name: (name != "train", name))
        self._check_species(order)
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

    def _rename(self) -> None:
        self._check_out()  # somebody may have put something there meanwhile
        replace_folder(self._partial, self.out, self.out.with_name(f"{self.out.name}.replaced-{os.getpid()}"))


class _SplitWriter:
    """The open files and counters of one split."""

    def __init__(self, folder: Path, side: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.side = side
        self.count = 0
        self.captions = 0
        self.species: set[str] = set()
        self._pixels = hashlib.sha256()
        self._lines = hashlib.sha256()
        self._images: IO[bytes] = (folder / "images.npy").open("wb")
        self._images.write(_npy_header((0, side, side, 3), np.dtype(np.uint8)))
        self._captions: IO[bytes] = (folder / "captions.jsonl").open("wb")

    def add(self, image: NDArray[np.uint8], line: bytes, record: Record) -> None:
        pixels = image.tobytes()
        self._images.write(pixels)
        self._pixels.update(pixels)
        self._captions.write(line)
        self._lines.update(line)
        self.count += 1
        self.captions += len(record.captions)
        if record.species is not None:
            self.species.add(record.species)

    def finish(self) -> dict[str, object]:
        self._images.seek(0)
        self._images.write(_npy_header((self.count, self.side, self.side, 3), np.dtype(np.uint8)))
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


class PreparedSplit:
    """One split of a prepared folder: images, and for each its record.

    Attributes:
        images: (N, L, L, 3) uint8, memory-mapped and read-only.
        records: N records.
        offsets: (N + 1,) int64; the captions of image i are rows offsets[i]:offsets[i + 1] of `captions`.
        captions: all captions of the split, image after image; the rows of every embeddings array.
    """

    def __init__(self, folder: Path, name: str, side: int, facts: Mapping[str, Any]) -> None:
        self.path = folder
        self.name = name
        self.facts = facts
        self.images = _open_images(folder / "images.npy", int(facts["images"]), side)
        self.records = list(_read_records(folder / "captions.jsonl", facts))
        self.captions = [caption for record in self.records for caption in record.captions]
        counts = [len(record.captions) for record in self.records]
        self.offsets: NDArray[np.int64] = np.cumsum([0, *counts], dtype=np.int64)
        if len(self.captions) != facts["captions"]:
            raise ValueError(
                f"{folder / 'captions.jsonl'}: holds {len(self.captions)} captions, dataset.json says "
                f"{facts['captions']}; prepare the folder again"
            )

    def __len__(self) -> int:
        return len(self.records)

    def species_numbers(self) -> NDArray[np.int64]:
        """A number for each image's species, (N,) int64; an image of no stated species is a species of its own."""
        names = [(record.species is None, record.species or str(i)) for i, record in enumerate(self.records)]
        number = {name: i for i, name in enumerate(sorted(set(names)))}
        return np.array([number[name] for name in names], dtype=np.int64)

    def embedding_names(self) -> list[str]:
        """Names under which embeddings are stored for this split, sorted."""
        files = (self.path / "embeddings").glob("*.npy")
        return sorted(urllib.parse.unquote(file.stem) for file in files if not file.name.startswith("."))

    def embeddings(self, name: str) -> np.memmap[Any, np.dtype[np.float32]]:
        """Embeddings stored under `name`, (captions of the split, T) float32, memory-mapped.

        Raises:
            FileNotFoundError: there are none under that name; the message lists the names there are.
            ValueError: the file is truncated, or its rows are not the captions.
        """
        file = self.path / "embeddings" / _embeddings_file(name)
        if not file.is_file():
            there = ", ".join(self.embedding_names()) or "none"
            raise FileNotFoundError(f"{file.parent}: no embeddings {name!r}; stored here: {there}")
        array = _open_npy(file)
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[0] != len(self.captions):
            raise ValueError(
                f"{file}: holds {array.dtype} {array.shape}, expected float32 ({len(self.captions)}, T); "
                "delete the file, it is made again from the captions if an encoder wrote it"
            )
        return array

    def store_embeddings(self, name: str, array: NDArray[Any]) -> None:
        """Keep `array`, (captions of the split, T), under `name`, replacing what was there; atomic."""
        values = _as_embeddings(array, name)
        if values.shape[0] != len(self.captions):
            raise ValueError(
                f"{self.path}: {len(values)} rows of embeddings {name!r} for {len(self.captions)} captions"
            )
        target = self.path / "embeddings" / _embeddings_file(name)
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f".{os.getpid()}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.tmp")
        try:
            _write_npy(temporary, values)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


class PreparedFolder:
    """A prepared folder, checked as it is opened.

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
        self.kind: Kind = meta["kind"]
        self.size: int = meta["size"]
        self.load_side: int = meta["load_side"]
        splits: dict[str, Any] = meta["splits"]
        self.splits: Mapping[str, PreparedSplit] = MappingProxyType(
            {name: PreparedSplit(path / name, name, self.load_side, facts) for name, facts in splits.items()}
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PreparedFolder:
        """Open and check: version, keys, array shapes against file sizes, captions against their digest.

        Pixels are not read here, which is `verify`'s work; every file's size is compared.

        Raises:
            FileNotFoundError: there is no prepared folder at `path`, or a file of it is gone.
            ValueError: something in it is not as it was written; the message names the file.
        """
        folder = Path(path)
        file = folder / "dataset.json"
        if not file.is_file():
            found = "no such folder" if not folder.exists() else "no dataset.json in it"
            raise FileNotFoundError(f"{folder}: {found}; make a prepared folder with `stackgan prepare`")
        data = file.read_bytes()
        try:
            meta = json.loads(data.decode())
        except ValueError as error:
            raise ValueError(f"{file}: not valid JSON ({error}); prepare the folder again") from None
        _check_meta(file, meta)
        return cls(folder, meta, hashlib.sha256(data).hexdigest())

    @property
    def train(self) -> PreparedSplit:
        """The split to train on; raises ``ValueError`` where there is none."""
        if "train" not in self.splits:
            raise ValueError(f"{self.path}: has no train split; prepare a folder that has one")
        return self.splits["train"]

    def verify(self) -> None:
        """Read every pixel and compare with dataset.json's digests; raises ValueError that names the file."""
        for name, split in self.splits.items():
            digest = hashlib.sha256()
            for start in range(0, len(split), 256):
                digest.update(np.ascontiguousarray(split.images[start : start + 256]).tobytes())
            if digest.hexdigest() != self.meta["splits"][name]["pixels_sha256"]:
                file = split.path / "images.npy"
                raise ValueError(f"{file}: pixels differ from dataset.json's digest; prepare the folder again")


# --- records --------------------------------------------------------------------------------------


def _record_to_line(record: Record) -> bytes:
    entry: dict[str, object] = {"id": record.id, "captions": list(record.captions)}
    if record.species is not None:
        entry["species"] = record.species
    if record.parameters is not None:
        entry["parameters"] = record.parameters
    return (json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read_records(file: Path, facts: Mapping[str, Any]) -> Iterator[Record]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; prepare the folder again")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != facts["captions_sha256"]:
        raise ValueError(f"{file}: changed or truncated since it was written (digest differs); prepare again")
    lines = data.split(b"\n")[:-1]  # not splitlines(): a caption may hold U+2028 and the like
    if len(lines) != facts["images"]:
        raise ValueError(f"{file}: {len(lines)} lines for {facts['images']} images; prepare the folder again")
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            yield Record(entry["id"], tuple(entry["captions"]), entry.get("species"), entry.get("parameters"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}, line {number}: not a record ({error!r}); prepare again") from None


def _check_meta(file: Path, meta: object) -> None:
    if not isinstance(meta, dict) or "format_version" not in meta:
        raise ValueError(f"{file}: no 'format_version', so not a prepared folder; make one: `stackgan prepare`")
    if meta["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{file}: format version {meta['format_version']!r}, this program reads {FORMAT_VERSION}; prepare again"
        )
    expected: dict[str, type] = {"kind": str, "size": int, "load_side": int, "crop": str, "source": dict}
    expected |= {"splits": dict, "problems": list}
    for key, kind in expected.items():
        found = meta.get(key)
        if not isinstance(found, kind) or isinstance(found, bool):
            raise ValueError(f"{file}: key {key!r} is {found!r}, expected {kind.__name__}; prepare again")
    if meta["kind"] not in KINDS:
        raise ValueError(f"{file}: kind {meta['kind']!r} is none of {', '.join(KINDS)}; prepare again")
    size, side = meta["size"], meta["load_side"]
    if side != load_side(size):
        raise ValueError(f"{file}: load_side {side} does not belong to size {size}; prepare again")
    if not meta["splits"]:
        raise ValueError(f"{file}: 'splits' is empty; prepare again")
    for name, facts in meta["splits"].items():
        if not _SPLIT_NAME.fullmatch(name):
            raise ValueError(f"{file}: split name {name!r} is not allowed; prepare again")
        for key in ("images", "captions", "pixels_sha256", "captions_sha256"):
            kind = str if key.endswith("sha256") else int
            if not isinstance(facts, dict) or not isinstance(facts.get(key), kind):
                raise ValueError(f"{file}: splits.{name}.{key} is not a {kind.__name__}; prepare again")


def _first_problems(problems: Sequence[Mapping[str, str]]) -> str:
    if not problems:
        return "the source holds no images"
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{first['path']}: {first['reason']}{more}"


# --- arrays ---------------------------------------------------------------------------------------


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """A .npy 1.0 header of fixed length, so that the same array is the same bytes under every NumPy."""
    fields = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    length = _HEADER_BYTES - 10
    if len(fields) >= length:
        raise ValueError(f"array of shape {shape} does not fit a header of {_HEADER_BYTES} bytes")
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + fields.ljust(length - 1) + b"\n"


def _write_npy(file: Path, array: NDArray[Any]) -> str:
    """Write a C-ordered array as .npy; sha256 of its bytes after the header."""
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        stream.write(_npy_header(array.shape, array.dtype))
        for start in range(0, array.shape[0], 4096):
            part = np.ascontiguousarray(array[start : start + 4096]).tobytes()
            digest.update(part)
            stream.write(part)
    return digest.hexdigest()


def _open_npy(file: Path) -> np.memmap[Any, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; prepare the folder again")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file}: not a whole .npy array ({error}); prepare the folder again") from None
    if not isinstance(array, np.memmap):
        raise ValueError(f"{file}: not a .npy array; prepare the folder again")
    return array


def _open_images(file: Path, count: int, side: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; prepare the folder again")
    expected = _HEADER_BYTES + count * side * side * 3
    actual = file.stat().st_size
    if actual != expected:
        raise ValueError(
            f"{file}: {actual} bytes, expected {expected} for {count} images of side {side}; prepare again"
        )
    array = _open_npy(file)
    if array.dtype != np.uint8 or array.shape != (count, side, side, 3):
        expected_shape = (count, side, side, 3)
        raise ValueError(f"{file}: {array.dtype} {array.shape}, expected uint8 {expected_shape}; prepare again")
    return array


def _as_embeddings(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    values = np.asarray(array)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        found = f"{values.dtype} of shape {values.shape}"
        raise ValueError(f"embeddings {name!r}: {found}, expected floats of shape (captions, T)")
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"embeddings {name!r}: not all values are finite numbers")
    return values


def _embeddings_file(name: str) -> str:
    """File name of an encoder's embeddings: its name with `/`, `:` and the like percent-encoded."""
    quoted = urllib.parse.quote(name, safe="@+=, ")
    if quoted.startswith("."):  # files that begin with a dot are temporary ones
        quoted = "%2E" + quoted[1:]
    if not quoted or len(quoted) > 200:
        raise ValueError(f"embeddings name {name!r}: empty, or more than 200 letters as a file name")
    return f"{quoted}.npy"


# --- folders --------------------------------------------------------------------------------------


def _lock_folder(folder: Path) -> int | None:
    """A held lock on `folder`, as a descriptor; None where another holds it or there are no locks."""
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


def _escape_glob(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
