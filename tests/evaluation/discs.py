"""Discs of known colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from data_prep.painted import (
    PALETTE,
)


def discs(names: list[str], seed: int) -> Tensor:
    """A disc of each colour with random position and size on a random background, (N, 3, 64, 64)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    out = []
    for name in names:
        ground = rng.uniform(0, 255, 3) + rng.normal(0, 8, (64, 64, 3))
        shade = rng.dirichlet((1, 1, 1)) @ np.array(PALETTE[name], float)
        (cy, cx), radius = rng.uniform(24, 40, 2), rng.uniform(7, 18)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        out.append(np.where(inside[..., None], shade, ground).clip(0, 255))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 127.5 - 1
