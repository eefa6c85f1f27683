"""Priors p(z | c) of the picture's style. Each is a module that returns a distribution."""

import torch
from torch import Tensor, nn

from stackgan.latent.distributions import DiagonalGaussian

__all__ = ["GaussianPrior"]


class GaussianPrior(nn.Module):
    """p(z | c) = N(0, I), as published: no parameters, c is not looked at."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, c: Tensor) -> DiagonalGaussian:
        """c (B, C) -> N(0, I) over z (B, Z)."""
        zeros = torch.zeros(len(c), self.dim, device=c.device)
        return DiagonalGaussian(zeros, zeros)
