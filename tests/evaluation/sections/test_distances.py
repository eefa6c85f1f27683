"""Distances are reported with the name of their network."""

from __future__ import annotations

import pytest
import torch

from stackgan.evaluation.features import FeatureNetwork, FeatureSet
from stackgan.evaluation.sections.distances import distance_table, distances


def test_only_inception_is_called_fid() -> None:
    pytest.importorskip("torch_fidelity")
    generator = torch.Generator().manual_seed(0)
    x, y = (
        FeatureSet(torch.randn(80, 6, generator=generator) + shift, torch.randn(80, 5, generator=generator))
        for shift in (0, 1)
    )
    network = FeatureNetwork(lambda levels: levels, "net", identity="net-1", preprocessing="none")
    own = distances(network, x, y)
    assert {"frechet_distance", "kernel_distance", "class_score"} < set(own)
    network.inception = True
    official = distances(network, x, y)
    assert {"FID", "KID", "inception_score"} < set(official) and not {"FID", "KID"} & set(own)
    assert official["FID"] == pytest.approx(own["frechet_distance"], rel=1e-3)
    assert official["KID"]["subset_size"] == 80
    assert official["KID"]["value"] == pytest.approx(own["kernel_distance"]["value"], rel=1e-4)
    for key in ("precision", "recall", "density", "coverage"):
        assert official[key] == own[key]
    header = [row[0] for row in distance_table(network, {"captions": official}).rows]
    assert header[:3] == ["FID", "KID", "Inception score"]
