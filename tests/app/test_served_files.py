"""Files that are served are written once, and never seen half written."""

import os
import threading
from pathlib import Path

import pytest

from stackgan.app.served_files import served_file

DAY = 24 * 3600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def test_the_same_content_is_one_file_that_is_not_written_again(folder: Path) -> None:
    file = Path(served_file("bird.png", b"content"))
    assert file.read_bytes() == b"content" and file.name == "bird.png" and folder in file.parents
    assert Path(served_file("bird.png", b"other")).parent != file.parent
    before = file.stat()
    os.utime(file, (before.st_atime - DAY, before.st_mtime - DAY))
    with file.open("rb") as being_sent:
        assert served_file("bird.png", b"content") == str(file)
        assert being_sent.read() == b"content"
    assert file.stat().st_ino == before.st_ino and file.stat().st_mtime > before.st_mtime - 1


def test_requests_at_the_same_time_get_whole_files(folder: Path) -> None:
    content, start, seen = b"x" * 1_000_000, threading.Barrier(4), []

    def request() -> None:
        start.wait()
        seen.append(len(Path(served_file("bird.png", content)).read_bytes()))

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [len(content)] * 4
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["bird.png"]
