"""Conversions between stored images and tensors: 8-bit levels, floats in [−1, 1], crops, stages, PIL images.

Scales and crop rule are defined only here and in :mod:`stackgan.images.crops`:

    x = level / 127.5 − 1          level = round((x + 1) · 127.5), clipped to 0 … 255
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from stackgan.config import BASE_SIZE
from stackgan.images.crops import load_side, middle
from stackgan.images.photos import to_rgb

__all__ = [
    "LEVELS_PER_UNIT",
    "centre_crops",
    "from_arrays",
    "from_levels",
    "to_levels",
    "to_pil",
    "to_stages",
    "to_tensor",
]

LEVELS_PER_UNIT = 127.5  # 8-bit levels per unit of [−1, 1]


def from_levels(levels: Tensor) -> Tensor:
    """Levels 0 … 255 of any shape, uint8 or float -> float32 in [−1, 1] of that shape and memory layout.

    >>> from_levels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [-1.0, -0.6000000238418579, 1.0]
    """
    floats = levels.float()
    return (floats.clone() if floats is levels else floats).div_(LEVELS_PER_UNIT).sub_(1)


def to_levels(images: Tensor) -> Tensor:
    """Floats in [−1, 1] of any shape -> 8-bit levels as in files, uint8; values outside are clipped.

    >>> to_levels(torch.tensor([-1.0, 0.0, 1.5])).tolist()
    [0, 128, 255]
    """
    return images.float().add(1).mul_(LEVELS_PER_UNIT).round_().clamp_(0, 255).to(torch.uint8)


def from_arrays(images: Any) -> Tensor:
    """Stored images (N, H, W, 3) uint8, memory-mapped or not -> (N, 3, H, W) in [−1, 1], channels last in memory."""
    return from_levels(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2))


def centre_crops(images: Any, side: int = BASE_SIZE) -> Tensor:
    """Centre crops of stored images (N, L, L, 3) uint8 -> (N, 3, side, side) in [−1, 1]."""
    return from_arrays(middle(images, side))


def to_stages(images: Tensor, sizes: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """uint8 (B, S, S, 3) -> floats (B, 3, s, s) in [−1, 1] for each stage, averaged down from the next finer one."""
    finest = from_levels(images.to(device, non_blocking=True).permute(0, 3, 1, 2))
    stages = {finest.shape[2]: finest}
    while (side := min(stages)) > min(sizes):
        # Bilinear sampling at half scale is the 2×2 mean; four times faster than avg_pool2d on channels-last maps.
        stages[side // 2] = F.interpolate(stages[side], scale_factor=0.5, mode="bilinear")
    return [stages[size] for size in sizes]


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [−1, 1] -> PIL images."""
    arrays = to_levels(images).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]


def to_tensor(image: Image.Image, side: int) -> Tensor:
    """A photo as a tensor (3, side, side) in [−1, 1], with the crop rule of the training data.

    Rotated by its EXIF orientation; the largest central square, resized to :func:`load_side`; the centre crop of
    that.
    """
    load = load_side(side)
    square = ImageOps.fit(to_rgb(ImageOps.exif_transpose(image)), (load, load), Image.Resampling.LANCZOS)
    return centre_crops(np.asarray(square)[None], side)[0]
