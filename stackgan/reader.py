"""A reader of painted birds: from a 64 px picture to the colours of crown, breast and wing.

Painted birds come with their truth, so a small network trained on freshly drawn ones (all colours on all parts,
held-out combinations included) can tell what colours a generated bird has. How well it reads real painted birds is
measured each time and stated with whatever it is used for.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from data_prep.painted import COLOURS, draw, random_painting

__all__ = ["PARTS", "PaintedReader", "load_or_train_reader", "train_reader"]

PARTS = ("crown", "breast", "wing")
SIDE = 64
VERSION = "1"  # of architecture and training: a cached reader of another version is trained again


class PaintedReader(nn.Module):
    """Pictures (B, 3, 64, 64) in [−1, 1] -> logits (B, 3, number of colours) for crown, breast, wing.

    >>> PaintedReader(width=4)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 3, 11])
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [3, width, width * 2, width * 4, width * 4]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.Conv2d(outputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(widths[-1] * 16, len(PARTS) * len(COLOURS))

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"images {tuple(images.shape)}: the reader takes (B, 3, {SIDE}, {SIDE})")
        return self.head(self.trunk(images)).view(-1, len(PARTS), len(COLOURS))

    @torch.inference_mode()
    def read(self, images: Tensor, batch_size: int = 256) -> NDArray[np.str_]:
        """Colour names (N, 3) of crown, breast and wing."""
        self.eval()
        found = [self(images[i : i + batch_size]).argmax(2) for i in range(0, len(images), batch_size)]
        return np.array(COLOURS)[torch.cat(found).cpu().numpy()]


def _draw_labelled(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Freshly drawn birds (count, 76, 76, 3), half of them with held-out combinations, and labels (count, 3)."""
    images = np.empty((count, 76, 76, 3), np.uint8)
    labels = np.empty((count, len(PARTS)), np.int64)
    for i in tqdm(range(count), desc="drawing birds for the reader", unit="bird", leave=False):
        painting = random_painting(np.random.default_rng((seed, 77, i)), held_out=bool(i % 2))
        images[i] = draw(painting, 76)
        labels[i] = [COLOURS.index(getattr(painting, part).colour) for part in PARTS]
    return images, labels


def _distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise and, for half the batch, blur: generated pictures are softer than drawn ones."""
    half = len(images) // 2
    soft = F.interpolate(F.avg_pool2d(images[:half], 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    images = torch.cat((soft, images[half:]))
    return images + 0.05 * torch.randn(images.shape, generator=generator)


def train_reader(count: int = 10_000, epochs: int = 6, seed: int = 0, batch_size: int = 64) -> PaintedReader:
    """Draw ``count`` birds and train a reader on random 64 px crops of them."""
    images, labels = _draw_labelled(count, seed)
    draws = np.random.default_rng((seed, 78))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = PaintedReader().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=1e-3)
        steps = epochs * (count // batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * t / steps)))
        order = np.concatenate([draws.permutation(count)[: count // batch_size * batch_size] for _ in range(epochs)])
        for step in tqdm(range(steps), desc="training the reader", unit="step", leave=False):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            crops = np.empty((batch_size, SIDE, SIDE, 3), np.uint8)
            for row, (index, (y, x)) in enumerate(zip(chosen, draws.integers(13, size=(batch_size, 2)), strict=True)):
                crops[row] = images[index, y : y + SIDE, x : x + SIDE][:, :: draws.choice((-1, 1))]
            batch = _distort(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1, generator)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = reader(batch)
            loss = F.cross_entropy(logits.float().flatten(0, 1), torch.from_numpy(labels[chosen]).flatten())
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
    partial = cache.with_suffix(".partial")
    weights = {name: tensor.contiguous() for name, tensor in reader.state_dict().items()}
    save_file(weights, partial, metadata={"version": VERSION})
    partial.replace(cache)
    return reader
