"""Locks of folders: held by one process, and never by one that has ended."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stackgan.io.folder_lock import LOCK, FolderLocked, folder_lock

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from pathlib import Path
from stackgan.io.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process


def test_a_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with _another_process(tmp_path) as process:
        with pytest.raises(FolderLocked) as caught, folder_lock(tmp_path):
            pass
        assert f"process {process.pid} on {socket.gethostname()}" in str(caught.value)
    with folder_lock(tmp_path) as ended:
        assert ended == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left by processes that end"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with _another_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with folder_lock(tmp_path) as ended:
            assert f"process {process.pid} on" in ended and "ended without releasing" in ended


def test_a_lock_is_held_within_one_process_too(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        with pytest.raises(FolderLocked, match=f"process {os.getpid()} on"), folder_lock(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file(), "the refused one does not release it"
    with folder_lock(tmp_path):
        pass


def _left(folder: Path, **changes: object) -> None:
    with folder_lock(folder):
        content = json.loads((folder / LOCK).read_text())
    (folder / LOCK).write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    "changes",
    [{"host": "elsewhere"}, {"began": "a process of the same number that began at another time"}, {}],
    ids=["of another machine", "number in use again", "as of this process"],
)
def test_a_file_that_is_left_locks_nothing(tmp_path: Path, changes: dict[str, object]) -> None:
    _left(tmp_path, **changes)
    with folder_lock(tmp_path) as ended:
        assert "ended without releasing" in ended


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"process": "x"}'])
def test_any_content_of_the_file_is_understood(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with folder_lock(tmp_path):
        pass


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system without locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_the_named_process_is_looked_up(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(FolderLocked, match=r"delete .*train\.lock"), folder_lock(tmp_path):
        pass
    _left(tmp_path, began="a process of the same number that began at another time")
    with folder_lock(tmp_path) as ended:
        assert ended
    _left(tmp_path, process=2**22 + 1)  # beyond the largest number of a process
    with folder_lock(tmp_path):
        pass
    _left(tmp_path, host="elsewhere")
    with pytest.raises(FolderLocked, match="on elsewhere"), folder_lock(tmp_path):
        pass
