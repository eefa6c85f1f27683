"""Feature networks: images -> feature vectors, for distances between sets of images.

Three kinds with one interface: the built-in :class:`Pyramid` without weights, a network by name or in a user's folder
(:func:`load_features`), and Inception (:mod:`stackgan.evaluation.inception`), the only one whose distances are called
FID and KID.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.images.pixels import from_levels
from stackgan.networks.frozen_features import load_frozen_features

__all__ = ["FeatureNetwork", "FeatureSet", "Pyramid", "load_features", "pyramid_features"]

BATCH = 64
CODE = "feature_net.py"  # in a folder: Python code that is executed
SIDE = 224  # px, of the inputs of a classifier given by name: as ImageNet classifiers are trained


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


def load_features(
    source: str | Path, device: torch.device | str = "cpu", *, trust_remote_code: bool = False
) -> FeatureNetwork:
    """Load a feature network by name or folder.

    Args:
        source: one of

            - a network of :func:`stackgan.networks.frozen_features.load_frozen_features`, by name (torchvision's
              classifiers, ``efficientnet-lite0``) or folder (``config.json`` and ``model.safetensors``): features are
              the mean over its last feature map;
            - ``user/name`` on the hub, a timm model such as ``timm/resnet18.a1_in1k``: its features before the
              classifier;
            - a folder with ``feature_net.py``, which has a class ``FeatureNet``, and one ``.safetensors``:
              ``FeatureNet(path of the weights)`` takes uint8 images. If the class has a text ``preprocessing``,
              reports contain it.
        trust_remote_code: execute the ``feature_net.py`` of a folder.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: the name is unknown or its weights are not on this machine; a folder has code that is not trusted,
            no class ``FeatureNet``, or several files of weights.
    """
    folder = Path(source)
    if (folder / CODE).is_file():
        if not trust_remote_code:
            raise ValueError(
                f"{folder / CODE}: is Python code that would be executed; read it, and give --trust-remote-code "
                "if you trust it"
            )
        return _of_folder(folder, device)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: has neither {CODE} and its weights nor config.json and model.safetensors; "
            "--features is a name or such a folder"
        )
    if not folder.is_dir() and str(source).count("/") == 1:
        return _of_hub(str(source), device)
    return _of_classifier(str(source), device)


def _of_classifier(source: str, device: torch.device | str) -> FeatureNetwork:
    frozen = load_frozen_features(source)
    words = f"resized to {SIDE} px, bilinear with antialiasing; mean over the last feature map"
    return FeatureNetwork(
        _Pooled(frozen), frozen.name, identity=_identity(frozen.name, frozen), preprocessing=words, device=device
    )


class _Pooled(nn.Module):
    """uint8 images (B, 3, H, W) -> mean over the last map of a frozen classifier, (B, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        last: Tensor = self.network(_resized(from_levels(images), (SIDE, SIDE)))[-1]
        return last.mean((2, 3))


def _of_hub(name: str, device: torch.device | str) -> FeatureNetwork:
    """A timm model of the hub, or of the hub's cache if ``HF_HUB_OFFLINE`` is set."""
    try:
        import timm
    except ImportError:
        raise ValueError(
            f'feature network {name!r} needs the package timm: pip install "stackgan[features]"'
        ) from None
    try:
        network = timm.create_model(f"hf-hub:{name}", pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"feature network {name!r} is neither a folder nor a timm model of the hub or its cache: {reason}"
        ) from None
    network.eval().requires_grad_(False)
    settings = timm.data.resolve_data_config({}, model=network)
    net = _Timm(network, settings["input_size"][1:], settings["mean"], settings["std"])
    words = f"resized to {net.size[0]} × {net.size[1]} px, bilinear with antialiasing; features before the classifier"
    short = name.rpartition("/")[2]
    return FeatureNetwork(net, short, identity=_identity(short, network), preprocessing=words, device=device)


class _Timm(nn.Module):
    """uint8 images (B, 3, H, W) -> features of a timm model without its classifier, (B, D)."""

    def __init__(self, network: nn.Module, size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network, self.size = network, (size[0], size[1])
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        levels = _resized(images.float() / 255, self.size)
        features: Tensor = self.network((levels - self.mean) / self.std)
        return features


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _identity(name: str, network: nn.Module) -> str:
    """The name and a digest of the weights."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"{name}-{digest.hexdigest()[:12]}"


def _of_folder(folder: Path, device: torch.device | str) -> FeatureNetwork:
    """The class in a folder's Python file, which is executed."""
    code = folder / CODE
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
