"""Data of the tests of this folder, which run when their file is named."""

from pathlib import Path

import pytest

from data_prep.painted import prepare_painted


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Painted birds by their side: 24 for training and 12 for test."""
    folder = tmp_path_factory.mktemp("data")
    for size in (64, 128):
        prepare_painted(folder / f"{size}", count=24, seed=5, size=size, test_count=12, workers=1)
    return {size: folder / f"{size}" for size in (64, 128)}
