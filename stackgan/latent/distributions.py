"""Distributions returned by latent modules, and divergences between them, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from stackgan.runtime.distributed import own_rows, whole_count

__all__ = [
    "DiagonalGaussian",
    "Distribution",
    "FullGaussian",
    "kl_discrete",
    "kl_gaussians",
    "noise_like",
    "standard_normal",
]

LOG_2PI = math.log(2 * math.pi)


class Distribution(Protocol):
    """Interface of distributions over rows (B, D)."""

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """Reparameterised samples (B, D); ``noise`` (B, D) is N(0, I) of the base space, drawn if absent."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) at x (B, D)."""
        ...

    def to_noise(self, x: Tensor) -> Tensor:
        """The base-space point (B, D) that ``sample(noise=…)`` maps to x (B, D)."""
        ...

    @property
    def mode(self) -> Tensor:
        """The sample (B, D) for zero noise."""
        ...


@dataclass(frozen=True)
class DiagonalGaussian:
    """Diagonal Gaussians N(mu, diag(exp(logvar))), one per row.

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
            noise = noise_like(self.mu, generator)
        return self.mu + self.std * noise

    def to_noise(self, x: Tensor) -> Tensor:
        """(x − mu) / std, (B, D): the noise that :meth:`sample` maps to x.

        >>> p = DiagonalGaussian(torch.ones(1, 2), torch.zeros(1, 2))
        >>> p.to_noise(torch.tensor([[1.0, 3.0]]))
        tensor([[0., 2.]])
        """
        return (x - self.mu) / self.std

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of x (B, D)."""
        squares = (x - self.mu).square() * torch.exp(-self.logvar)
        return -0.5 * (squares + self.logvar + LOG_2PI).sum(-1)

    def kl(self, other: DiagonalGaussian | None = None) -> Tensor:
        """KL(self ‖ other) in nats, (B,); against N(0, I) if absent:

        ½ Σ (mu² + exp(logvar) − logvar − 1) (arXiv:1312.6114, appendix B).
        """
        return self.kl_per_dimension(other).sum(-1)

    def kl_per_dimension(self, other: DiagonalGaussian | None = None) -> Tensor:
        """The terms (B, D) whose sum is :meth:`kl`: which dimensions carry information."""
        if other is not None:
            return kl_gaussians(self.mu, self.logvar, other.mu, other.logvar)
        return 0.5 * self.mu.square() + 0.5 * (self.logvar.exp() - self.logvar - 1)


@dataclass(frozen=True)
class FullGaussian:
    """N(mean, L Lᵀ) over rows (B, D), given by its Cholesky factor; no matrix is inverted.

    Args:
        mean: (D,) or (B, D).
        factor: (D, D) or (B, D, D), lower triangular with a positive diagonal.

    >>> p = FullGaussian(torch.zeros(2), torch.eye(2))
    >>> round(float(p.log_prob(torch.zeros(1, 2))), 4)
    -1.8379
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def fit(cls, x: Tensor, ridge: float = 0.0) -> FullGaussian:
        """The maximum-likelihood Gaussian of points (N, D), ``ridge`` added to every variance.

        Raises:
            ValueError: the points span fewer than D dimensions and the ridge is 0.
        """
        mean = x.mean(0)
        centred = x - mean
        covariance = centred.T @ centred / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            raise ValueError(f"the covariance of {len(x)} points in {x.shape[1]} dimensions is singular: add a ridge")
        return cls(mean, factor)

    @property
    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """mean + L · noise, shaped as ``noise`` (B, D), or as the mean if that is absent."""
        if noise is None:
            noise = noise_like(self.mean, generator)
        return self.mean + (self.factor @ noise[..., None])[..., 0]

    def to_noise(self, x: Tensor) -> Tensor:
        """L⁻¹ (x − mean), (B, D), by one triangular solve: the noise that :meth:`sample` maps to x."""
        offset = (x - self.mean)[..., None]
        factor = self.factor.expand(*offset.shape[:-2], *self.factor.shape[-2:])
        return torch.linalg.solve_triangular(factor, offset, upper=False)[..., 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of x (B, D), the Mahalanobis term from the whitened points."""
        return -0.5 * (self.to_noise(x).square().sum(-1) + x.shape[-1] * LOG_2PI) - _half_log_det(self.factor)


def standard_normal(like: Tensor, dim: int) -> DiagonalGaussian:
    """N(0, I) over (B, dim), B rows, device and dtype as in ``like`` (B, …).

    >>> standard_normal(torch.zeros(3, 7), 2).mu.shape
    torch.Size([3, 2])
    """
    zeros = torch.zeros(len(like), dim, device=like.device, dtype=like.dtype)
    return DiagonalGaussian(zeros, zeros)


def kl_discrete(p: Tensor, q: Tensor) -> Tensor:
    """Σ p log(p / q) over the last dimension; 0 log 0 = 0, and infinite where q = 0 < p. Not symmetric.

    Raises:
        ValueError: negative entries, or rows that do not sum to 1 (within 1e-4).

    >>> round(float(kl_discrete(torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]))), 4)
    0.5108
    >>> round(float(kl_discrete(torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5]))), 4)
    0.3681
    """
    for name, values in (("p", p), ("q", q)):
        if (values < 0).any() or ((values.sum(-1) - 1).abs() > 1e-4).any():
            raise ValueError(f"{name} is not a distribution: entries must be at least 0 and each row sum to 1")
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def kl_gaussians(mu: Tensor, logvar: Tensor, other_mu: Tensor | float, other_logvar: Tensor | float) -> Tensor:
    """Elementwise KL(N(mu, exp logvar) ‖ N(other_mu, exp other_logvar)):

    ½ (log σ₂² − log σ₁² + (σ₁² + (mu₁ − mu₂)²) / σ₂² − 1).

    >>> one = torch.ones(())
    >>> float(kl_gaussians(one, 0 * one, 0.0, 0.0))
    0.5
    """
    other_mu, other_logvar = torch.as_tensor(other_mu).to(mu), torch.as_tensor(other_logvar).to(mu)
    ratio = torch.exp(logvar - other_logvar)
    distance = (mu - other_mu).square() * torch.exp(-other_logvar)
    return 0.5 * (other_logvar - logvar + ratio + distance - 1)


def _half_log_det(factor: Tensor) -> Tensor:
    """log |L| = ½ log |L Lᵀ|."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def noise_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """N(0, I) in the shape of x (B, …), drawn for the whole batch where several processes share one."""
    shape = (whole_count(len(x)), *x.shape[1:])
    return own_rows(torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype))
