"""Colours of the foreground in CIELAB, without a network, for the colour-word test.

Foreground, weights w of the pixels (no segmentation; a centred bird is assumed):

    w ∝ exp(−r² / 2 ρ²) · (1 − exp(−d² / 2 δ²))        r distance from the centre as a share of the side,
                                                      d the smallest CIELAB distance to a pixel of the border

Both images of a pair are measured with the mean of their weights, so that a margin depends only on colours.

Colours: pixel p is of colour K by softmax over K of −(smallest distance of p to K's prototypes)² / 2 τ².
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.images.pixels import from_levels

__all__ = [
    "COLOUR_ORDER",
    "PairMeasure",
    "distances_to_colours",
    "foreground",
    "measure_pairs",
    "to_lab",
]

SIDE = 32  # px; larger images are averaged down
BORDER = 2  # px wide
CENTRE = 0.25  # ρ, a share of the side
DIFFERENT = 12.0  # δ, CIELAB units
SPREAD = 12.0  # τ, CIELAB units
CHUNK = 64  # images measured together

# sRGB prototypes: a vivid and a dull one, as in photos of birds.
PROTOTYPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((205, 30, 38), (150, 50, 45)),
    "orange": ((242, 124, 24), (205, 120, 60)),
    "yellow": ((248, 212, 40), (205, 180, 75)),
    "green": ((60, 145, 60), (100, 120, 60)),
    "blue": ((40, 96, 205), (85, 120, 165)),
    "purple": ((120, 58, 162), (100, 80, 130)),
    "pink": ((246, 150, 188), (215, 150, 155)),
    "brown": ((120, 74, 40), (115, 92, 70)),
    "black": ((24, 24, 30), (45, 43, 42)),
    "white": ((248, 247, 244), (222, 220, 212)),
    "grey": ((140, 142, 148), (112, 110, 108)),
}
COLOUR_ORDER: tuple[str, ...] = tuple(PROTOTYPES)
"""The basic colours (:data:`stackgan.captions.lexicon.BASIC_COLOURS`) in the order of all columns of this test."""


@dataclass(frozen=True)
class PairMeasure:
    """Colours of the images of N pairs, measured with the mean of both foregrounds.

    Attributes:
        shares: (2, N, 11) of x_A and x_B: share of each basic colour in the foreground.
        means: (2, N, 3) of x_A and x_B: mean CIELAB colour of the foreground.
    """

    shares: Tensor
    means: Tensor


def to_lab(images: Tensor) -> Tensor:
    """sRGB images (N, 3, H, W) in [−1, 1] -> CIELAB (N, 3, H, W), white point D65 (IEC 61966-2-1, CIE 15).

    >>> [round(v) for v in to_lab(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)).flatten().tolist()]
    [53, 80, 67]
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images of shape {tuple(images.shape)}: give (N, 3, H, W) in [-1, 1]")
    rgb = ((images.float() + 1) / 2).clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = linear.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = torch.einsum("ij,njhw->nihw", matrix / matrix.sum(1, keepdim=True), linear)  # relative to white
    edge = 6 / 29
    f = torch.where(xyz > edge**3, xyz.clamp_min(1e-9) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def foreground(lab: Tensor) -> Tensor:
    """Pixel weights from CIELAB, (N, 3, s, s) -> (N, s, s), sum 1: high near the centre, low for border colours."""
    count, _, side, _ = lab.shape
    axis = (torch.arange(side, device=lab.device) + 0.5) / side - 0.5
    centre = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * CENTRE**2))  # (s, s)
    blurred = F.avg_pool2d(F.pad(lab, (1, 1, 1, 1), mode="replicate"), 3, 1)  # ignores single pixels
    frame = torch.ones(side, side, dtype=torch.bool, device=lab.device)
    frame[BORDER:-BORDER, BORDER:-BORDER] = False
    border = blurred[:, :, frame].transpose(1, 2)  # (N, K, 3)
    distance = torch.cdist(blurred.flatten(2).transpose(1, 2), border).amin(2)  # (N, s²)
    differs = 1 - torch.exp(-(distance**2) / (2 * DIFFERENT**2))
    weights = centre * (differs.view(count, side, side) + 1e-3)  # positive sum
    return weights / weights.sum((1, 2), keepdim=True)


def _shares(lab: Tensor, weights: Tensor) -> Tensor:
    """Share of each basic colour in the foreground: (N, 11), rows sum to 1, columns as in COLOUR_ORDER."""
    distances = distances_to_colours(lab.flatten(2).transpose(1, 2))  # (N, s², 11)
    member = torch.softmax(-(distances**2) / (2 * SPREAD**2), -1)
    return torch.einsum("np,npk->nk", weights.flatten(1), member)


def distances_to_colours(lab: Tensor) -> Tensor:
    """Distances of CIELAB colours (N, P, 3) to the closest prototype of each basic colour, (N, P, 11)."""
    levels = torch.tensor([level for levels in PROTOTYPES.values() for level in levels], device=lab.device)  # (K, 3)
    prototypes = to_lab(from_levels(levels).T[None, :, None])[0, :, 0].T.to(lab.dtype)
    apart = torch.cdist(lab, prototypes.expand(len(lab), -1, -1))
    return torch.stack([part.amin(2) for part in apart.split([len(p) for p in PROTOTYPES.values()], 2)], 2)


def measure_pairs(before: Tensor, after: Tensor) -> PairMeasure:
    """Measure x_A (N, 3, s, s) and x_B (N, 3, s, s), both in [−1, 1]."""
    if before.shape != after.shape:
        raise ValueError(f"images {tuple(before.shape)} and {tuple(after.shape)}: pairs must have the same shape")
    shares, means = [], []
    for start in range(0, len(before), CHUNK):
        labs = [to_lab(_small_enough(images[start : start + CHUNK])) for images in (before, after)]
        weights = (foreground(labs[0]) + foreground(labs[1])) / 2
        shares.append(torch.stack([_shares(lab, weights) for lab in labs]))
        means.append(torch.stack([torch.einsum("nhw,nchw->nc", weights, lab) for lab in labs]))
    return PairMeasure(torch.cat(shares, 1).double().cpu(), torch.cat(means, 1).double().cpu())


def _small_enough(images: Tensor) -> Tensor:
    return F.interpolate(images.float(), (SIDE, SIDE), mode="area") if images.shape[-1] > SIDE else images.float()
