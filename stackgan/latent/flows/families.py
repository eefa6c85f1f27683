"""Table of flow families, and flows built from their steps.

To add one, write its bijection in a separate file, a function here that returns the maps of one step, and a row of
``FAMILIES``, which config key ``latent.family``, training and the studies use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from stackgan.latent.flows.autoregressive import MaskedAutoregressive
from stackgan.latent.flows.bijections import (
    ActNorm,
    Bijection,
    Inverted,
    InvertibleLinear,
    Scaling,
    mixing_shuffle,
    reversal,
)
from stackgan.latent.flows.coupling import AdditiveCoupling, AffineCoupling
from stackgan.latent.flows.distribution import Flow
from stackgan.latent.flows.multiscale import FactorOut, Flatten, Squeeze
from stackgan.latent.flows.spline import SplineCoupling

__all__ = ["FAMILIES", "FlowFamily", "Step", "flow", "image_flow"]


@dataclass(frozen=True)
class Step:
    """Arguments for the maps of one step.

    Attributes:
        channels: D of vectors (B, D), C of images (B, C, H, W).
        context: dimension of c, 0 for none.
        hidden: width of the networks.
        index: number of the step in its flow, from 0.
        images: whether x is an image.
    """

    channels: int
    context: int
    hidden: int
    index: int
    images: bool = False


@dataclass(frozen=True)
class FlowFamily:
    """A flow family.

    Attributes:
        title: its name in the literature.
        step: returns the maps of one step, from data to base.
        scaled: whether a :class:`Scaling` layer follows the last step.
        images: whether it supports images.
        one_pass_density: whether a density takes one pass of the networks (cheap maximum likelihood) instead of D.
    """

    title: str
    step: Callable[[Step], list[Bijection]]
    scaled: bool = False
    images: bool = True
    one_pass_density: bool = True


# Couplings map the second half of the channels, so a permutation or a linear map is needed between two of them. The
# order in which maps are built determines the random numbers that initialise them: do not change it.


def _nice(s: Step) -> list[Bijection]:
    """Additive couplings (arXiv:1410.8516)."""
    return [AdditiveCoupling(s.channels, s.context, s.hidden, images=s.images), reversal(s.channels)]


def _realnvp(s: Step) -> list[Bijection]:
    """Affine couplings (arXiv:1605.08803)."""
    coupling = AffineCoupling(s.channels, s.context, s.hidden, images=s.images)
    reverse = s.index % 2 == 1 and not s.images
    return [coupling, reversal(s.channels) if reverse else mixing_shuffle(s.channels, s.index)]


def _glow(s: Step) -> list[Bijection]:
    """Actnorm, invertible linear map (the 1×1 convolution of images), affine coupling (arXiv:1807.03039)."""
    return [
        ActNorm(s.channels),
        InvertibleLinear(s.channels),
        AffineCoupling(s.channels, s.context, s.hidden, images=s.images),
    ]


def _maf(s: Step) -> list[Bijection]:
    """Masked autoregressive maps, one pass for a density, D passes for a sample (arXiv:1705.07057)."""
    return [ActNorm(s.channels), MaskedAutoregressive(s.channels, s.context, s.hidden), reversal(s.channels)]


def _iaf(s: Step) -> list[Bijection]:
    """Inverse autoregressive maps, one pass for a sample, D passes for a density (arXiv:1606.04934)."""
    inverted = Inverted(MaskedAutoregressive(s.channels, s.context, s.hidden))
    return [ActNorm(s.channels), inverted, reversal(s.channels)]


def _nsf(s: Step) -> list[Bijection]:
    """Rational-quadratic spline couplings between invertible linear maps (arXiv:1906.04032)."""
    return [
        ActNorm(s.channels),
        InvertibleLinear(s.channels),
        SplineCoupling(s.channels, s.context, s.hidden, images=s.images),
    ]


FAMILIES: dict[str, FlowFamily] = {
    "nice": FlowFamily("NICE", _nice, scaled=True),
    "realnvp": FlowFamily("RealNVP", _realnvp, scaled=True),
    "glow": FlowFamily("Glow", _glow),
    "maf": FlowFamily("MAF", _maf, images=False),
    "iaf": FlowFamily("IAF", _iaf, images=False, one_pass_density=False),
    "nsf": FlowFamily("NSF", _nsf),
}


def flow(family: str, dim: int, context: int = 0, *, steps: int = 6, hidden: int = 64) -> Flow:
    """A flow over vectors (B, dim) with an optional context.

    Args:
        family: a name of ``FAMILIES``.
        dim: D, 2 or more.
        context: dimension of c; 0 for none.
        steps: number of couplings or autoregressive maps.
        hidden: width of their networks.

    Raises:
        ValueError: unknown family, or sizes below these bounds.

    >>> import torch
    >>> p = flow("realnvp", 2).given(count=4)
    >>> p.sample().shape, p.log_prob(torch.zeros(4, 2)).shape
    (torch.Size([4, 2]), torch.Size([4]))
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown flow family {family!r}: choose from {', '.join(FAMILIES)}")
    for name, value, least in (("dim", dim, 2), ("context", context, 0), ("steps", steps, 1), ("hidden", hidden, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}: a flow needs {least} or more")
    return Flow(_steps(FAMILIES[family], dim, context, steps, hidden), dim)


def image_flow(
    family: str, shape: tuple[int, int, int], context: int = 0, *, levels: int = 2, steps: int = 4, hidden: int = 64
) -> Flow:
    """A multi-scale flow over images (B, C, H, W), base space (B, C·H·W) (arXiv:1605.08803, section 3.6).

    Every level squeezes and applies ``steps`` steps; all but the last then factor out half of the channels.

    Args:
        family: a name of ``FAMILIES`` that supports images.
        shape: C, H, W; H and W divisible by 2 ** levels.

    Raises:
        ValueError: another family, or sides that cannot be halved ``levels`` times.
    """
    known = [name for name, row in FAMILIES.items() if row.images]
    if family not in known:
        raise ValueError(f"no image flow of family {family!r}: choose from {', '.join(known)}")
    _, height, width = shape
    if levels < 1 or height % 2**levels or width % 2**levels:
        raise ValueError(f"images of {height} × {width} cannot be squeezed {levels} times")
    return Flow([_level(FAMILIES[family], shape, context, levels, steps, hidden)], math.prod(shape))


def _steps(
    family: FlowFamily, channels: int, context: int, steps: int, hidden: int, images: bool = False
) -> list[Bijection]:
    built = [family.step(Step(channels, context, hidden, index, images)) for index in range(steps)]
    maps = [part for step in built for part in step]
    return [*maps, Scaling(channels)] if family.scaled else maps


def _level(
    family: FlowFamily, shape: tuple[int, int, int], context: int, levels: int, steps: int, hidden: int
) -> Flow:
    """Squeeze, the steps, then the next level on half of the channels, or flatten at the last level."""
    channels, height, width = shape[0] * 4, shape[1] // 2, shape[2] // 2
    maps: list[Bijection] = [Squeeze(), *_steps(family, channels, context, steps, hidden, images=True)]
    if levels == 1:
        maps.append(Flatten((channels, height, width)))
    else:
        half = (channels // 2, height, width)
        maps.append(FactorOut(_level(family, half, context, levels - 1, steps, hidden), half))
    return Flow(maps, math.prod(shape))
