"""Attribute classifier of painted birds: 64 px image -> colours of crown, breast and wing, and the scene.

The attributes of painted birds are known, so that a small network can be trained on newly drawn ones (all colours on
all parts, including held-out combinations) to classify generated birds. Its accuracy on drawn birds is reported
beside its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from data_prep.painted import BACKGROUNDS, COLOURS, POSES, SIZES, BirdParameters, draw, random_bird
from stackgan.evaluation.cache import keep
from stackgan.images.pixels import from_arrays
from stackgan.runtime.precision import bf16_autocast

__all__ = [
    "PARTS",
    "SCENE",
    "AttributeClassifier",
    "Attributes",
    "load_or_train_attribute_classifier",
    "train_attribute_classifier",
    "true_attributes",
]

PARTS = ("crown", "breast", "wing")
SCENE: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "facing": ("left", "right"),
    "pose": POSES,
    "size": SIZES,
}
SIDE = 64
VERSION = "2"  # of architecture and training: cached networks of other versions are trained again
TILT, SCALE, SCALE_STEP = 20.0, 0.22, 0.025  # units of the network's outputs for degrees and lengths
_CLASSES: dict[str, tuple[str, ...]] = {**dict.fromkeys(PARTS, COLOURS), **SCENE}


@dataclass(frozen=True)
class Attributes:
    """Attributes of N birds, true or predicted.

    Attributes:
        names: colours of each of :data:`PARTS` and values of each key of :data:`SCENE`, (N,) strings.
        tilt: of the body in degrees, positive if the head is up, (N,).
        scale: half the length of the body relative to the side of the image as drawn, (N,).
    """

    names: dict[str, NDArray[np.str_]]
    tilt: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def colours(self) -> NDArray[np.str_]:
        """(N, 3) of crown, breast and wing."""
        return np.stack([self.names[part] for part in PARTS], 1)

    @staticmethod
    def join(parts: Sequence[Attributes]) -> Attributes:
        """Concatenate the birds of ``parts``."""
        names = {name: np.concatenate([part.names[name] for part in parts]) for name in parts[0].names}
        measures = ([part.tilt for part in parts], [part.scale for part in parts])
        return Attributes(names, *map(np.concatenate, measures))

    def rolled(self, places: int) -> Attributes:
        """The birds shifted cyclically by ``places``."""
        names = {name: np.roll(values, places) for name, values in self.names.items()}
        return Attributes(names, np.roll(self.tilt, places), np.roll(self.scale, places))

    def scene_agreement(self, other: Attributes) -> dict[str, float]:
        """Shares of birds with equal background, direction, pose and size, and mean differences of tilt and scale.

        ``tilt`` in degrees, ``scale`` as a share of the other's.
        """
        same = {name: float((self.names[name] == other.names[name]).mean()) for name in SCENE}
        tilt = float(np.abs(self.tilt - other.tilt).mean())
        return {**same, "tilt": tilt, "scale": float(np.abs(self.scale / other.scale - 1).mean())}


def true_attributes(birds: Sequence[BirdParameters]) -> Attributes:
    """The attributes of drawn birds."""
    names = {part: np.array([getattr(p, part).colour for p in birds]) for part in PARTS}
    names |= {name: np.array([getattr(p, name) for p in birds]) for name in SCENE}
    return Attributes(names, np.array([p.tilt for p in birds]), np.array([p.scale for p in birds]))


class AttributeClassifier(nn.Module):
    """Images (B, 3, 64, 64) in [−1, 1] -> logits of every name of :class:`Attributes`, then tilt and scale.

    >>> AttributeClassifier(width=4)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 50])
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [3, width, width * 2, width * 4, width * 4]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.Conv2d(outputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(widths[-1] * 16, sum(map(len, _CLASSES.values())) + 2)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"images {tuple(images.shape)}: the attribute classifier takes (B, 3, {SIDE}, {SIDE})")
        return self.head(self.trunk(images))

    @torch.inference_mode()
    def predict(self, images: Tensor, batch_size: int = 256) -> Attributes:
        """Images (N, 3, 64, 64) in [−1, 1] -> predicted attributes of the birds."""
        self.eval()
        out = torch.cat([self(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]).cpu().double()
        logits, measures = _split(out)
        names = {name: np.array(_CLASSES[name])[part.argmax(1).numpy()] for name, part in logits.items()}
        tilt, scale = (measures * torch.tensor([TILT, SCALE_STEP])).T.numpy()
        return Attributes(names, tilt, scale + SCALE)


def _split(out: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Logits by name, each (B, K), and measures (B, 2)."""
    parts = out.split([*map(len, _CLASSES.values()), 2], 1)
    return dict(zip(_CLASSES, parts[:-1], strict=True)), parts[-1]


def _draw_labelled(count: int, seed: int) -> tuple[NDArray[np.uint8], dict[str, Tensor], Tensor]:
    """Draw birds (count, 76, 76, 3), half of them with held-out combinations; returns images and labels."""
    images = np.empty((count, 76, 76, 3), np.uint8)
    birds = []
    for i in tqdm(range(count), desc="drawing birds for the attribute classifier", unit="bird", leave=False):
        birds.append(random_bird(np.random.default_rng((seed, 77, i)), held_out=bool(i % 2)))
        images[i] = draw(birds[-1], 76)
    truth = true_attributes(birds)
    labels = {
        name: torch.tensor([values.index(word) for word in truth.names[name]]) for name, values in _CLASSES.items()
    }
    measures = np.stack((truth.tilt / TILT, (truth.scale - SCALE) / SCALE_STEP), 1)
    return images, labels, torch.from_numpy(measures).float()


def _loss(out: Tensor, labels: dict[str, Tensor], measures: Tensor) -> Tensor:
    logits, measured = _split(out)
    named = torch.stack([F.cross_entropy(logits[name], labels[name]) for name in logits]).mean()
    return named + F.smooth_l1_loss(measured, measures, beta=0.1)


def _distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise and, for half of the batch, blur, as generated images are less sharp than drawn ones."""
    half = len(images) // 2
    soft = F.interpolate(F.avg_pool2d(images[:half], 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    images = torch.cat((soft, images[half:]))
    return images + 0.05 * torch.randn(images.shape, generator=generator)


def train_attribute_classifier(
    count: int = 10_000, epochs: int = 8, seed: int = 0, batch_size: int = 64, width: int = 32
) -> AttributeClassifier:
    """Draw ``count`` birds and train a classifier of ``width`` on random 64 px crops of them."""
    images, labels, measures = _draw_labelled(count, seed)
    draws = np.random.default_rng((seed, 78))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AttributeClassifier(width).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
        steps = epochs * (count // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = np.concatenate([draws.permutation(count)[: count // batch_size * batch_size] for _ in range(epochs)])
        for step in tqdm(range(steps), desc="training the attribute classifier", unit="step", leave=False):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            crops = np.empty((batch_size, SIDE, SIDE, 3), np.uint8)
            flips = draws.random(batch_size) < 0.5
            for row, (index, (y, x)) in enumerate(zip(chosen, draws.integers(13, size=(batch_size, 2)), strict=True)):
                crops[row] = images[index, y : y + SIDE, x : x + SIDE][:, :: -1 if flips[row] else 1]
            batch = _distort(from_arrays(crops), generator)
            named = {name: labels[name][chosen] for name in labels}
            named["facing"] = named["facing"] ^ torch.from_numpy(flips)
            with bf16_autocast(torch.device("cpu")):
                out = network(batch)
            loss = _loss(out.float(), named, measures[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def load_or_train_attribute_classifier(file: Path, count: int = 10_000, epochs: int = 8) -> AttributeClassifier:
    """Load the classifier from ``file`` (safetensors), or train one and store it there.

    Args:
        count, epochs: of the training, as in :func:`train_attribute_classifier`.
    """
    if file.is_file():
        with safe_open(file, framework="pt") as stored:
            if (stored.metadata() or {}).get("version") == VERSION:
                network = AttributeClassifier()
                network.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
                return network.eval()
    network = train_attribute_classifier(count, epochs)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    keep(file, save(weights, metadata={"version": VERSION}))
    return network
