"""Normalizing flows: bijections with exact log-determinants, densities built from them, and the flow families."""

from stackgan.latent.flows.autoregressive import MaskedAutoregressive
from stackgan.latent.flows.bijections import (
    ActNorm,
    Bijection,
    Inverted,
    InvertibleLinear,
    Permutation,
    Scaling,
    mixing_shuffle,
    reversal,
    shuffle,
)
from stackgan.latent.flows.coupling import AdditiveCoupling, AffineCoupling
from stackgan.latent.flows.distribution import Flow, FlowDistribution
from stackgan.latent.flows.families import FAMILIES, FlowFamily, Step, flow, image_flow
from stackgan.latent.flows.multiscale import Squeeze
from stackgan.latent.flows.spline import SPLINE_BINS, SplineCoupling, rational_quadratic_spline

__all__ = [
    "FAMILIES",
    "SPLINE_BINS",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Flow",
    "FlowDistribution",
    "FlowFamily",
    "Inverted",
    "InvertibleLinear",
    "MaskedAutoregressive",
    "Permutation",
    "Scaling",
    "SplineCoupling",
    "Squeeze",
    "Step",
    "flow",
    "image_flow",
    "mixing_shuffle",
    "rational_quadratic_spline",
    "reversal",
    "shuffle",
]
