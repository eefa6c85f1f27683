"""Feature networks: images -> feature vectors, for distances between sets of images.

Three kinds with one interface: the built-in :class:`Pyramid` without weights, a network in a user's folder, and
Inception (:mod:`stackgan.evaluation.inception`), the only one whose distances are called FID and KID.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.images.pixels import from_levels

__all__ = ["FeatureNetwork", "FeatureSet", "Pyramid", "load_features", "pyramid_features"]

BATCH = 64


@dataclass(frozen=True)
class FeatureSet:
    """Outputs of a feature network for N images: features (N, D), and log-probabilities (N, K) if it has classes."""

    features: Tensor
    log_probs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Tensor) -> FeatureSet:
        return FeatureSet(self.features[rows], None if self.log_probs is None else self.log_probs[rows])

    @staticmethod
    def join(parts: list[FeatureSet]) -> FeatureSet:
        probs = [part.log_probs for part in parts if part.log_probs is not None]
        return FeatureSet(torch.cat([part.features for part in parts]), torch.cat(probs) if probs else None)


class FeatureNetwork:
    """A feature network with its name in reports and its identity in caches.

    Args:
        net: uint8 images (B, 3, H, W) -> features (B, D), or (features, class probabilities or None).
        name: in reports.
        identity: name and digest of code and weights, part of the names of cached features.
        preprocessing: description of the network's preprocessing.
        inception: whether these are the features that define FID; the second output of ``net`` are then logits.
    """

    def __init__(
        self,
        net: Callable[[Tensor], Any],
        name: str,
        *,
        identity: str,
        preprocessing: str,
        inception: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.net = net.to(device) if isinstance(net, nn.Module) else net
        self.name, self.identity, self.preprocessing = name, identity, preprocessing
        self.inception, self.device = inception, torch.device(device)

    @torch.inference_mode()
    def extract(self, levels: Tensor) -> FeatureSet:
        """uint8 images (N, 3, H, W) -> their features, on the CPU."""
        found = []
        for part in levels.split(BATCH):
            out = self.net(part.to(self.device))
            features, classes = out if isinstance(out, tuple) else (out, None)
            if classes is not None:
                classes = classes.float().log_softmax(1) if self.inception else classes.float().clamp_min(1e-12).log()
            found.append(FeatureSet(features.float().cpu(), None if classes is None else classes.cpu()))
        return FeatureSet.join(found)


class Pyramid(nn.Module):
    """Features of a Laplacian pyramid, without learned weights: uint8 images (B, 3, H, W) -> (B, 336).

    For each colour channel, the image at 8 × 8 and the root mean square of three finer bands of its Laplacian pyramid
    (Burt and Adelson 1983) in 4 × 4 cells: the layout of colours, and the amount of fine, medium and coarse detail.
    Distances respond to blur, noise, wrong colours and missing variety; they are not specific to birds.
    """

    SIDE, BANDS, CELLS = 64, 3, 4
    GAIN = 4.0  # scales the bands to the standard deviation of the 8 × 8 colours on real photos

    def forward(self, images: Tensor) -> Tensor:
        x = from_levels(images)
        if x.shape[-2:] != (self.SIDE, self.SIDE):
            x = F.interpolate(x, (self.SIDE, self.SIDE), mode="bilinear", antialias=True, align_corners=False)
        parts = []
        for _ in range(self.BANDS):
            coarse = F.avg_pool2d(x, 2)
            band = x - F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
            parts.append(self.GAIN * F.adaptive_avg_pool2d(band.square(), self.CELLS).sqrt().flatten(1))
            x = coarse
        return torch.cat((x.flatten(1), *parts), 1)


def pyramid_features(device: torch.device | str = "cpu") -> FeatureNetwork:
    """:class:`Pyramid`, which is always available: nothing is downloaded."""
    words = "resized to 64 px, bilinear with antialiasing; levels scaled to [−1, 1]"
    return FeatureNetwork(Pyramid(), "pyramid", identity="pyramid-1", preprocessing=words, device=device)


def load_features(folder: Path, device: torch.device | str = "cpu") -> FeatureNetwork:
    """Load the feature network in a folder: ``feature_net.py`` with a class ``FeatureNet``, and one ``.safetensors``.

    ``FeatureNet(path of the weights)`` takes uint8 images. The file is executed as Python code: use only folders that
    you trust. If the class has a text ``preprocessing``, reports contain it.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: there is no class ``FeatureNet``, or several files of weights.
    """
    code = folder / "feature_net.py"
    if not code.is_file():
        raise FileNotFoundError(f"{code}: does not exist; --features is a folder with feature_net.py and its weights")
    weights = sorted(folder.glob("*.safetensors"))
    if len(weights) != 1:
        raise ValueError(f"{folder}: holds {len(weights)} .safetensors files, exactly one is expected")
    spec = importlib.util.spec_from_file_location("stackgan_feature_net", code)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "FeatureNet"):
        raise ValueError(f"{code}: has no class FeatureNet")
    net = module.FeatureNet(weights[0]).eval()
    digest = hashlib.sha256(code.read_bytes())
    with weights[0].open("rb") as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())
    name = weights[0].stem
    words = str(getattr(net, "preprocessing", "8-bit images as they are; the network resizes them itself"))
    return FeatureNetwork(net, name, identity=f"{name}-{digest.hexdigest()[:12]}", preprocessing=words, device=device)
