"""Flow: a composition of bijections, and its conditional density with a standard normal base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from stackgan.latent.distributions import DiagonalGaussian, standard_normal
from stackgan.latent.flows.bijections import Bijection

__all__ = ["Flow", "FlowDistribution"]


class Flow(Bijection):
    """Composition of bijections; with a standard normal base it defines the conditional density p(x | c).

    Args:
        maps: from data to base.
        dim: D of the base space.
    """

    def __init__(self, maps: Sequence[Bijection], dim: int) -> None:
        super().__init__()
        self.maps, self.dim = nn.ModuleList(maps), dim

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):  # not invertible to sufficient precision in half precision
            total = x.new_zeros(len(x))
            for part in self.maps:
                x, log_det = part(x, c)
                total = total + log_det
        return x, total

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(u.device.type, enabled=False):
            total = u.new_zeros(len(u))
            for part in reversed(self.maps):
                assert isinstance(part, Bijection)
                u, log_det = part.inverse(u, c)
                total = total + log_det
        return u, total

    def given(self, c: Tensor | None = None, count: int | None = None) -> FlowDistribution:
        """p(x | c) for c (B, context), or ``count`` rows of p(x) without context.

        Raises:
            ValueError: neither c nor a count.
        """
        rows = count if c is None else len(c)
        if rows is None:
            raise ValueError("a flow without context needs a number of rows: pass count")
        return FlowDistribution(self, c, rows)


@dataclass(frozen=True)
class FlowDistribution:
    """p(x | c) = N(f(x, c); 0, I) · |det ∂f/∂x|, one row each: exact density, samples by one inverse pass.

    ``mode`` is the sample for zero noise, the image of the base's mode; the density may be higher elsewhere.
    """

    flow: Flow
    c: Tensor | None
    count: int

    @property
    def mode(self) -> Tensor:
        return self.sample(noise=torch.zeros_like(self._base().mu))

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """f⁻¹(noise, c), (B, D), reparameterised; noise is N(0, I) if absent."""
        if noise is None:
            noise = self._base().sample(generator)
        return self.flow.inverse(noise, self.c)[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density (B,) of x (B, D) in nats (arXiv:1410.8516, eq. 3)."""
        u, log_det = self.flow(x, self.c)
        return standard_normal(u, u.shape[1]).log_prob(u) + log_det

    def to_noise(self, x: Tensor) -> Tensor:
        """The base point (B, D) that :meth:`sample` maps to x."""
        return self.flow(x, self.c)[0]

    def _base(self) -> DiagonalGaussian:
        return standard_normal(next(self.flow.parameters()).new_empty(self.count), self.flow.dim)
