"""Sampling in base space: noise N(0, I) of each seed, checks of sampling options, interpolation of noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stackgan.config import MAX_SEED

__all__ = ["base_noise", "check_sampling", "slerp"]


def check_sampling(
    seeds: Sequence[int], truncation: float | None = 1.0, latent: str = "prior", batch_size: int = 1
) -> None:
    """Raise ``ValueError`` for a seed, truncation, latent or batch size that is not valid."""
    if not seeds:
        raise ValueError("no seeds given: pass at least one")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed {seed} is out of range: seeds are integers from 0 to {MAX_SEED}")
    if truncation is not None and not 0 <= truncation <= 2:
        raise ValueError(
            f"truncation {truncation} is out of range: it must be from 0 (the mean) to 2; 1 is the model's own"
        )
    if latent not in ("prior", "mean"):
        raise ValueError(f"latent {latent!r} is unknown: it must be prior or mean")
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is too small: it must be 1 or more")


def base_noise(seeds: Sequence[int], dims: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Base noise of z (B, Z) and of c (B, C), row i from a separate generator seeded with seed i.

    It is always drawn on the CPU, so that a seed gives the same image on every device.

    Args:
        dims: Z and C.
    """
    rows = [torch.randn(sum(dims), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    z, c = torch.stack(rows).split(list(dims), dim=1)
    return z, c


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation from a (D,) to b (D,), with length from |a| to |b| (Shoemake 1985).

    Linear interpolation of two normal samples would pass close to 0, where such samples have negligible probability.

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
    tensor([0.7071, 0.7071])
    """
    lengths = a.norm(), b.norm()
    if min(lengths) < 1e-6:
        return torch.lerp(a, b, t)
    angle = torch.arccos((a @ b / (lengths[0] * lengths[1])).clamp(-1, 1))
    if angle < 1e-4 or math.pi - angle < 1e-4:
        return torch.lerp(a, b, t)
    path = (torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]) / torch.sin(angle)
    return path * torch.lerp(lengths[0], lengths[1], t)
