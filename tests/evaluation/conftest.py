"""Painted birds and untrained networks for tests of the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.painted import (
    prepare_painted,
)
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.writer import PreparedWriter
from stackgan.evaluation.attribute_classifier import (
    AttributeClassifier,
)
from stackgan.evaluation.image_text_scorers import (
    CompactScorer,
)
from stackgan.pipeline import StackGANPipeline
from stackgan.text.compact import CompactEncoder
from tests.tiny import save_tiny_features


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=40, seed=2, test_count=60, workers=1)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=10, seed=2, test_count=12, workers=1)
    return PreparedFolder.open(folder)


@pytest.fixture(scope="session")
def many_birds(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """Enough of them for comparisons of sets: 120 to train on and 240 to test on."""
    folder = tmp_path_factory.mktemp("many-birds") / "painted"
    prepare_painted(folder, count=120, seed=4, test_count=240, workers=1)
    return PreparedFolder.open(folder)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    """Nine photos of three species, with five, three and one photos."""
    folder = tmp_path_factory.mktemp("data") / "birds"
    rng = np.random.default_rng(0)
    with PreparedWriter(folder, kind="folder", size=32, crop="none", source={}) as writer:
        for i, species in enumerate("aaaaabbbc"):
            captions = (f"a bird with {i} spots", f"a {species} bird, number {i}", "A  bird.")
            writer.add("test", rng.integers(0, 256, (38, 38, 3), dtype=np.uint8), Record(str(i), captions, species))
    return PreparedFolder.open(folder).splits["test"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_features(tmp_path_factory.mktemp("features"))


@pytest.fixture
def untrained_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training: a random attribute classifier, and the checkpoint's own encoder as the only scorer."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        untrained = AttributeClassifier()
    monkeypatch.setattr("stackgan.evaluation.context.load_or_train_attribute_classifier", lambda file: untrained)
    monkeypatch.setattr("stackgan.evaluation.context.choose_scorers", _own_scorer)


def _own_scorer(pipe: StackGANPipeline, *_: Any, **__: Any) -> dict[str, Any]:
    return {"own": CompactScorer(pipe.text_encoder)} if isinstance(pipe.text_encoder, CompactEncoder) else {}
