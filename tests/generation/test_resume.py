"""Interrupted batches: the same command resumes to the same bytes; other folders are rejected."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import stackgan.generation.batch
import stackgan.generation.writer
from stackgan.cli.main import main
from stackgan.generation.batch import batch, generate_batch
from stackgan.pipeline import StackGANPipeline
from tests.generation.folders import TEXT, contents, manifest
from tests.generation.test_writer import threads_left
from tests.tiny import save_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


KILLED = """
import itertools, os, random, signal, sys, threading
from pathlib import Path
from stackgan.generation.batch import batch
import stackgan.generation.writer as w
import stackgan.io.files as c
import torch

torch.set_num_threads(1)
captions, checkpoint, out, moment = sys.argv[1:]
die, written = lambda: os.kill(os.getpid(), signal.SIGKILL), itertools.count(1)


def write(path, content):
    if path.suffix == ".png":
        number = next(written)
        if moment.startswith("after") and number == 1:
            threading.Timer(float(moment.split()[1]), die).start()
        elif number == int(moment.split()[1]) and moment.startswith("inside"):
            path.with_name(f".{path.name}.partial-{os.getpid()}").write_bytes(content[: len(content) // 2])
            die()
    c.write_atomic(path, content)


w.write_atomic = write
batch(Path(captions), checkpoint=Path(checkpoint), out=Path(out), count=3, batch_size=4, size=64)
"""


def test_a_stopped_batch_has_the_manifest_of_what_was_made_and_is_resumed(
    tmp_path: Path, checkpoint: Path, captions: Path, whole: dict[str, bytes]
) -> None:
    out, pipe = tmp_path / "out", StackGANPipeline.from_pretrained(checkpoint)

    def generate(stop_after: int) -> list[list[dict[str, Any]]]:
        chunks = generate_batch(
            pipe, captions, out, count=3, batch_size=4, size=64, stop=lambda: len(yielded) == stop_after
        )
        yielded: list[list[dict[str, Any]]] = []
        for records in chunks:
            yielded.append(records)
        return yielded

    made = [record for records in generate(2) for record in records]
    assert len(made) == 8 and manifest(out) == made
    assert all(contents(out)[record["file"]] == whole[record["file"]] for record in made)
    assert len(generate(0)) == 5 and contents(out) == whole


@pytest.mark.parametrize("moment", ["inside 7", "after"])
def test_a_killed_batch_continues_to_the_same_bytes(
    tmp_path: Path, checkpoint: Path, captions: Path, whole: dict[str, bytes], moment: str
) -> None:
    if moment == "after":  # at any time of the run: the assertions hold for all of them
        moment = f"after {random.SystemRandom().uniform(0, 0.15)}"
    out = tmp_path / "out"
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(captions), str(checkpoint), str(out), moment],
        env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    left = contents(out)
    if moment.startswith("inside"):
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len([name for name in left if name.endswith(".png")]) < 12  # other threads may be ahead or behind
        assert len([name for name in left if name.startswith(".") and "partial" in name]) >= 2
    finished = {name: (out / name).stat() for name in left if name in whole and name.startswith("0")}
    batch(captions, checkpoint=checkpoint, out=out, count=3, batch_size=4, size=64)
    assert contents(out) == whole
    for name, before in finished.items():
        after = (out / name).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), "not written again"


@pytest.mark.parametrize("pictures", [0, 1, 4, 11, 17])
def test_a_stopped_batch_continues_to_the_same_bytes(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    whole: dict[str, bytes],
    pictures: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, real, left = tmp_path / "out", stackgan.generation.writer.write_atomic, [pictures]

    def stop(path: Path, content: bytes) -> None:
        if path.suffix == ".png":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        real(path, content)

    arguments = ["batch", str(captions), "--checkpoint", str(checkpoint), "--out", str(out)]
    arguments += ["--count", "3", "--batch-size", "4", "--size", "64"]
    monkeypatch.setattr(stackgan.generation.writer, "write_atomic", stop)
    assert main(arguments) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not [name for name in contents(out) if "partial" in name]
    monkeypatch.undo()
    assert main(arguments) == 0
    assert contents(out) == whole


def test_lost_and_broken_files_are_painted_again_and_nothing_else(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, content in whole.items():
        (out / name).write_bytes(content)
    names = sorted(name for name in whole if name.startswith("0"))
    (out / names[5]).unlink()
    (out / names[12]).write_bytes(whole[names[12]][:-20])
    (out / names[13]).write_bytes(b"")
    written, real = [], stackgan.generation.writer.write_atomic

    def note(path: Path, content: bytes) -> None:
        written.append(path.name)
        real(path, content)

    monkeypatch.setattr(stackgan.generation.writer, "write_atomic", note)
    batch(captions, checkpoint=checkpoint, out=out, count=3, batch_size=4, size=64)
    assert contents(out) == whole
    assert sorted(written[:3]) == [names[5], names[12], names[13]]
    assert written[3:] == ["grid.png"]
    assert "3 generated" in (said := capsys.readouterr().out)
    assert "15 existed already" in said


def test_a_batch_keeps_the_number_of_threads_that_it_began_with(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, used = tmp_path / "out", []
    batch(captions, checkpoint=checkpoint, out=out, size=64)
    torch.set_num_threads(2)
    (out / "00001-1_a-small-red-bird-with-black-wings.png").unlink()
    real = stackgan.generation.writer._generate

    def spy(*arguments: Any) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(stackgan.generation.writer, "_generate", spy)
    batch(captions, checkpoint=checkpoint, out=out, size=64)
    assert used == [1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.parametrize("pictures", [1, 7, 13])
def test_blocks_of_captions_do_not_move_when_a_batch_is_stopped(
    tmp_path: Path, checkpoint: Path, captions: Path, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding of an embedding depends on the batch it is encoded in, which must be the same after a stop."""
    monkeypatch.setattr(stackgan.generation.batch, "BLOCK", 2)
    usual: dict[str, Any] = {"checkpoint": checkpoint, "count": 3, "batch_size": 2, "size": 64}
    batch(captions, out=tmp_path / "whole", **usual)
    real, left = stackgan.generation.writer.write_atomic, [pictures]

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".png":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device", str(path))
        real(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(stackgan.generation.writer, "write_atomic", full)
        with pytest.raises(OSError, match="No space left"):
            batch(captions, out=tmp_path / "out", **usual)
    assert threads_left() == []
    assert len([name for name in contents(tmp_path / "out") if name.endswith(".png")]) == pictures
    batch(captions, out=tmp_path / "out", **usual)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_folder_of_another_batch_is_refused(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    out = tmp_path / "out"
    usual: dict[str, Any] = {"checkpoint": checkpoint, "out": out, "size": 64}
    batch(captions, **usual)
    before = contents(out)
    for changed, said in (
        ({"seed": 1}, r"\(seed 0 there, 1 here\)"),
        ({"count": 2, "truncation": 0.5}, r"\(count 1 there, 2 here, truncation 1.0 there, 0.5 here\)"),
        ({"size": 128}, "size 64 there, 128 here"),
        ({"batch_size": 8}, "batch_size 16 there, 8 here"),
        ({"checkpoint": save_tiny_checkpoint(tmp_path / "other", seed=1)}, "another checkpoint"),
    ):
        with pytest.raises(ValueError, match=said):
            batch(captions, **(usual | changed))
    captions.write_text(TEXT + "\na new bird", "utf-8")
    with pytest.raises(ValueError, match=r"another captions file.*name another folder"):
        batch(captions, **usual)
    assert contents(out) == before

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="not empty and not a batch"):
        batch(captions, checkpoint=checkpoint, out=tmp_path / "photos")
    (out / "batch.json").write_text("[]")
    with pytest.raises(ValueError, match="not a batch of this program"):
        batch(captions, **usual)


@pytest.mark.skipif(os.name != "posix", reason="locks of folders are POSIX")
def test_two_batches_at_once_in_one_folder_are_refused(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another batch is writing to this folder"):
            batch(captions, checkpoint=checkpoint, out=out)
    assert batch(captions, checkpoint=checkpoint, out=out, size=64) == 0
