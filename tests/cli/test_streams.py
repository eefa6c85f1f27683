"""Closed streams, closed pipes and encodings without some characters: the images are written anyway."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stackgan.generation.writer import is_whole
from tests.tiny import save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "stackgan"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save_tiny_checkpoint(folder)
    return folder


def _close(*descriptors: int) -> Callable[[], None]:
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def _run(arguments: list[str], closed: tuple[int, ...] = (), **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*PROGRAM, *arguments], cwd=ROOT, env=environment, preexec_fn=_close(*closed) if closed else None, **options
    )


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)], ids=str)
def test_a_service_without_streams_gets_its_images(tmp_path: Path, checkpoint: Path, closed: tuple[int, ...]) -> None:
    command = ["generate", "a red bird", "--checkpoint", str(checkpoint), "--seeds", "0", "--out", str(tmp_path)]
    assert _run(command, closed).returncode == 0
    assert [is_whole(file) for file in tmp_path.glob("*.png")] == [True]


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
def test_a_closed_pipe_does_not_end_a_batch(tmp_path: Path, checkpoint: Path, stream: str) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red bird\nquibbling zebras\na blue bird\n")
    reading, writing = os.pipe()
    os.close(reading)
    command = ["batch", str(captions), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
    pipes = {name: writing if stream in (name, "both") else subprocess.PIPE for name in ("stdout", "stderr")}
    finished = _run(command, stdout=pipes["stdout"], stderr=pipes["stderr"])
    os.close(writing)
    assert finished.returncode == 0
    assert b"roken pipe" not in (finished.stderr or b"") + (finished.stdout or b"")
    assert len(list((tmp_path / "out").glob("0*.png"))) == 3 and (tmp_path / "out" / "manifest.jsonl").is_file()


def test_a_full_disk_under_the_output_does_not_end_a_command(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "captions.txt").write_text("a red bird\n")
    captions = str(tmp_path / "captions.txt")
    arguments = ["batch", captions, "--checkpoint", str(checkpoint), "--out", str(tmp_path / "o")]
    with Path("/dev/full").open("wb") as full:
        assert _run(arguments, stdout=full, stderr=full).returncode == 0
    assert len(list((tmp_path / "o").glob("0*.png"))) == 1


def test_help_into_a_closed_pipe_ends_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    finished = _run(["--help"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert finished.returncode == 0 and finished.stderr == b""


def test_a_caption_with_an_accent_in_the_c_locale(tmp_path: Path, checkpoint: Path) -> None:
    command = ["generate", "a caf\xe9 bird", "--checkpoint", str(checkpoint), "--seeds", "0", "--out", str(tmp_path)]
    finished = _run(command, env={"LC_ALL": "C"}, capture_output=True)
    assert finished.returncode == 0 and len(list(tmp_path.glob("*cafe*.png"))) == 1


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path, checkpoint: Path) -> None:
    command = ["generate", "a café bird", "--checkpoint", str(checkpoint), "--seeds", "0", "--out", str(tmp_path)]
    finished = _run(command, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}, capture_output=True)
    assert finished.returncode == 0 and len(list(tmp_path.glob("*.png"))) == 1
