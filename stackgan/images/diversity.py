"""Diversity of images at low resolution, the measure shared by training and evaluation.

Images are first averaged down to 16 px, which keeps pose, position and background but removes texture. If the
generator ignores its latent z, images of one caption hardly differ at this resolution.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["averaged_down", "mean_difference"]

SIDE = 16  # px at which images are compared


def averaged_down(images: Tensor) -> Tensor:
    """Means of areas: (B, 3, s, s) -> (B, 3, 16, 16) float32."""
    return F.adaptive_avg_pool2d(images.float(), SIDE)


def mean_difference(images: Tensor, shifts: Sequence[int] = (1,), dim: int = 0) -> Tensor:
    """Mean absolute difference between images and those ``shift`` positions further along ``dim``, a scalar.

        mean over shifts of  mean |x_i − x_(i + shift)|        with cyclic indices

    Args:
        images: averaged down, (N, 3, 16, 16), or with further leading axes.
        shifts: one or more, with equal weight.

    >>> float(mean_difference(torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1)))
    2.0
    """
    return torch.stack([(images - images.roll(shift, dim)).abs().mean() for shift in shifts]).mean()
