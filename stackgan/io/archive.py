"""Split archives: pack a folder into numbered pieces of limited size and unpack it, to transfer data and weights.

```
PIECES/piece-00001 …     parts of one tar stream; the same folder and limit give the same bytes on every machine
PIECES/manifest.json     name, size and sha256 of each piece and of the whole; written last
```
Times, owners and permissions are not stored. Nothing is compressed, as most of the content is weights and
uncompressed photos. Memory use does not depend on file sizes. This module needs the standard library and tqdm only.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from stackgan.io.files import atomic_folder, extract_entry, write_atomic
from stackgan.io.folder_lock import LOCK
from stackgan.io.json_reader import Fields, ListOf, check_json, parse_json

__all__ = ["Packed", "pack", "unpack"]

FORMAT = 1
MANIFEST = "manifest.json"
MIB = 2**20
_MANIFEST = Fields(
    {
        "format": int,
        "names": ListOf(str),
        "files": int,
        "bytes": int,
        "sha256": str,
        "pieces": ListOf(Fields({"name": str, "bytes": int, "sha256": str})),
    }
)
_CHUNK = MIB  # bytes read at a time
_PIECE = re.compile(r"piece-\d{5}")
_OURS = re.compile(rf"\.?({_PIECE.pattern}|{re.escape(MANIFEST)})(\.partial(-\d+)?)?")
# Temporary files and folders of a killed process, and the lock of a running one.
_UNFINISHED = re.compile(rf"\.(partial|replaced)(-|$)|^\..*\.tmp$|^{re.escape(LOCK)}$")


@dataclass(frozen=True)
class Packed:
    """Result of :func:`pack`: total pieces, pieces written by this call, total bytes, unfinished files left out."""

    count: int
    written: int
    size: int
    left_out: tuple[str, ...]


def pack(folder: Path, pieces: Path, *, limit: int = 50 * MIB, only: Sequence[str] | None = None) -> Packed:
    """Write ``folder`` as a split archive with pieces of ``limit`` bytes, the last one shorter.

    Existing pieces with the same content are kept, so that an interrupted call is resumed. Those of another archive
    are replaced or removed.

    Args:
        folder: any folder of files and folders, such as a prepared folder, run folder or checkpoint.
        only: names in ``folder`` to pack; by default all.

    Raises:
        FileNotFoundError: ``folder``, or a name in ``only``, does not exist.
        FileExistsError: ``pieces`` contains other files.
        ValueError: links or devices in ``folder``; a limit that needs too many pieces; nothing to pack; a file that
            changes while it is read.
    """
    if limit < 1:
        raise ValueError(f"limit {limit}: it must be 1 byte or more")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to pack")
    if pieces.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{pieces}: is inside {folder}, and would be packed too; name a folder outside")
    _check_pieces_folder(pieces)
    names, left_out = _chosen(folder, only)
    entries = [entry for name in names for entry in _walk(folder, name, left_out)]
    size = sum(_stored(entry) for entry in entries) + len(_END)
    if size > 99_999 * limit:
        raise ValueError(f"{folder}: {size:,} bytes in pieces of {limit:,} are more than 99,999; raise --limit")

    pieces.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(_Cutter(pieces, limit)) as cutter, _bar("pack", size) as bar:
        for chunk in _stream(folder, entries):
            cutter.write(chunk)
            bar.update(len(chunk))
        cutter.finish()
    known = {piece["name"] for piece in cutter.pieces}
    manifest = {
        "format": FORMAT,
        "names": names,
        "files": sum(entry.isreg() for entry in entries),
        "bytes": size,
        "sha256": cutter.digest.hexdigest(),
        "limit": limit,
        "pieces": cutter.pieces,
    }
    content = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
    stands = pieces / MANIFEST
    for file in pieces.iterdir():  # of an earlier, larger archive
        if file.name not in known and file != stands:
            file.unlink()
    if not stands.is_file() or stands.read_bytes() != content:
        write_atomic(stands, content)
    return Packed(len(cutter.pieces), cutter.written, size, tuple(left_out))


def unpack(pieces: Path, folder: Path, *, overwrite: bool = False) -> int:
    """Restore the packed folder at ``folder``; returns its number of files.

    All pieces are checked before anything is written. The folder is written under a temporary name and then renamed.

    Args:
        overwrite: replace ``folder``, unless it contains names that the archive does not.

    Raises:
        FileNotFoundError: the manifest or pieces are missing (the message names all of them).
        FileExistsError: ``folder`` exists and may not be replaced.
        ValueError: damaged pieces (the message names all of them), an invalid manifest, a link, or a path outside
            ``folder``.
    """
    manifest = _read_manifest(pieces)
    shown, folder = folder, folder.resolve()
    _check_target(shown, folder, set(manifest.names), overwrite)
    _check_pieces(pieces, manifest)

    for pattern in ("partial*", "replaced-*"):  # of a killed call
        for left in folder.parent.glob(f"{glob.escape(folder.name)}.{pattern}"):
            shutil.rmtree(left, ignore_errors=True)
    with atomic_folder(folder) as partial:
        return _extract(pieces, manifest, partial)


# --- packing ------------------------------------------------------------------------------------------------

_END = bytes(2 * tarfile.BLOCKSIZE)  # two empty blocks end a tar


def _chosen(folder: Path, only: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Top-level names in ``folder`` to pack, sorted, and those left out as unfinished."""
    there = sorted(file.name for file in folder.iterdir())
    if only is None:
        names = [name for name in there if not _UNFINISHED.search(name)]
        left_out = [name for name in there if _UNFINISHED.search(name)]
    else:
        names, left_out = sorted({name.strip().rstrip("/") for name in only}), []
        missing = [name for name in names if name not in there]
        if missing:
            raise FileNotFoundError(f"{folder}: has no {missing[0]!r} at its top level; it has {', '.join(there)}")
    if not names:
        raise ValueError(f"{folder}: nothing to pack")
    return names, left_out


