"""Files written whole or not at all; folders that take the place of another, or come out of an archive."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

__all__ = ["extract_entry", "replace_folder", "replacing", "write_atomic"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to: renamed to ``path`` at a clean exit, removed otherwise."""
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def replace_folder(new: Path, target: Path, old: Path) -> None:
    """Give ``new`` the name ``target``; what stands there waits as ``old``, and comes back if that fails.

    All three lie on one file system, and ``old`` does not exist.
    """
    if target.exists():
        target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def extract_entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    """Write a file or folder of an archive below ``target``, and nothing else.

    Stricter than tarfile's filter "data", which has links, and which Python 3.11.2 (Debian 12) has not.

    Raises:
        tarfile.ExtractError: a link, a device, or a name that leads out of the folder.
    """
    path, parts = target / entry.name, PurePosixPath(entry.name).parts
    inside = path.resolve().is_relative_to(target.resolve()) and ".." not in parts
    if not inside or not (entry.isreg() or entry.isdir()):
        raise tarfile.ExtractError(f"{entry.name!r} is a link or leads out of the folder: nothing was unpacked")
    if entry.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(entry)
    assert content is not None  # of a regular file
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, 2**20)
