"""Maps of multi-scale flows over images: squeeze, factor out, flatten (arXiv:1605.08803, section 3.6)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.latent.flows.bijections import Bijection

__all__ = ["FactorOut", "Flatten", "Squeeze"]


class Squeeze(Bijection):
    """(B, C, H, W) -> (B, 4C, H / 2, W / 2), moving each 2×2 square into channels (arXiv:1605.08803, section 3.6)."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(u, 2), u.new_zeros(len(u))


class FactorOut(Bijection):
    """Factors half of the channels out to the base space; ``rest`` maps the other half (arXiv:1605.08803, eq. 13–16).

    (B, C, H, W) -> (B, C·H·W): the first half mapped by ``rest``, then the second half flattened.
    """

    def __init__(self, rest: Bijection, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.rest, self.shape = rest, shape  # (C / 2, H, W) of the half that rest maps

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        going, done = x.split([self.shape[0], x.shape[1] - self.shape[0]], 1)
        u, log_det = self.rest(going, c)
        return torch.cat((u.flatten(1), done.flatten(1)), 1), log_det

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        size = math.prod(self.shape)
        going, log_det = self.rest.inverse(u[:, :size], c)
        return torch.cat((going, u[:, size:].view(len(u), -1, *self.shape[1:])), 1), log_det


class Flatten(Bijection):
    """(B, C, H, W) -> (B, C·H·W)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u.view(-1, *self.shape), u.new_zeros(len(u))