def _walk(folder: Path, name: str, left_out: list[str]) -> Iterator[tarfile.TarInfo]:
    """Headers of ``name``, a path in ``folder``, and of its contents, sorted."""
    path = folder / name
    entry = tarfile.TarInfo(name)  # with times zero and owners empty
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path}: is a link or a device, which cannot be packed; replace it by the file itself")
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        yield entry
        for below in sorted(file.name for file in path.iterdir()):
            if _UNFINISHED.search(below):
                left_out.append(f"{name}/{below}")
            else:
                yield from _walk(folder, f"{name}/{below}", left_out)
    else:
        entry.size = path.stat().st_size
        yield entry


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _stored(entry: tarfile.TarInfo) -> int:
    """Bytes of ``entry`` in the stream: its header, and its content padded to whole blocks."""
    return len(_header(entry)) + -(-entry.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _stream(folder: Path, entries: Sequence[tarfile.TarInfo]) -> Iterator[bytes]:
    for entry in entries:
        yield _header(entry)
        if not entry.isreg():
            continue
        path = folder / entry.name
        left = entry.size
        with path.open("rb") as file:
            while chunk := file.read(min(_CHUNK, left)):
                yield chunk
                left -= len(chunk)
            if left or file.read(1):
                raise ValueError(f"{path}: changed while it was packed; stop what writes it and pack again")
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield _END


class _Cutter:
    """Splits a stream into pieces, which are written atomically.

    An existing piece is compared with the stream, and only rewritten from the first difference on. At the first
    difference the manifest is removed, as it belongs to another archive.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.pieces: list[dict[str, Any]] = []  # completed pieces
        self.digest = hashlib.sha256()  # of the stream
        self.written = 0
        self._piece = hashlib.sha256()
        self._size = 0
        self._old: IO[bytes] | None = None  # the existing piece, while it is equal
        self._new: IO[bytes] | None = None

    @property
    def _file(self) -> Path:
        return self.folder / f"piece-{len(self.pieces) + 1:05d}"

    @property
    def _partial(self) -> Path:
        return self._file.with_name(f"{self._file.name}.partial")

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        self.digest.update(view)
        while view:
            part = view[: self.limit - self._size]
            self._put(part)
            view = view[len(part) :]
            if self._size == self.limit:
                self._end_piece()

    def finish(self) -> None:
        if self._size:
            self._end_piece()

    def close(self) -> None:
        """Close open files; removes an incomplete piece."""
        if self._old is not None:
            self._old.close()
        if self._new is not None:
            self._new.close()
            self._partial.unlink(missing_ok=True)
        self._old = self._new = None

    def _put(self, part: memoryview) -> None:
        if not self._size and self._file.is_file():
            self._old = self._file.open("rb")
        if self._old is not None and self._old.read(len(part)) != part:
            self._differs()
        if self._old is None:
            if self._new is None:
                self._new = self._partial.open("wb")
            self._new.write(part)
        self._piece.update(part)
        self._size += len(part)

    def _differs(self) -> None:
        """Start a new piece with a copy of the equal part of the existing one."""
        assert self._old is not None
        self._old.close()
        self._old, self._new = None, self._partial.open("wb")
        with self._file.open("rb") as same:
            left = self._size
            while left:
                chunk = same.read(min(_CHUNK, left))
                self._new.write(chunk)
                left -= len(chunk)

    def _end_piece(self) -> None:
        file, partial = self._file, self._partial
        if self._old is not None and self._old.read(1):
            self._differs()
        self.pieces.append({"name": file.name, "bytes": self._size, "sha256": self._piece.hexdigest()})
        self._piece, self._size = hashlib.sha256(), 0
        if self._old is not None:
            self._old.close()
        if self._new is not None:
            new, self._new = self._new, None
            new.close()
            (self.folder / MANIFEST).unlink(missing_ok=True)
            partial.replace(file)
            self.written += 1
        self._old = None


def _check_pieces_folder(pieces: Path) -> None:
    if not pieces.exists():
        return
    if not pieces.is_dir():
        raise FileExistsError(f"{pieces}: is a file; name a folder for the pieces")
    for file in pieces.iterdir():
        if not _OURS.fullmatch(file.name) or not file.is_file():
            raise FileExistsError(f"{pieces}: holds {file.name}, which is not a piece; name a separate folder")


# --- unpacking ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Manifest:
    names: list[str]
    files: int
    size: int
    sha256: str
    pieces: list[tuple[str, int, str]]  # name, bytes, sha256


def _read_manifest(pieces: Path) -> _Manifest:
    file = pieces / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: missing; `stackgan pack` writes it last: complete the packing, then copy it with the pieces"
        )
    advice = "not a manifest of a split archive; copy it again"
    read = parse_json(file.read_bytes(), str(file), Fields({"format": int}), advice=advice, errors="surrogateescape")
    if read["format"] != FORMAT:
        raise ValueError(f"{file}: format {read['format']}, this version reads {FORMAT}; pack the folder again")
    check_json(read, str(file), _MANIFEST, advice=advice)
    listed = [(piece["name"], piece["bytes"], piece["sha256"]) for piece in read["pieces"]]
    for number, (name, size, _) in enumerate(listed, 1):
        if not _PIECE.fullmatch(name) or size < 1:
            raise ValueError(f"{file}: piece {number} is {name!r} of {size} bytes; {advice}")
    return _Manifest(read["names"], read["files"], read["bytes"], read["sha256"], listed)


def _check_pieces(pieces: Path, manifest: _Manifest) -> None:
    """Check size and digest of every piece; the error names all that are missing or damaged."""
    missing, damaged = [], []
    with _bar("check", manifest.size) as bar:
        for name, size, digest in manifest.pieces:
            file = pieces / name
            if not file.is_file():
                missing.append(name)
            elif file.stat().st_size != size or _sha256(file) != digest:
                damaged.append(name)
            bar.update(size)
    wrong = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("damaged", damaged)) if names]
    if wrong:
        kind: type[Exception] = ValueError if damaged else FileNotFoundError
        raise kind(f"{pieces}: {'; '.join(wrong)}: copy these again, and unpack again")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_target(shown: Path, folder: Path, names: set[str], overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{shown}: is a file; name a folder that does not exist yet")
    there = {file.name for file in folder.iterdir()}
    if there and not overwrite:
        raise FileExistsError(f"{shown}: exists; pass --overwrite to replace it or name another folder")
    if there - names:
        kept = min(there - names)
        raise FileExistsError(f"{shown}: holds {kept}, which the pieces do not, so it is not replaced; name another")


def _extract(pieces: Path, manifest: _Manifest, target: Path) -> int:
    """Write the stream's files and folders below ``target``, a new empty folder; returns the number of files."""
    files = 0
    with _Joined([pieces / name for name, _, _ in manifest.pieces]) as joined, _bar("unpack", manifest.size) as bar:
        try:
            with tarfile.open(fileobj=joined, mode="r|", bufsize=_CHUNK) as tar:
                for entry in tar:
                    extract_entry(tar, entry, target)
                    files += entry.isreg()
                    bar.update(joined.seen - bar.n)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{pieces}: not written by `stackgan pack` ({error}); pack it again") from None
        while joined.read(_CHUNK):
            pass
    if joined.digest.hexdigest() != manifest.sha256 or files != manifest.files:
        raise ValueError(f"{pieces}: the pieces changed while they were read; unpack again")
    return files


class _Joined(io.RawIOBase):
    """Reads the concatenation of files; ``digest`` is that of all data read."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.digest = hashlib.sha256()
        self.seen = 0
        self._file: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or fewer at the end."""
        parts: list[bytes] = []
        while size > 0 and (self._file is not None or self.files):
            if self._file is None:
                self._file = self.files.pop(0).open("rb")
            part = self._file.read(size)
            if not part:
                self._file.close()
                self._file = None
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self.digest.update(data)
        self.seen += len(data)
        return data

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


def _bar(what: str, size: int) -> tqdm[Any]:
    return tqdm(total=size, desc=what, unit="B", unit_scale=True, unit_divisor=1024, disable=None, leave=False)
