"""Fixtures that several test files use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores; torch reads it at its import
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


LONG = ("test_readme.py", "test_wheel.py", "test_bundled.py")  # few tests of a minute or more


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with several workers none has one of them left at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The material beside the repository (real photos, golden outputs); a user's machine does not have it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "README.md").exists():
        pytest.skip("../shared is not here")
    return folder


@pytest.fixture(scope="session")
def few_birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of 16 painted birds to train on and 12 to test on.

    Their 160 captions are too few for statistics of captions, whose measurement would take half of a short run.
    """
    from data_prep.painted import prepare_painted

    folder = tmp_path_factory.mktemp("few-birds") / "painted"
    prepare_painted(folder, count=16, seed=5, test_count=12, workers=1)
    return folder


@pytest.fixture(scope="session")
def finished_run(few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that saw each of :func:`few_birds` once, with the networks of ``tests.tiny.TINY``."""
    from stackgan.config import preset
    from stackgan.training.loop import train
    from tests.tiny import TINY

    folder = tmp_path_factory.mktemp("finished-run") / "run"
    assert train(few_birds, folder, preset("quickstart", [*TINY, "train.images=16"]), device="cpu") == 0
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a feature network of a few weights."""
    from tests.tiny import save_tiny_features

    return save_tiny_features(tmp_path_factory.mktemp("features"))
