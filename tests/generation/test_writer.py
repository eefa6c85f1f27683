"""Chunks of images to PNGs: files are written while the next chunks are generated; names are safe."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import stackgan.generation.batch
import stackgan.generation.writer
from stackgan.generation.batch import batch
from stackgan.generation.writer import slug
from tests.generation.folders import contents

pytestmark = pytest.mark.usefixtures("one_thread")


def test_slugs_are_safe_and_end_with_a_word() -> None:
    assert slug("../../etc/passwd\t*?") == "etc-passwd"
    assert slug("  ") == slug("火") == ""
    assert slug("word " * 30) == "-".join(["word"] * 12)
    assert len(slug("x" * 500)) == 60


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("png", "captions"))]


def test_files_are_written_while_the_next_chunks_are_painted(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing the first file waits for the third chunk's generation: a deadlock without overlap."""
    third, painted, ahead = threading.Event(), [0], [0]
    paint, save = stackgan.generation.writer._generate, stackgan.generation.writer.write_png
    written: list[str] = []

    def counted(*arguments: Any) -> torch.Tensor:
        painted[0] += 1
        ahead.append(3 * painted[0] - len(written))
        if painted[0] == 3:
            third.set()
        return paint(*arguments)

    def held(file: Path, *arguments: Any) -> None:
        assert third.wait(30)
        save(file, *arguments)
        written.append(file.name)

    monkeypatch.setattr(stackgan.generation.writer, "_generate", counted)
    monkeypatch.setattr(stackgan.generation.writer, "write_png", held)
    batch(captions, checkpoint=checkpoint, out=tmp_path / "out", count=6, batch_size=3, size=64)
    assert painted[0] == 12 and len(written) == 36
    assert max(ahead) <= 9, "three chunks at most are in memory"
    assert threads_left() == []


def test_the_grid_is_drawn_while_the_rest_is_painted(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last chunk waits for the grid of the first images: a deadlock if it is drawn at the end."""
    drawn, painted = threading.Event(), [0]
    paint, draw = stackgan.generation.writer._generate, stackgan.generation.batch.write_grid

    def last_waits(*arguments: Any) -> torch.Tensor:
        painted[0] += 1
        assert painted[0] < 6 or drawn.wait(30)
        return paint(*arguments)

    def told(out: Path, records: list[dict[str, Any]]) -> None:
        assert [record["copy"] for record in records] == [1, 2, 3, 1]
        draw(out, records)
        drawn.set()

    monkeypatch.setattr(stackgan.generation.batch, "GRID_IMAGES", 4)
    monkeypatch.setattr(stackgan.generation.writer, "_generate", last_waits)
    monkeypatch.setattr(stackgan.generation.batch, "write_grid", told)
    batch(captions, checkpoint=checkpoint, out=tmp_path / "out", count=3, batch_size=3, size=64)
    assert painted[0] == 6
    assert (tmp_path / "out" / "grid.png").is_file()


def test_ctrl_c_keeps_what_has_been_painted(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paint, painted = stackgan.generation.writer._generate, [0]

    def stop(*arguments: Any) -> torch.Tensor:
        painted[0] += 1
        if painted[0] == 4:
            raise KeyboardInterrupt
        return paint(*arguments)

    usual: dict[str, Any] = {"checkpoint": checkpoint, "count": 3, "batch_size": 4, "size": 64}
    with monkeypatch.context() as patched:
        patched.setattr(stackgan.generation.writer, "_generate", stop)
        with pytest.raises(KeyboardInterrupt):
            batch(captions, out=tmp_path / "out", **usual)
    assert "stopped at 12 of 18 images" in capsys.readouterr().err
    assert len([name for name in contents(tmp_path / "out") if name.startswith("0")]) == 12
    assert threads_left() == []
    batch(captions, out=tmp_path / "out", **usual)
    assert contents(tmp_path / "out") == whole
