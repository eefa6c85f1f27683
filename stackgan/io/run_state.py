"""Private state of a training run, in two generations: ``state.pt`` and, of the save before, ``state.previous.pt``.

A state file is what ``torch.save`` writes (a zip archive), with the sha256 of its content as the archive's comment.
It is written under a temporary name and is on the disk before it gets its name, so that a killed process or a power
failure leaves a complete generation; should the newest one be damaged, the one before is used.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from stackgan.io.files import atomic_file, sync_folder

__all__ = ["STATE", "DamagedState", "SavedState", "has_state", "load_state", "newest_state", "save_state"]

STATE, PREVIOUS, DAMAGED = "state.pt", "state.previous.pt", "state.damaged.pt"
_COMMENT = re.compile(rb"sha256:([0-9a-f]{64})")
_LENGTH = len("sha256:") + 64
_CHUNK = 2**20


class DamagedState(ValueError):
    """A state file is incomplete, or its content does not match its digest."""


@dataclass(frozen=True)
class SavedState:
    """The newest readable state of a run.

    Attributes:
        damaged: the newer file that was not readable, if any.
        reason: why ``file`` is not ``state.pt``, for a message; empty if it is.
    """

    file: Path
    state: dict[str, Any]
    damaged: Path | None = None
    reason: str = ""

    def set_damaged_aside(self) -> None:
        """Rename the damaged file to ``state.damaged.pt``, so that no save moves it over the readable one."""
        if self.damaged is not None:
            self.damaged.replace(self.damaged.with_name(DAMAGED))
            sync_folder(self.damaged.parent)


def has_state(folder: Path) -> bool:
    """Whether ``folder`` holds a run's state, of either generation."""
    return any((folder / name).is_file() for name in (STATE, PREVIOUS))


def save_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write a state (tensors, numbers, strings in plain containers); an existing ``file`` becomes the one before.

    The new file and its name are on the disk when the function returns.

    Raises:
        OSError: it could not be written, for example as the disk is full; the existing files are kept.
    """
    with atomic_file(file) as partial:
        with partial.open("wb", buffering=0) as stream:
            _write(stream, state)
            os.fsync(stream.fileno())
        if file.exists():
            file.replace(file.with_name(PREVIOUS))
    sync_folder(file.parent)


def load_state(file: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; tensors and plain values only, never arbitrary pickled objects.

    Files of earlier versions have no digest and are read as well.

    Raises:
        DamagedState: the file is incomplete or changed.
        ValueError: the file is intact, and cannot be read.
    """
    intact = _matches_digest(file)
    if intact is False:
        raise DamagedState(f"{file}: damaged, its content does not match its sha256")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = f"unreadable run state ({error.__class__.__name__})"
        if intact is None:
            raise DamagedState(f"{file}: {reason}") from error
        raise ValueError(
            f"{file}: {reason}, although the file is complete; use the versions of stackgan and torch that wrote it"
        ) from error


def newest_state(folder: Path) -> SavedState | None:
    """The newest readable state in ``folder``; None if there is none.

    Raises:
        ValueError: no generation is readable, or a complete one cannot be read.
    """
    files = [folder / name for name in (STATE, PREVIOUS) if (folder / name).is_file()]
    damages: list[str] = []
    for file in files:
        try:
            state = load_state(file)
        except DamagedState as error:
            damages.append(str(error))
            continue
        if damages:
            return SavedState(file, state, files[0], f"{damages[0]}; using the one saved before it, {file.name}")
        missing = f"{folder / STATE}: missing, as a save was interrupted; using the one saved before it, {file.name}"
        return SavedState(file, state, reason="" if file.name == STATE else missing)
    if not files:
        return None
    names = " and ".join(file.name for file in files)
    raise ValueError(f"{'; '.join(damages)}; restore a copy of it, or delete {names} to start over")


class _Hashed:
    """Stream for ``torch.save`` that hashes what is written; the first error is kept, as torch would replace it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.digest = stream, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        count = left.nbytes
        self.digest.update(left)
        try:
            while left and self.error is None:
                left = left[self.stream.write(left) :]
        except OSError as error:
            self.error = error
        return count

    def flush(self) -> None:
        """Nothing is buffered."""


def _write(stream: IO[bytes], state: Mapping[str, Any]) -> None:
    hashed = _Hashed(stream)
    torch.save(dict(state), cast(IO[bytes], hashed))
    if hashed.error is not None:
        raise hashed.error
    stream.seek(-2, os.SEEK_END)  # the length of the archive's comment, 0 so far, ends the file
    stream.write(struct.pack("<H", _LENGTH) + f"sha256:{hashed.digest.hexdigest()}".encode())


def _matches_digest(file: Path) -> bool | None:
    """Whether the content of ``file`` has the sha256 in its comment; None without one."""
    digest = hashlib.sha256()
    left = file.stat().st_size - _LENGTH - 2
    if left < 0:
        return None
    with file.open("rb") as stream:
        stream.seek(left + 2)
        comment = _COMMENT.fullmatch(stream.read())
        if comment is None:
            return None
        stream.seek(0)
        while left:
            chunk = stream.read(min(_CHUNK, left))
            digest.update(chunk)
            left -= len(chunk)
    digest.update(bytes(2))
    return digest.hexdigest().encode() == comment[1]
