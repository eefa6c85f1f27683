"""Predicted realism of generated images, to choose the best of several candidates."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.io.weights import compare_weights, sized_for

__all__ = ["RealismNetwork"]

SLOPE = 0.2
CELLS = 4  # side of the last map
GROUPS = 8  # of the channels that are normalised together


class RealismNetwork(nn.Module):
    """Images -> realism relative to other images of the same caption, in standard deviations among those.

    A convolutional network on 64 px, fitted by :mod:`stackgan.training.fit_realism` to a measure in the features of
    an image classifier, which is needed for fitting only.

    Args:
        width: channels after the first convolution, a multiple of 8.

    Attributes:
        agreement: weight of the cosine of image and caption in :meth:`score`; 0 until fitted.
    """

    SIDE = 64

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)
        self.stem = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(_Residual(channels) for channels in widths[1:3])
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for channels in widths)
        self.head = nn.Linear(CELLS * CELLS * widths[-1], 1)
        self.agreement: Tensor
        self.register_buffer("agreement", torch.zeros(()))

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], where: Path) -> Self:
        """The network of a state dict, in evaluation mode; ``where`` is the file, for messages.

        Raises:
            ValueError: the state dict is that of another network.
        """
        stem = weights.get("stem.weight")
        if stem is None or stem.ndim != 4 or not stem.shape[0] or stem.shape[0] % GROUPS:
            raise ValueError(f"{where}: holds no realism network; download the checkpoint again")
        with torch.random.fork_rng([]), sized_for(weights.values(), where):
            network = cls(stem.shape[0])
        differs = compare_weights(network, weights).names
        if differs:
            raise ValueError(f"{where}: {differs[0]} does not fit a realism network; download the checkpoint again")
        network.load_state_dict(dict(weights))
        return network.eval().requires_grad_(False)

    @property
    def identity(self) -> str:
        """Digest of the weights: networks of equal identity choose the same candidates."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def forward(self, images: Tensor) -> Tensor:
        """Realism (B,) of images (B, 3, H, W) in [−1, 1]; larger is more realistic."""
        if images.shape[-2:] != (self.SIDE, self.SIDE):
            images = F.interpolate(images, (self.SIDE, self.SIDE), mode="bilinear", antialias=True)
        h = F.leaky_relu(self.norms[0](self.stem(images)), SLOPE)
        for index, down in enumerate(self.downs):
            h = F.leaky_relu(self.norms[index + 1](down(h)), SLOPE)
            if index < len(self.blocks):
                h = self.blocks[index](h)
        found: Tensor = self.head(h.flatten(1))[:, 0]
        return found

    def score(self, images: Tensor, cosines: Tensor) -> Tensor:
        """Realism plus the weighted agreement with the caption, (B,), of images and their cosines (B,)."""
        found: Tensor = self(images) + self.agreement * cosines
        return found


class _Residual(nn.Module):
    """x + two convolutions of it, at the same size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norms[0](self.first(x)), SLOPE)
        return F.leaky_relu(x + self.norms[1](self.second(h)), SLOPE)
