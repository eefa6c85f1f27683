"""Posterior encoder q(z | x, c): image and conditioning code -> distribution over styles z."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.latent.distributions import DiagonalGaussian, Distribution, noise_like
from stackgan.networks.layers import ResidualDown, kaiming_init
from stackgan.runtime.distributed import gather_rows, mean_over_ranks, own_rows

__all__ = ["ACTIVE", "PosteriorEncoder", "Style", "infer_style", "kl_to_prior"]

ACTIVE = 0.01  # minimum variance over images of an active dimension's posterior mean (arXiv:1509.00519, section 5.1)

SEEN_SIDE = 128  # px: larger images are averaged down first, as style needs no finer detail
START_LOGVAR = -2.0  # initial log-variance, small enough for z to carry information from the first steps
MOST_LOGVAR = 8.0


class PosteriorEncoder(nn.Module):
    """q(z | x, c) = N(mu(x, c), diag σ²(x, c)), the encoder of a variational autoencoder with G as its decoder.

    arXiv:1312.6114, section 3 (auto-encoding variational Bayes), as VAE-GAN uses it (arXiv:1512.09300). A residual
    trunk without normalisation, as in the discriminators, followed by a layer that takes c. log σ² is softly bounded
    by ±8.

    Args:
        size: side of the finest images, a power of two from 64.
        z_dim, code_dim: Z and C; C = 0 without text.
        width: channels at half the side.

    >>> q = PosteriorEncoder(size=64, z_dim=5, code_dim=3, width=4)(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3))
    >>> q.mu.shape
    torch.Size([2, 5])
    """

    def __init__(self, size: int, z_dim: int, code_dim: int, width: int) -> None:
        super().__init__()
        self.size, self.code_dim = min(size, SEEN_SIDE), code_dim
        widest = width * 4
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1)]
        channels, side = width, self.size // 2
        while side > 4:
            wider = min(channels * 2, widest)
            layers.append(ResidualDown(channels, wider))
            channels, side = wider, side // 2
        self.trunk = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Flatten())
        self.hidden = nn.Linear(channels * side * side + code_dim, widest * 2)
        self.head = nn.Linear(widest * 2, z_dim * 2)
        kaiming_init(self)
        nn.init.normal_(self.head.weight, 0.0, 1 / math.sqrt(widest * 2))

    def forward(self, x: Tensor, c: Tensor) -> DiagonalGaussian:
        """x (B, 3, s, s) in [−1, 1], c (B, C) -> a distribution over z (B, Z), in float32."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.shape[2] < self.size:
            raise ValueError(f"images {tuple(x.shape)}: the encoder takes (B, 3, s, s) with s at least {self.size}")
        if x.shape[2] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="area")
        h = F.leaky_relu(self.hidden(torch.cat((self.trunk(x), c.to(x.dtype)), 1)), 0.2)
        mu, raw = self.head(h).float().chunk(2, 1)
        return DiagonalGaussian(mu, MOST_LOGVAR * torch.tanh((raw + START_LOGVAR) / MOST_LOGVAR))


def kl_to_prior(q: DiagonalGaussian, p: Distribution, z: Tensor) -> Tensor:
    """KL(q ‖ p), (B,): in closed form between Gaussians, else estimated at the sample z (B, Z) of q."""
    return q.kl(p) if isinstance(p, DiagonalGaussian) else q.log_prob(z) - p.log_prob(z)


@dataclass(frozen=True)
class Style:
    """Posterior, prior and samples of the styles of a batch of images.

    Attributes:
        q, p: posterior and prior of each row.
        z: (B, Z) sampled from q, reparameterised.
        drawn: (B, Z) without gradient, for the adversarial loss: the first half are styles of other images of the
            batch, transferred in base space, the others are sampled from p.
    """

    q: DiagonalGaussian
    p: Distribution
    z: Tensor
    drawn: Tensor

    @cached_property  # a flow's density is expensive
    def plain_kl(self) -> Tensor:
        """KL(q ‖ p), (B,), see :func:`kl_to_prior`."""
        return kl_to_prior(self.q, self.p, self.z)

    def kl(self, free_bits: float) -> Tensor:
        """KL(q ‖ p), mean over batch and dimensions, not penalised below ``free_bits`` nats per dimension.

        Between Gaussians the bound applies to each dimension (arXiv:1606.04934, section C.8); under a flow the KL
        does not separate into dimensions, so that the bound applies to their mean.
        """
        if isinstance(self.p, DiagonalGaussian):
            return mean_over_ranks(self.q.kl_per_dimension(self.p).mean(0)).clamp_min(free_bits).mean()
        return (mean_over_ranks(self.plain_kl.mean()) / self.z.shape[1]).clamp_min(free_bits)

    def prior_nll(self) -> Tensor:
        """−log p(z) per dimension: trains the prior alone, also while free bits or warm-up disable the KL."""
        return -self.p.log_prob(self.z.detach()).mean() / self.z.shape[1]


def infer_style(posterior: PosteriorEncoder, prior: nn.Module, x: Tensor, c: Tensor) -> Style:
    """Posterior and samples for images x (B, 3, s, s) with codes c (B, C), without gradient to the codes."""
    c = c.detach()
    q, p = posterior(x, c), prior(c)
    z = q.sample()
    with torch.no_grad():
        half = len(x) // 2
        noise = noise_like(z)
        noise[:half] = own_rows(gather_rows(p.to_noise(z)).roll(1, 0))[:half]
        drawn = p.sample(noise=noise)
    return Style(q, p, z, drawn)
