"""Feature networks for distances between pictures.

Three kinds, all called the same way: the built-in :class:`Pyramid`, which needs no weights; a network in a folder
that the user gives; and Inception (:mod:`stackgan.evaluation.inception`), the only one whose distances are called FID
and KID.
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

from stackgan.images.pixels import from_levels, to_levels

__all__ = ["Described", "Features", "Pyramid", "load_features", "pyramid_features"]

BATCH = 64


@dataclass(frozen=True)
class Described:
    """What a network sees in N pictures: features (N, D), and log-probabilities of its classes (N, K), if any."""

    features: Tensor
    log_probs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Tensor) -> Described:
        return Described(self.features[rows], None if self.log_probs is None else self.log_probs[rows])

    @staticmethod
    def join(parts: list[Described]) -> Described:
        probs = [part.log_probs for part in parts if part.log_probs is not None]
        return Described(torch.cat([part.features for part in parts]), torch.cat(probs) if probs else None)


class Features:
    """A feature network.

    Args:
        net: uint8 pictures (B, 3, H, W) -> features (B, D), or (features, probabilities of classes or None).
        name: under which distances are reported.
        identity: changes whenever the features could: name and digest of code and weights. Caches go by it.
        preprocessing: what the network does to pictures first, in words.
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
    def describe(self, levels: Tensor) -> Described:
        """uint8 pictures (N, 3, H, W) -> what the network sees in them, on the CPU."""
        found = []
        for part in levels.split(BATCH):
            out = self.net(part.to(self.device))
            features, classes = out if isinstance(out, tuple) else (out, None)
            if classes is not None:
                classes = classes.float().log_softmax(1) if self.inception else classes.float().clamp_min(1e-12).log()
            found.append(Described(features.float().cpu(), None if classes is None else classes.cpu()))
        return Described.join(found)

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [−1, 1] -> features (N, D)."""
        return self.describe(to_levels(images)).features


class Pyramid(nn.Module):
    """Features without any learned weight: uint8 pictures (B, 3, H, W) -> (B, 336).

    The picture at 8 × 8, and of three finer bands of its Laplacian pyramid (Burt and Adelson 1983) the root mean
    square in 4 × 4 cells, each colour by itself: what is where in which colour, and how much fine, middle and coarse
    detail there is. Knows nothing of birds; tells blur, noise, wrong colours and missing variety.
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


def pyramid_features(device: torch.device | str = "cpu") -> Features:
    """:class:`Pyramid`: always there, nothing to fetch."""
    words = "resized to 64 px, bilinear with antialiasing; levels scaled to [−1, 1]"
    return Features(Pyramid(), "pyramid", identity="pyramid-1", preprocessing=words, device=device)


def load_features(folder: Path, device: torch.device | str = "cpu") -> Features:
    """The network in a folder: ``feature_net.py`` with a class ``FeatureNet(path of the weights)``, and one
    ``.safetensors``. The file is Python code and is run: give only folders that you trust.

    A ``preprocessing`` text of that class is taken into reports.

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
    words = str(getattr(net, "preprocessing", "8-bit pictures as they are; the network resizes them itself"))
    return Features(net, name, identity=f"{name}-{digest.hexdigest()[:12]}", preprocessing=words, device=device)
