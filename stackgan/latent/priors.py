"""Priors p(z | c) of the image's style and p(c) of conditioning codes: modules that return distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stackgan.config import LatentConfig
from stackgan.config.parsing import check
from stackgan.latent.distributions import DiagonalGaussian, standard_normal
from stackgan.latent.flows import FAMILIES, FlowDistribution, flow

__all__ = [
    "CODE_PRIORS",
    "FLOW",
    "PRIORS",
    "TILTED",
    "CodePriorKind",
    "FlowPrior",
    "GaussianPrior",
    "LearnedGaussianPrior",
    "PriorKind",
    "check_latent",
    "trainable",
]


class GaussianPrior(nn.Module):
    """p(z | c) = N(0, I), as published: no parameters, independent of c."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, c: Tensor) -> DiagonalGaussian:
        """c (B, C) -> N(0, I) over z (B, Z)."""
        return standard_normal(c, self.dim)


class LearnedGaussianPrior(nn.Module):
    """p(z | c) = N(m(c), diag s²(c)), both linear in c; initially N(0, I)."""

    def __init__(self, dim: int, code_dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim * 2))
        self.linear = nn.Linear(code_dim, dim * 2, bias=False) if code_dim else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)

    def forward(self, c: Tensor) -> DiagonalGaussian:
        raw = self.bias.expand(len(c), -1)
        if self.linear is not None:
            raw = raw + self.linear(c).float()
        mu, logvar = raw.chunk(2, 1)
        return DiagonalGaussian(mu, logvar.clamp(-8, 8))


class FlowPrior(nn.Module):
    """Normalizing flow as p(z), or as p(z | c) with c as its context: exact density, sampling in one pass.

    Args:
        context: C, or 0 for a prior independent of c.
    """

    def __init__(self, dim: int, context: int, config: LatentConfig) -> None:
        super().__init__()
        self.context = context
        self.flow = flow(config.family, dim, context, steps=config.steps, hidden=config.hidden)

    def forward(self, c: Tensor) -> FlowDistribution:
        """c (B, C) -> a distribution over z (B, Z), one per row of c."""
        return self.flow.given(c.float() if self.context else None, len(c))


@dataclass(frozen=True)
class PriorKind:
    """A row of :data:`PRIORS`.

    Attributes:
        build: (latent section of the configuration, C) -> the module p(z | c).
        posterior: whether q(z | x, c) is trained with it and with G as decoder.
        fitted: whether it belongs to a finished generator and is not trained with it.
        least_dim: the smallest Z.
    """

    build: Callable[[LatentConfig, int], nn.Module]
    posterior: bool = False
    fitted: bool = False
    least_dim: int = 1


@dataclass(frozen=True)
class CodePriorKind:
    """A row of :data:`CODE_PRIORS`.

    Attributes:
        build: (latent section of the configuration, C) -> the module p(c).
        learned: it has weights, which training fits to CA_NET's codes.
    """

    build: Callable[[LatentConfig, int], nn.Module]
    learned: bool = False


def _vae_prior(config: LatentConfig, code_dim: int) -> nn.Module:
    return LearnedGaussianPrior(config.dim, code_dim) if config.prior == "learned" else GaussianPrior(config.dim)


def _flow_prior(config: LatentConfig, code_dim: int) -> nn.Module:
    return FlowPrior(config.dim, code_dim if config.context == "caption" else 0, config)


FLOW = "flow"  # in both tables: the prior that fit-prior fits to a finished checkpoint
TILTED = "tilted"  # the prior that tilt-prior fits to a finished checkpoint
# p(z | c) by value of config key latent.z, and p(c) by latent.c. A new prior needs a module and a row here.
PRIORS: dict[str, PriorKind] = {
    "gaussian": PriorKind(lambda config, _: GaussianPrior(config.dim)),
    "vae": PriorKind(_vae_prior, posterior=True),
    FLOW: PriorKind(_flow_prior, posterior=True, least_dim=2),
    TILTED: PriorKind(_flow_prior, fitted=True, least_dim=2),
}
CODE_PRIORS: dict[str, CodePriorKind] = {
    "gaussian": CodePriorKind(lambda config, code_dim: GaussianPrior(code_dim)),
    FLOW: CodePriorKind(lambda config, code_dim: FlowPrior(code_dim, 0, config), learned=True),
}


def trainable(config: LatentConfig) -> LatentConfig:
    """The configuration with N(0, I) in place of a prior that belongs to a finished generator."""
    return replace(config, z="gaussian") if PRIORS[config.z].fitted else config


def check_latent(config: LatentConfig) -> None:
    """Raise ``ValueError`` for an unknown name or a dimension that its module does not support."""
    choices = {"z": PRIORS.keys(), "c": CODE_PRIORS.keys(), "family": FAMILIES.keys()}
    for key, names in choices.items():
        name = getattr(config, key)
        check(name in names, f"latent.{key}", name, "one of " + ", ".join(names))
    least = PRIORS[config.z].least_dim
    check(config.dim >= least, "latent.dim", config.dim, f"{least} or more with latent.z={config.z}")
