"""Inception: its name, its weights, and the message without them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor

import stackgan.evaluation.inception as inception
from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.image_sets import (
    Photos,
)
from stackgan.evaluation.metrics import frechet_distance
from tests.evaluation.command import command_for
from tests.tiny import save_tiny_checkpoint


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> type:
    """A small version of torch-fidelity's Inception, with the expected digest set to that of its weights."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Small(torch.nn.Module):
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert features_list == ["2048", "logits_unbiased"]
            self.weights = torch.load(feature_extractor_weights_path, weights_only=True)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            assert x.dtype == torch.uint8
            pooled = torch.nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)
            return pooled, pooled @ self.weights["w"]

    monkeypatch.setattr(fidelity, "FeatureExtractorInceptionV3", Small)
    return Small


@pytest.mark.usefixtures("untrained_networks", "extractor")
def test_inception_from_a_file(painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"w": torch.randn(12, 7, generator=torch.Generator().manual_seed(0)) * 5}, weights)
    import hashlib

    monkeypatch.setattr(inception, "DIGEST", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    out = tmp_path / "report"
    assert main(command_for(checkpoint, painted, out, "--inception", str(weights))) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    figures = report["sections"]["distances"]["figures"]["Inception-v3, torch-fidelity"]["captions"]
    photos = Photos(PreparedFolder.open(painted).splits["test"], 64)
    network = inception.load_inception(str(weights))
    files = sorted((out / "cache").glob("painted-*.npy"))
    pictures = torch.from_numpy(np.concatenate([np.load(file) for file in files])).permute(0, 3, 1, 2)
    expected = frechet_distance(network.extract(pictures).features, photos.features(network).features)
    assert figures["FID"] == pytest.approx(expected, rel=1e-3) and figures["inception_score"]["value"] >= 1
    assert "299 px" in report["sections"]["distances"]["protocol"]
    assert "FID" in (out / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("untrained_networks")
def test_without_the_weights_it_reports_what_to_fetch_and_where_to_put_it(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_fidelity")
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    place = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    assert main(command_for(checkpoint, painted, tmp_path / "report", "--inception", "auto")) == 2
    said = capsys.readouterr().err
    assert "https://github.com/toshas/torch-fidelity/releases/" in said and str(place) in said and "no route" in said
    assert not (tmp_path / "report").exists()  # reported before anything is generated

    assert main(command_for(checkpoint, painted, tmp_path / "report", "--inception", str(tmp_path / "none.pth"))) == 2
    assert "none.pth: does not exist; download https://" in capsys.readouterr().err
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"half a file")
    assert main(command_for(checkpoint, painted, tmp_path / "report", "--inception", "auto")) == 2
    assert "not the Inception weights of FID" in capsys.readouterr().err


def test_inception_without_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match=re.escape('pip install "stackgan[eval]"')):
        inception.load_inception("auto")
