"""A reader of painted birds: from a 64 px picture to the colours of crown, breast and wing, and to the scene.

Painted birds come with their truth, so a small network trained on freshly drawn ones (all colours on all parts,
held-out combinations included) can tell what colours a generated bird has, how it stands and where. How well it
reads real painted birds is measured each time and stated with whatever it is used for.
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
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from data_prep.painted import BACKGROUNDS, COLOURS, POSES, SIZES, Painting, draw, random_painting
from stackgan.images.pixels import from_arrays
from stackgan.io.files import atomic_file

__all__ = ["PARTS", "SCENE", "PaintedReader", "Reading", "load_or_train_reader", "train_reader", "true_reading"]

PARTS = ("crown", "breast", "wing")
SCENE: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "facing": ("left", "right"),
    "pose": POSES,
    "size": SIZES,
}
SIDE = 64
VERSION = "2"  # of architecture and training: a cached reader of another version is trained again
TILT, SCALE, SCALE_STEP = 20.0, 0.22, 0.025  # units in which the network gives degrees and lengths
_CLASSES = {**dict.fromkeys(PARTS, COLOURS), **SCENE}


@dataclass(frozen=True)
class Reading:
    """What birds look like.

    Attributes:
        names: of each of :data:`PARTS` the colours, of each key of :data:`SCENE` the values, (N,) strings.
        tilt: of the body, in degrees, head end up (N,).
        scale: half the body's length, a share of the side of the picture as drawn (N,).
    """

    names: dict[str, NDArray[np.str_]]
    tilt: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def colours(self) -> NDArray[np.str_]:
        """(N, 3) of crown, breast and wing."""
        return np.stack([self.names[part] for part in PARTS], 1)

    @staticmethod
    def join(parts: Sequence[Reading]) -> Reading:
        """The birds of several readings, one after the other."""
        names = {name: np.concatenate([part.names[name] for part in parts]) for name in parts[0].names}
        measures = ([part.tilt for part in parts], [part.scale for part in parts])
        return Reading(names, *map(np.concatenate, measures))

    def rolled(self, places: int) -> Reading:
        """The same birds in another order, every one ``places`` on."""
        names = {name: np.roll(values, places) for name, values in self.names.items()}
        return Reading(names, np.roll(self.tilt, places), np.roll(self.scale, places))

    def scene_like(self, other: Reading) -> dict[str, float]:
        """Shares of equal backgrounds, directions, poses and sizes, and mean differences of tilt and scale.

        ``tilt`` in degrees, ``scale`` as a share of the other's.
        """
        same = {name: float((self.names[name] == other.names[name]).mean()) for name in SCENE}
        tilt = float(np.abs(self.tilt - other.tilt).mean())
        return {**same, "tilt": tilt, "scale": float(np.abs(self.scale / other.scale - 1).mean())}


def true_reading(paintings: Sequence[Painting]) -> Reading:
    """The truth about birds, from what they were drawn with."""
    names = {part: np.array([getattr(p, part).colour for p in paintings]) for part in PARTS}
    names |= {name: np.array([getattr(p, name) for p in paintings]) for name in SCENE}
    return Reading(names, np.array([p.tilt for p in paintings]), np.array([p.scale for p in paintings]))


class PaintedReader(nn.Module):
    """Pictures (B, 3, 64, 64) in [−1, 1] -> logits of every name of :class:`Reading`, then tilt and scale.

    >>> PaintedReader(width=4)(torch.zeros(2, 3, 64, 64)).shape
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
            raise ValueError(f"images {tuple(images.shape)}: the reader takes (B, 3, {SIDE}, {SIDE})")
        return self.head(self.trunk(images))

    @torch.inference_mode()
    def read(self, images: Tensor, batch_size: int = 256) -> Reading:
        """Pictures (N, 3, 64, 64) in [−1, 1] -> what birds they show."""
        self.eval()
        out = torch.cat([self(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]).cpu().double()
        logits, measures = _split(out)
        names = {name: np.array(_CLASSES[name])[part.argmax(1).numpy()] for name, part in logits.items()}
        tilt, scale = (measures * torch.tensor([TILT, SCALE_STEP])).T.numpy()
        return Reading(names, tilt, scale + SCALE)


def _split(out: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Logits by name, each (B, K), and measures (B, 2)."""
    parts = out.split([*map(len, _CLASSES.values()), 2], 1)
    return dict(zip(_CLASSES, parts[:-1], strict=True)), parts[-1]


def _draw_labelled(count: int, seed: int) -> tuple[NDArray[np.uint8], dict[str, Tensor], Tensor]:
    """Freshly drawn birds (count, 76, 76, 3), half of them with held-out combinations, and what they are."""
    images = np.empty((count, 76, 76, 3), np.uint8)
    paintings = []
    for i in tqdm(range(count), desc="drawing birds for the reader", unit="bird", leave=False):
        paintings.append(random_painting(np.random.default_rng((seed, 77, i)), held_out=bool(i % 2)))
        images[i] = draw(paintings[-1], 76)
    truth = true_reading(paintings)
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
    """Noise and, for half the batch, blur: generated pictures are softer than drawn ones."""
    half = len(images) // 2
    soft = F.interpolate(F.avg_pool2d(images[:half], 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    images = torch.cat((soft, images[half:]))
    return images + 0.05 * torch.randn(images.shape, generator=generator)


def train_reader(count: int = 10_000, epochs: int = 8, seed: int = 0, batch_size: int = 64) -> PaintedReader:
    """Draw ``count`` birds and train a reader on random 64 px crops of them."""
    images, labels, measures = _draw_labelled(count, seed)
    draws = np.random.default_rng((seed, 78))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = PaintedReader().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=1e-3)
        steps = epochs * (count // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = np.concatenate([draws.permutation(count)[: count // batch_size * batch_size] for _ in range(epochs)])
        for step in tqdm(range(steps), desc="training the reader", unit="step", leave=False):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            crops = np.empty((batch_size, SIDE, SIDE, 3), np.uint8)
            flips = draws.random(batch_size) < 0.5
            for row, (index, (y, x)) in enumerate(zip(chosen, draws.integers(13, size=(batch_size, 2)), strict=True)):
                crops[row] = images[index, y : y + SIDE, x : x + SIDE][:, :: -1 if flips[row] else 1]
            batch = _distort(from_arrays(crops), generator)
            named = {name: labels[name][chosen] for name in labels}
            named["facing"] = named["facing"] ^ torch.from_numpy(flips)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = reader(batch)
            loss = _loss(out.float(), named, measures[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return reader.eval()


def load_or_train_reader(cache: Path, **training: int) -> PaintedReader:
    """The reader stored at ``cache`` (safetensors), else a new one, trained and stored there."""
    reader = PaintedReader()
    if cache.is_file():
        with safe_open(cache, framework="pt") as file:
            if (file.metadata() or {}).get("version") == VERSION:
                reader.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                return reader.eval()
    reader = train_reader(**training)
    weights = {name: tensor.contiguous() for name, tensor in reader.state_dict().items()}
    with atomic_file(cache) as partial:
        save_file(weights, partial, metadata={"version": VERSION})
    return reader
