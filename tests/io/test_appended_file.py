"""Files that records are appended to, on a disk with and without space."""

from pathlib import Path

import pytest

from stackgan.io.appended_file import AppendedFile
from tests.limits import largest_file


def test_a_record_is_written_whole_or_waits(tmp_path: Path) -> None:
    file = AppendedFile(tmp_path / "log")
    file.append(b"one\n")
    with largest_file(6):
        for record in (b"two\n", b"three\n"):
            with pytest.raises(OSError, match="log"):
                file.append(record)
        with pytest.raises(OSError, match="log"):
            file.append(b"not kept\n", keep=False)
        assert (tmp_path / "log").read_bytes() == b"one\n", "no part of a record"
        with pytest.raises(OSError):
            file.sync()
    file.append(b"four\n")
    file.sync()
    file.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\nfour\n"


def test_appending_goes_on_after_what_is_there(tmp_path: Path) -> None:
    for record in (b"one\n", b"two\n"):
        file = AppendedFile(tmp_path / "log")
        file.append(record)
        file.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
