"""Entropies and divergences for tests: in closed form for Gaussians, by Monte Carlo for other distributions."""

import math

import torch
from torch import Generator, Tensor

from stackgan.latent.distributions import DiagonalGaussian, Distribution, FullGaussian


def half_log_det(factor: Tensor) -> Tensor:
    """log |L| = ½ log |L Lᵀ|."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def entropy(p: DiagonalGaussian | FullGaussian) -> Tensor:
    """½ Σ (logvar + log 2π + 1), (B,); ½ D (log 2π + 1) + log |L| of a full-covariance Gaussian."""
    constant = math.log(2 * math.pi) + 1
    if isinstance(p, DiagonalGaussian):
        return 0.5 * (p.logvar + constant).sum(-1)
    return 0.5 * p.mean.shape[-1] * constant + half_log_det(p.factor)


def kl_full_gaussians(p: FullGaussian, q: FullGaussian) -> Tensor:
    """KL(p ‖ q) of two full-covariance Gaussians, through their Cholesky factors:

    ½ (tr(Σ_q⁻¹ Σ_p) + (m_q − m_p)ᵀ Σ_q⁻¹ (m_q − m_p) − D + log |Σ_q| − log |Σ_p|)

    with tr(Σ_q⁻¹ Σ_p) = ‖L_q⁻¹ L_p‖² and the Mahalanobis term ‖L_q⁻¹ (m_q − m_p)‖².
    """
    dim = p.mean.shape[-1]
    trace = torch.linalg.solve_triangular(q.factor, p.factor, upper=False).square().sum((-2, -1))
    offset = torch.linalg.solve_triangular(q.factor, (q.mean - p.mean)[..., None], upper=False)
    distance = offset.square().sum((-2, -1))
    return 0.5 * (trace + distance - dim) + half_log_det(q.factor) - half_log_det(p.factor)


def kl_monte_carlo(
    p: Distribution, q: Distribution, count: int, generator: Generator | None = None, *, copies: int = 1
) -> tuple[Tensor, Tensor]:
    """KL(p ‖ q) = E_p[log p(x) − log q(x)] from ``count`` draws, and the standard error of that mean.

    Both are (B,), or () for distributions without a batch. Gradients flow through reparameterised draws.

    Args:
        copies: how often the batch of both holds its B distributions, one copy after the other; a sample is then so
            many draws of each, which is faster for flows.

    Raises:
        ValueError: fewer than 2 draws leave no standard error.
    """
    if count < 2:
        raise ValueError(f"count is {count}: a standard error needs 2 draws or more")
    draws = []
    for _ in range(count // copies):
        x = p.sample(generator)
        draws.append(p.log_prob(x) - q.log_prob(x))
    values = torch.stack(draws)
    if copies > 1:
        values = values.view(len(draws) * copies, -1)
    return values.mean(0), values.std(0) / math.sqrt(len(values))
