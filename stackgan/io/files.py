"""Atomic writes of files and folders: written under a temporary name in the same folder, then renamed.

Left-over files of a killed process have ``.partial-`` or ``.replaced-`` in their names; :func:`clear_leftovers`
removes them.
"""

import contextlib
import errno
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

__all__ = [
    "atomic_file",
    "atomic_folder",
    "clear_leftovers",
    "copy_folder",
    "extract_entry",
    "full_disk",
    "is_utf8",
    "replace_folder",
    "shown_name",
    "sync_folder",
    "write_atomic",
]

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # full disk, file too large, quota
# Ends a line, or changes what a terminal shows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in the messages of libraries written in Rust, as safetensors
_LEFTOVER = re.compile(r"\.?(?P<name>.+)\.(?P<kind>partial|replaced)-\d+(\.\w+)?")


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


def sync_folder(folder: Path) -> None:
    """Wait until the renames in ``folder`` are on the disk; without effect on Windows, where it cannot be opened."""
    with contextlib.suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some network file systems do not implement it
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def full_disk(error: BaseException) -> str | None:
    """The system's description if ``error``, or its cause, is a full disk, an exceeded quota or file size limit.

    >>> full_disk(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device'
    >>> full_disk(OSError(errno.EACCES, "Permission denied")) is None
    True
    """
    found: BaseException | None = error
    while found is not None:
        number = found.errno if isinstance(found, OSError) else None
        if number is None and (match := _OS_ERROR.search(str(found))):
            number = int(match[1])
        if number is not None and number in FULL:
            return os.strerror(number)
        found = found.__cause__ or found.__context__
    return None


def clear_leftovers(folder: Path, ours: Callable[[str], bool]) -> list[str]:
    """Remove temporary files and folders of killed processes in ``folder``; returns their names, sorted.

    A folder that was renamed away and not yet replaced is renamed back.

    Args:
        ours: whether a file or folder of this name is written by the caller alone; others may be in use.
    """
    cleared = []
    for path in sorted(folder.iterdir()):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or not ours(match["name"]):
            continue
        target = folder / match["name"]
        cleared.append(path.name)
        if match["kind"] == "replaced" and not target.exists():
            path.replace(target)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return cleared


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
    """A file name for messages and JSON: what is not UTF-8, and what controls a terminal, as backslash escapes.

    >>> print(shown_name(b"caf\\xe9.jpg".decode("utf-8", "surrogateescape")))
    caf\\xe9.jpg
    >>> print(shown_name("a\\x1b[31m\\nb.jpg"))
    a\\x1b[31m\\nb.jpg
    """
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        text = name.encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda mark: mark[0].encode("unicode_escape").decode(), text)
