"""Neural spline flows: couplings with monotone rational-quadratic splines."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.latent.flows.coupling import Coupling

__all__ = ["SPLINE_BINS", "SPLINE_BOUND", "SplineCoupling", "rational_quadratic_spline"]

SPLINE_BOUND = 5.0  # splines are the identity outside [−5, 5]
SPLINE_BINS = 8
LEAST_BIN, LEAST_SLOPE = 1e-2, 1e-2  # minima, as steeper or flatter splines cannot be inverted in float32


class SplineCoupling(Coupling):
    """NSF: monotone rational-quadratic splines on [−5, 5], the identity outside (arXiv:1906.04032, section 3.1)."""

    def __init__(
        self, channels: int, context: int = 0, hidden: int = 64, *, images: bool = False, bins: int = SPLINE_BINS
    ) -> None:
        super().__init__(channels, context, hidden, images=images, parameters=3 * bins - 1)

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic_spline(x, parameters)

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return rational_quadratic_spline(u, parameters, inverse=True)


def rational_quadratic_spline(
    x: Tensor, parameters: Tensor, inverse: bool = False, bound: float = SPLINE_BOUND
) -> tuple[Tensor, Tensor]:
    """Elementwise monotone rational-quadratic spline (arXiv:1906.04032, eq. 4–8), and its log slopes.

    Args:
        x: any shape.
        parameters: x's shape and a last dimension of 3K − 1: K widths, K heights, K − 1 inner slopes, all
            unconstrained; zeros give the identity.
        inverse: compute the inverse map.
        bound: B; linear with slope 1 outside [−B, B].
    """
    bins = (parameters.shape[-1] + 1) // 3
    widths, heights, slopes = parameters.split([bins, bins, bins - 1], -1)
    slopes = F.pad(LEAST_SLOPE + F.softplus(slopes + math.log(math.expm1(1 - LEAST_SLOPE))), (1, 1), value=1.0)
    x_knots, y_knots = _knots(widths, bound), _knots(heights, bound)
    inside = (x > -bound) & (x < bound)
    point = x.clamp(-bound, bound)

    knots = y_knots if inverse else x_knots
    bin_of = (knots[..., 1:-1] < point[..., None]).sum(-1, keepdim=True)  # 0 … K − 1
    x0, x1 = _at(x_knots, bin_of), _at(x_knots, bin_of + 1)
    y0, y1 = _at(y_knots, bin_of), _at(y_knots, bin_of + 1)
    d0, d1 = _at(slopes, bin_of), _at(slopes, bin_of + 1)
    steep = (y1 - y0) / (x1 - x0)
    bend = d0 + d1 - 2 * steep

    if inverse:
        rise = point - y0
        a = (y1 - y0) * (steep - d0) + rise * bend
        b = (y1 - y0) * d0 - rise * bend
        root = (b.square() + 4 * a * steep * rise).clamp_min(0).sqrt()
        t = (2 * steep * rise / (b + root).clamp_min(torch.finfo(x.dtype).tiny)).clamp(0, 1)
        result = x0 + t * (x1 - x0)
    else:
        t = (point - x0) / (x1 - x0)
        result = y0 + (y1 - y0) * (steep * t.square() + d0 * t * (1 - t)) / (steep + bend * t * (1 - t))
    under = steep + bend * t * (1 - t)
    over = steep.square() * (d1 * t.square() + 2 * steep * t * (1 - t) + d0 * (1 - t).square())
    log_slope = over.log() - 2 * under.log()
    log_slope = torch.where(inside, -log_slope if inverse else log_slope, torch.zeros_like(x))
    return torch.where(inside, result, x), log_slope


def _knots(free: Tensor, bound: float) -> Tensor:
    """(…, K) unconstrained numbers -> K + 1 increasing knots from −bound to bound."""
    bins = free.shape[-1]
    widths = LEAST_BIN + (1 - LEAST_BIN * bins) * free.softmax(-1)
    inner = (2 * widths[..., :-1].cumsum(-1) - 1) * bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def _at(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(-1, places)[..., 0]
