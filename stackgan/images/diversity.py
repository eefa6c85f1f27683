"""How much images differ from each other, coarsely: the one measure that training and evaluation share.

Images are averaged down to 16 px first, where pose, place and background remain and texture does not. Images of one
caption hardly differ there where the generator ignores its latent z.
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
    """Mean absolute difference between images and those ``shift`` places further along ``dim``, a scalar.

        mean over shifts of  mean |x_i − x_(i + shift)|        places count round and round

    Args:
        images: averaged down, (N, 3, 16, 16), or with more axes before them.
        shifts: one or more; their means count alike.

    >>> float(mean_difference(torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1)))
    2.0
    """
    return torch.stack([(images - images.roll(shift, dim)).abs().mean() for shift in shifts]).mean()
