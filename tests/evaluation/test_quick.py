"""Short evaluations during training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.cache import evaluation_cache
from stackgan.evaluation.features import FeatureNetwork
from stackgan.evaluation.quick import caption_agreement, quick_figures
from tests.tiny import tiny_pipeline


def test_caption_agreement_of_matching_wrong_and_random_images() -> None:
    rows = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    assert caption_agreement(rows, rows * 3) == 1.0
    assert caption_agreement(rows, rows.roll(40, 0)) == 0.0  # every image matches another caption
    random = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    assert abs(caption_agreement(rows, random) - 0.1) < 0.05
    assert caption_agreement(rows[:1].expand(20, -1), rows[:1].expand(20, -1)) == 1.0  # equal captions do not compete


def test_quick_figures_with_and_without_a_network(painted: Path) -> None:
    prepared = PreparedFolder.open(painted)
    split: PreparedSplit = prepared.splits["test"]
    pipe = tiny_pipeline(stages=1)
    state = torch.get_rng_state()
    found = quick_figures(pipe, split, None, count=40, seed=0)
    assert set(found) == {"pyramid_distance", "diversity", "caption_agreement"}
    assert torch.equal(torch.get_rng_state(), state)
    assert found == quick_figures(pipe, split, None, count=40, seed=0)
    assert all(np.isfinite(value) for value in found.values()) and 0 <= found["caption_agreement"] <= 1
    net = FeatureNetwork(lambda x: x.float().mean((2, 3)) / 255, "means", identity="means-1", preprocessing="none")
    assert quick_figures(pipe, split, net, count=40)["kernel_distance"] > 0
    kept = evaluation_cache(prepared.path) / "features" / "test"
    assert list(kept.glob("*.safetensors"))  # features of photos are cached
    bare = tiny_pipeline(stages=1, text=False)
    assert set(quick_figures(bare, split, None, count=40)) == {"pyramid_distance"}
    with pytest.raises(ValueError, match="2 images"):
        quick_figures(pipe, split, None, count=1)
