"""Feature networks: images to the vectors between which distances of image sets are measured.

Three kinds with one interface: the built-in :class:`Pyramid`, which has no weights; a network in a folder that the
user gives; and Inception (:mod:`stackgan.evaluation.inception`), the only one whose distances are called FID and KID.
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
    """What a feature network gives for N images: features (N, D), and log-probabilities (N, K) if it has classes."""

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
    """A network, what it is called in reports, and what its cached features are named after.

    Args:
        net: uint8 images (B, 3, H, W) -> features (B, D), or (features, class probabilities or None).
        name: under which distances are reported.
        identity: changes whenever the features could: name and digest of code and weights. Names cached features.
        preprocessing: what the network does to images first, in words.
        inception: whether these are the features by which FID is defined; ``net``'s second output are then logits.
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
    """Features without learned weights, of a Laplacian pyramid: uint8 images (B, 3, H, W) -> (B, 336).

    The image at 8 × 8, and of three finer bands of its Laplacian pyramid (Burt and Adelson 1983) the root mean square
    in 4 × 4 cells, each colour channel separately: the layout of colours, and the amount of fine, middle and coarse
    detail. Distances respond to blur, noise, wrong colours and missing variety; nothing in them is specific to birds.
    """

    SIDE, BANDS, CELLS = 64, 3, 4
    GAIN = 4.0  # brings the bands' spread over real photos to that of the 8 × 8 colours

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
    """The feature network in a folder: ``feature_net.py`` with a class ``FeatureNet``, and one ``.safetensors``.

    ``FeatureNet(path of the weights)`` takes uint8 images. The file is Python code and is run: give only folders that
    you trust. Where the class has a text ``preprocessing``, reports quote it.

    Raises:
        FileNotFoundError: no such folder or file. ValueError: no class, several weights.
    """
    code = folder / "feature_net.py"
    if not code.is_file():
        raise FileNotFoundError(f"{code}: not there; --features is a folder with feature_net.py and its weights")
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
