"""DiffAugment (arXiv:2006.10738): the same differentiable augmentations on real, wrong and fake images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.runtime.distributed import own_rows, whole_count

__all__ = ["diff_augment"]


def _uniform(images: Tensor) -> Tensor:
    """A number in [0, 1) for each image, (B, 1, 1, 1)."""
    return own_rows(torch.rand(whole_count(len(images)), 1, 1, 1, device=images.device))


def _colours(images: Tensor, names: Sequence[str], probability: float) -> Tensor:
    """Brightness b, saturation s and contrast k in one pass over the pixels instead of three.

    x + b, then s x + (1 − s) grey(x), then k x + (1 − k) middle, where middle is the image's mean, combine to
    k s x + k (1 − s) grey(x) + (1 − k) middle(x) + b.
    """

    def drawn(name: str, low: float, high: float, neutral: float) -> Tensor:
        value = _uniform(images) * (high - low) + low
        chosen = _uniform(images) < (probability if name in names else 0.0)
        return torch.where(chosen, value, neutral)

    b, s = drawn("brightness", -0.25, 0.25, 0.0), drawn("saturation", 0.5, 1.5, 1.0)
    k = drawn("contrast", 0.75, 1.25, 1.0)
    grey = images.mean(1, keepdim=True)
    middle = grey.mean((2, 3), keepdim=True)
    return images * (k * s) + (k * (1 - s) * grey + ((1 - k) * middle + b))  # keeps the memory format of images


def _translation(images: Tensor) -> Tensor:
    """Shift by up to an eighth of the side, padded with zeros (mid-grey)."""
    count, _, height, width = images.shape
    reach = height // 8
    padded = F.pad(images, (reach,) * 4)
    moves = own_rows(torch.randint(0, 2 * reach + 1, (2, whole_count(count)), device=images.device), 1)
    rows = (torch.arange(height, device=images.device) + moves[0][:, None])[:, :, None]
    columns = (torch.arange(width, device=images.device) + moves[1][:, None])[:, None, :]
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)


def _cutout(images: Tensor) -> Tensor:
    """Set a square of half the side, at a random position, to zero (mid-grey)."""
    count, _, height, width = images.shape
    side = height // 2
    centre = own_rows(torch.rand(2, whole_count(count), 1, device=images.device), 1)
    rows = torch.arange(height, device=images.device) - (centre[0] * height).floor()
    columns = torch.arange(width, device=images.device) - (centre[1] * width).floor()
    inside = (rows.abs() < side / 2)[:, :, None] & (columns.abs() < side / 2)[:, None, :]
    return images.masked_fill(inside[:, None], 0.0)


_PLACES = {"translation": _translation, "cutout": _cutout}


def diff_augment(images: Tensor, names: Sequence[str], probability: float = 1.0) -> Tensor:
    """Apply differentiable augmentations to ``images`` (B, 3, H, W) in [−1, 1], with separate draws for each image.

    Args:
        names: any of brightness (± 0.25), saturation (0.5–1.5), contrast (0.75–1.25), translation (± side / 8),
            cutout (half the side); applied in this order.
        probability: of applying each augmentation to an image.

    Draws from torch's global generator, whose state is saved and restored with the run.
    """
    if {"brightness", "saturation", "contrast"} & set(names):
        images = _colours(images, names, probability)
    for name, distort in _PLACES.items():
        if name in names:
            chosen = _uniform(images) < probability
            images = torch.where(chosen, distort(images), images)
    return images
