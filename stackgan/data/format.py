"""Format of prepared folders: version, names, records as JSON lines, arrays as .npy files.

```
OUT/dataset.json               format version, kind, sizes, crop rule, source, counts, digests, problems
OUT/<split>/images.npy         (N, L, L, 3) uint8, L = load_side(size); a real .npy file, read memory-mapped
OUT/<split>/captions.jsonl     one object per line: id, captions, species, parameters; line i is image i
OUT/<split>/embeddings/*.npy   (captions of the split, T) float32, one file per encoder
```
`data_prep/README.md` describes each key. :mod:`stackgan.data.writer` writes the format, :mod:`stackgan.data.prepared`
reads it. These modules need NumPy and the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackgan.data.kinds import KINDS
from stackgan.images.crops import load_side
from stackgan.io.files import shown_name
from stackgan.io.json_reader import Fields, ListOf, MapOf, check_json, parse_json

__all__ = [
    "FORMAT_VERSION",
    "SPLIT_NAME",
    "Record",
    "as_embeddings",
    "embeddings_file",
    "npy_header",
    "open_images",
    "open_npy",
    "parse_record",
    "read_meta",
    "record_to_line",
    "write_npy",
]

FORMAT_VERSION = 1
SPLIT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
LARGEST = 4096  # side of training images, in pixels
RECORD = Fields({"id": str, "captions": ListOf(str)}, {"species": str, "parameters": MapOf(object)})
_EMBEDDINGS = Fields({"shape": ListOf(int), "sha256": str})
_SPLIT = Fields(
    {"images": int, "captions": int, "pixels_sha256": str, "captions_sha256": str},
    {"species": int, "embeddings": MapOf(_EMBEDDINGS)},
)
META = Fields(
    {
        "format_version": int,
        "kind": str,
        "size": int,
        "load_side": int,
        "crop": str,
        "source": MapOf(object),
        "splits": MapOf(_SPLIT),
        "problems": ListOf(Fields({"path": str, "reason": str})),
    },
    {"species_disjoint": bool},
)
HEADER_BYTES = 128  # fixed, so that the number of images can be written after the last one


@dataclass(frozen=True)
class Record:
    """Record of one image, a line of captions.jsonl: name, captions, species, parameters."""

    id: str
    captions: tuple[str, ...]
    species: str | None = None
    parameters: dict[str, object] | None = None


# --- records --------------------------------------------------------------------------------------


def record_to_line(record: Record) -> bytes:
    """The record as a line of captions.jsonl with line break; raises ValueError for values not valid in JSON."""
    entry: dict[str, object] = {"id": record.id, "captions": list(record.captions)}
    if record.species is not None:
        entry["species"] = record.species
    if record.parameters is not None:
        entry["parameters"] = record.parameters
    try:
        return (json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown_name(record.id)}: holds a lone surrogate, which UTF-8 cannot represent") from None


def parse_record(line: bytes, where: str) -> Record:
    """The record in a line of captions.jsonl; raises a ValueError that begins with ``where`` if it is not one."""
    entry = parse_json(line, where, RECORD, advice="prepare again")
    return Record(entry["id"], tuple(entry["captions"]), entry.get("species"), entry.get("parameters"))


def read_meta(file: Path, data: bytes) -> dict[str, Any]:
    """The content of a dataset.json of this version; raises a ValueError that names the file and the key."""
    meta: dict[str, Any] = parse_json(data, str(file), advice="prepare the folder again")
    if "format_version" not in meta:
        raise ValueError(f"{file}: no 'format_version', so not a prepared folder; create one with `stackgan prepare`")
    if meta["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{file}: format version {meta['format_version']!r}, this program reads {FORMAT_VERSION}; prepare again"
        )
    check_json(meta, str(file), META, advice="prepare again")
    if meta["kind"] not in KINDS:
        raise ValueError(f"{file}: kind {meta['kind']!r} is not one of {', '.join(KINDS)}; prepare again")
    size, side = meta["size"], meta["load_side"]
    if not 1 <= size <= LARGEST:
        raise ValueError(f"{file}: size {size} is not between 1 and {LARGEST}; prepare again")
    if side != load_side(size):
        raise ValueError(f"{file}: load_side {side} does not match size {size}; prepare again")
    if not meta["splits"]:
        raise ValueError(f"{file}: 'splits' is empty; prepare again")
    for name, facts in meta["splits"].items():
        if not SPLIT_NAME.fullmatch(name):
            raise ValueError(f"{file}: split name {name!r} is not allowed; prepare again")
        for key in ("images", "captions"):
            if facts[key] < (key == "images"):
                raise ValueError(f"{file}: splits.{name}.{key} is {facts[key]}; prepare again")
    return meta


# --- arrays ---------------------------------------------------------------------------------------


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """A .npy 1.0 header of fixed length, so that an array gives the same bytes with every version of NumPy."""
    fields = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    length = HEADER_BYTES - 10
    if len(fields) >= length:
        raise ValueError(f"array of shape {shape} does not fit a header of {HEADER_BYTES} bytes")
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + fields.ljust(length - 1) + b"\n"


def write_npy(file: Path, array: NDArray[Any]) -> str:
    """Write a C-ordered array as .npy; returns the sha256 of its bytes after the header."""
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        stream.write(npy_header(array.shape, array.dtype))
        for start in range(0, array.shape[0], 4096):
            part = np.ascontiguousarray(array[start : start + 4096]).tobytes()
            digest.update(part)
            stream.write(part)
    return digest.hexdigest()


def open_npy(file: Path) -> np.memmap[Any, Any]:
    """Open a complete .npy file, memory-mapped and read-only."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; prepare the folder again")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file}: not a complete .npy array ({error}); prepare the folder again") from None
    if not isinstance(array, np.memmap):
        raise ValueError(f"{file}: not a .npy array; prepare the folder again")
    return array


def open_images(file: Path, count: int, side: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Open an images.npy, (count, side, side, 3) uint8, memory-mapped, after checking the size of the file."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; prepare the folder again")
    expected = HEADER_BYTES + count * side * side * 3
    actual = file.stat().st_size
    if actual != expected:
        raise ValueError(
            f"{file}: {actual} bytes, expected {expected} for {count} images of side {side}; prepare again"
        )
    array = open_npy(file)
    if array.dtype != np.uint8 or array.shape != (count, side, side, 3):
        expected_shape = (count, side, side, 3)
        raise ValueError(f"{file}: {array.dtype} {array.shape}, expected uint8 {expected_shape}; prepare again")
    return array


def as_embeddings(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Convert embeddings (captions, T) to float32; raises ValueError for invalid shapes, types and values."""
    values = np.asarray(array)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        found = f"{values.dtype} of shape {values.shape}"
        raise ValueError(f"embeddings {name!r}: {found}, expected floats of shape (captions, T)")
    values = values.astype(np.float32, copy=False)
    if not all(np.isfinite(values[start : start + 4096]).all() for start in range(0, len(values), 4096)):
        raise ValueError(f"embeddings {name!r}: not all values are finite numbers")
    return values


def embeddings_file(name: str) -> str:
    """File name of an encoder's embeddings: its name with characters such as `/` and `:` percent-encoded."""
    quoted = urllib.parse.quote(name, safe="@+=, ")
    if quoted.startswith("."):  # names with a leading dot are reserved for temporary files
        quoted = "%2E" + quoted[1:]
    if not quoted or len(quoted) > 200:
        raise ValueError(f"embeddings name {name!r}: empty, or more than 200 letters as a file name")
    return f"{quoted}.npy"
