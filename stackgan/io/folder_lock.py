"""Locks of folders that one process at a time may write: a lock of the operating system, and a file that says whose.

The system releases its lock when the process ends in whatever way, so that the file of a process that was killed, of
another program that got its number, or of another machine the folder was copied from never keeps a folder locked.
Only where the file system has no locks is the process named in the file looked up.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stackgan.io.json_reader import parse_json

__all__ = ["LOCK", "FolderLocked", "folder_lock"]

LOCK = "train.lock"
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}
_LOCKED_BYTE = 2**30  # on Windows locked bytes cannot be read, so one beyond the content is locked


class FolderLocked(ValueError):
    """Another process writes the folder."""


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[str]:
    """Hold the lock of ``folder`` within the context.

    The value is a sentence about the process that ended without releasing it; empty if there is none.

    Raises:
        FolderLocked: another process holds it; the message names host and process.
    """
    file = folder / LOCK
    descriptor = _open_locked(file)
    try:
        before = _read(descriptor)
        _write(descriptor, _this_process())
        yield _left_by(before)
    finally:
        with contextlib.suppress(OSError):  # on Windows an open file cannot be deleted
            os.ftruncate(descriptor, 0)
            file.unlink(missing_ok=True)
        os.close(descriptor)


def _open_locked(file: Path) -> int:
    """Open and lock ``file``; repeated where its last holder deleted it in between."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            locked = _lock(descriptor)
            holder = _read(descriptor)
            if locked is False or (locked is None and _may_run(holder)):
                raise FolderLocked(_refusal(file, holder, certain=locked is False))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file for this process; False if another one has it locked, None without locks on its disk."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _WITHOUT_LOCKS else False
    return True


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "began": _beginning(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _beginning(process: int) -> str | None:
    """What tells a process from a later one of the same number: boot of the machine, start of the process (Linux)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot} {fields[19]}"  # field 22 of proc(5), as the first two are cut off


def _read(descriptor: int) -> dict[str, Any]:
    """The content of a lock file; empty where it has none, or an unfinished one."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return dict(parse_json(os.read(descriptor, 4096) or b"{}", "lock"))
    except ValueError:
        return {}


def _write(descriptor: int, content: dict[str, Any]) -> None:
    """A full disk leaves the file empty: the lock holds without it, and the refusal then names no process."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(content).encode() + b"\n")


def _may_run(holder: dict[str, Any]) -> bool:
    """Whether the process named in a lock file may still run; used where the file system has no locks."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    process = holder.get("process")
    if not isinstance(process, int) or not _exists(process):
        return False
    began = _beginning(process)
    return began is None or holder.get("began") in (None, began)


def _exists(process: int) -> bool:
    if sys.platform == "win32":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder.get('process')} on {holder.get('host')} (since {holder.get('since')})"


def _refusal(file: Path, holder: dict[str, Any], *, certain: bool) -> str:
    who = _named(holder) if holder else "another process"
    message = f"{file.parent}: {who} is training in this folder; wait for it, stop it, or name another folder"
    if certain:
        return message
    return f"{message}. If it has ended, delete {file}: this disk has no file locks, so that it cannot be told"


def _left_by(before: dict[str, Any]) -> str:
    return f"{_named(before)} ended without releasing this folder" if before else ""
