"""Fixtures of generation: an untrained checkpoint, a captions file, a complete batch."""

from pathlib import Path

import pytest

from stackgan.generation.batch import batch
from tests.generation.folders import TEXT, contents
from tests.tiny import save_tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    file = tmp_path / "captions.txt"
    file.write_text(TEXT, "utf-8")
    return file


@pytest.fixture(scope="module")
def whole(one_thread: None, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a complete batch."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "captions.txt").write_text(TEXT, "utf-8")
    batch(folder / "captions.txt", checkpoint=checkpoint, out=folder / "out", count=3, batch_size=4, size=64)
    return contents(folder / "out")
