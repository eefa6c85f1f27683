"""Distributions that latent modules return, and their divergences."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

__all__ = ["DiagonalGaussian"]


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mu, diag(exp(logvar))), one a row.

    Args:
        mu, logvar: (B, D).

    >>> q = DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2))
    >>> float(q.kl())
    0.0
    """

    mu: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return torch.exp(self.logvar / 2)

    @property
    def mode(self) -> Tensor:
        return self.mu

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """mu + std · noise (B, D), reparameterised (arXiv:1312.6114, section 2.4); noise is N(0, I) if absent."""
        if noise is None:
            noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device, dtype=self.mu.dtype)
        return self.mu + self.std * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of x (B, D)."""
        squares = (x - self.mu).square() * torch.exp(-self.logvar)
        return -0.5 * (squares + self.logvar + math.log(2 * math.pi)).sum(-1)

    def kl(self) -> Tensor:
        """KL(self ‖ N(0, I)) in nats, (B,): ½ Σ (mu² + exp(logvar) − logvar − 1) (arXiv:1312.6114, appendix B)."""
        return 0.5 * (self.mu.square() + self.logvar.exp() - self.logvar - 1).sum(-1)
