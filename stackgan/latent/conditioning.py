"""Conditioning augmentation (CA_NET): embedding -> distribution over conditioning codes."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stackgan.latent.distributions import DiagonalGaussian
from stackgan.networks.layers import glu, orthogonal_init

__all__ = ["CANet", "Standardise"]

BLOCK = 65_536  # embeddings that are read at a time


class Standardise(nn.Module):
    """(e − mean) / scale with statistics of the training captions; the identity until :meth:`measure` is called.

    Sentence encoders' unit vectors share a large mean (norm 0.8 for MiniLM), next to which the differences between
    captions are small.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def measure(self, embeddings: NDArray[np.float32]) -> None:
        """Set the mean (per dimension) and the scale (a single number) from embeddings (N, T), read in blocks.

        The scale of embeddings without variance, as of a single caption, is 1.
        """

        def mean(of: Callable[[Tensor], Tensor]) -> Tensor:
            parts = []
            for start in range(0, len(embeddings), BLOCK):
                part = torch.from_numpy(np.array(embeddings[start : start + BLOCK]))  # a copy of a read-only map
                parts.append(of(part.to(self.mean.device)) * (len(part) / len(embeddings)))
            return torch.stack(parts).sum(0)

        self.mean.copy_(mean(lambda part: part.mean(0)))
        spread = mean(lambda part: (part - self.mean).square().mean()).sqrt()
        self.scale.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(self, e: Tensor) -> Tensor:
        if e.ndim != 2 or e.shape[1] != len(self.mean):
            raise ValueError(f"embeddings have shape {tuple(e.shape)}: this model takes (B, {len(self.mean)})")
        return (e - self.mean) / self.scale


class CANet(nn.Module):
    """q(c | e) = N(mu(e), diag σ²(e)): linear T → 4C with bias, GLU → 2C, split into mu and log-variance.

    Conditioning augmentation (arXiv:1612.03242, section 3.2) in the form of StackGAN-v2. c ~ q is sampled by
    reparameterisation; KL(q ‖ N(0, I)) regularises the distribution of codes.

    >>> q = CANet(text_dim=6, code_dim=2)(torch.zeros(3, 6))
    >>> q.mu.shape, q.logvar.shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(self, text_dim: int, code_dim: int) -> None:
        super().__init__()
        self.code_dim = code_dim
        self.linear = nn.Linear(text_dim, code_dim * 4)
        orthogonal_init(self)

    def forward(self, e: Tensor) -> DiagonalGaussian:
        """e (B, T) -> a distribution over codes (B, C)."""
        mu, logvar = glu(self.linear(e)).float().split(self.code_dim, dim=1)
        return DiagonalGaussian(mu, logvar)
