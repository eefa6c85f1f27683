"""Files and folders that appear whole or not at all: written under a temporary name beside their own, then renamed.

What a killed process leaves has ``.partial-`` or ``.replaced-`` in its name.
"""

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["atomic_file", "atomic_folder", "copy_folder", "extract_entry", "replace_folder", "write_atomic"]


@contextlib.contextmanager
def atomic_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """A temporary name to write a file under; it is renamed to ``path`` at a clean exit, and removed otherwise.

    Args:
        suffix: ending of the temporary name, for writers that take the format from it.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}{suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def atomic_folder(folder: Path, *, merge: bool = False) -> Iterator[Path]:
    """An empty temporary folder to fill; it takes the place of ``folder`` at a clean exit, and is removed otherwise.

    Args:
        merge: where ``folder`` exists, replace what has the same name in it and leave the rest. Each file is replaced
            whole, the folder is not.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if merge and folder.is_dir():
            for entry in sorted(partial.iterdir()):
                if entry.is_dir():
                    shutil.rmtree(folder / entry.name, ignore_errors=True)
                entry.replace(folder / entry.name)
        else:
            replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Rename the folder ``new`` to ``target`` on the same file system; what stands there is deleted afterwards.

    It is renamed first, to ``<target>.replaced-<pid>``, and renamed back if ``new`` cannot take its place.
    """
    old = target.with_name(f"{target.name}.replaced-{os.getpid()}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all; ``target`` must not exist, its parents are made.

    Raises:
        FileExistsError: ``target`` exists.
    """
    if target.exists():
        raise FileExistsError(f"{target}: exists, so {source} is not copied there")
    with atomic_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)


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
