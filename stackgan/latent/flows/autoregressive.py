"""Masked autoregressive flows: the map of each element has parameters predicted from the preceding elements."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.latent.flows.bijections import Bijection
from stackgan.latent.flows.conditioners import compress_outliers, shift_and_log_scale, zero_initialised

__all__ = ["MaskedAutoregressive"]


class _MaskedLinear(nn.Linear):
    """A linear layer whose weights outside the mask (outputs, inputs) are 0 (MADE, arXiv:1502.03509, eq. 8–9)."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedAutoregressive(Bijection):
    """MAF: u_i = x_i · exp(s_i) + t_i, a MADE gives (s_i, t_i) from x_1 … x_{i−1} and c (arXiv:1705.07057, eq. 4).

    One pass from data to base, D passes for the inverse; its inverse
    (:class:`~stackgan.latent.flows.bijections.Inverted`) is the map of IAF (arXiv:1606.04934).
    """

    def __init__(self, dim: int, context: int = 0, hidden: int = 64) -> None:
        super().__init__()
        self.dim = dim
        inputs = torch.arange(1, dim + 1)
        units = torch.arange(hidden) % max(dim - 1, 1) + 1
        self.first = _MaskedLinear(units[:, None] >= inputs[None])
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.second = _MaskedLinear(units[:, None] >= units[None])
        self.last = _MaskedLinear((inputs[:, None] > units[None]).repeat(2, 1))
        zero_initialised(self.last)

    def _predict(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shift and log scale, (B, D) each."""
        h = self.first(compress_outliers(x))
        if self.context is not None and c is not None:
            h = h + self.context(c)
        shift, raw = self.last(F.silu(self.second(F.silu(h)))).chunk(2, 1)
        return shift_and_log_scale(torch.stack((shift, raw), -1))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._predict(x, c)
        return x * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = torch.zeros_like(u)
        for i in range(self.dim):
            shift, log_scale = self._predict(x, c)
            value = (u[:, i] - shift[:, i]) * (-log_scale[:, i]).exp()
            x = torch.cat((x[:, :i], value[:, None], x[:, i + 1 :]), 1)
        return x, -self._predict(x, c)[1].sum(1)
