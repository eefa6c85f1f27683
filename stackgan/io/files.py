"""Atomic writes of files and folders: written under a temporary name in the same folder, then renamed.

Left-over files of a killed process have ``.partial-`` or ``.replaced-`` in their names.
"""

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = [
    "atomic_file",
    "atomic_folder",
    "copy_folder",
    "extract_entry",
    "is_utf8",
    "replace_folder",
    "shown_name",
    "write_atomic",
]


@contextlib.contextmanager
def atomic_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Temporary name for a file, renamed to ``path`` at a normal exit of the context and removed otherwise.

    Args:
        suffix: of the temporary name, for writers that derive the format from it.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}{suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_file(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def atomic_folder(folder: Path, *, merge: bool = False) -> Iterator[Path]:
    """Empty temporary folder, which replaces ``folder`` at a normal exit of the context and is removed otherwise.

    Args:
        merge: if ``folder`` exists, replace files of the same name and keep the others. Each file is replaced
            atomically, the folder is not.
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
    """Rename the folder ``new`` to ``target`` on the same file system; an existing ``target`` is deleted afterwards.

    The existing folder is first renamed to ``<target>.replaced-<pid>``, and renamed back on an error.
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
    """Copy a folder atomically; ``target`` must not exist, its parents are created.

    Raises:
        FileExistsError: ``target`` exists.
    """
    if target.exists():
        raise FileExistsError(f"{target}: exists, so {source} is not copied there")
    with atomic_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)


def extract_entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    """Extract a file or folder of an archive below ``target``.

    Stricter than tarfile's filter "data", which allows links and is missing in Python 3.11.2 (Debian 12).

    Raises:
        tarfile.ExtractError: the entry is a link or a device, or its name leads out of the folder.
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
    assert content is not None  # as it is a regular file
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, 2**20)


def is_utf8(text: str) -> bool:
    """Whether a string can be written as UTF-8: file names in other encodings and lone surrogates cannot.

    >>> is_utf8("café"), is_utf8(b"caf\\xe9".decode("utf-8", "surrogateescape"))
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_name(name: str) -> str:
    """A file name for messages and JSON: bytes that are not UTF-8, and lone surrogates, as backslash escapes.

    >>> print(shown_name(b"caf\\xe9.jpg".decode("utf-8", "surrogateescape")))
    caf\\xe9.jpg
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return name.encode("utf-8", "backslashreplace").decode()
