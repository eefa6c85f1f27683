"""Invertible maps with exact log-determinants, and the flows that are made of them.

Every :class:`Bijection` maps data x to base u and back, both with the log-determinant of the direction taken:

    u, log |det ∂u/∂x| = f(x, c)              x, log |det ∂x/∂u| = f.inverse(u, c)

so that p(x | c) = N(f(x, c); 0, I) · |det ∂u/∂x| (arXiv:1410.8516, eq. 3). x is (B, D), or (B, C, H, W) where a map
says so; c (B, context) is optional everywhere. A new map starts at, or close to, the identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from stackgan.latent.distributions import DiagonalGaussian, standard_normal

__all__ = [
    "FAMILIES",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Flow",
    "FlowDistribution",
    "Inverted",
    "InvertibleLinear",
    "MaskedAutoregressive",
    "Permutation",
    "Scaling",
    "SplineCoupling",
    "Squeeze",
    "flow",
    "image_flow",
    "rational_quadratic_spline",
    "reversal",
    "shuffle",
]

MAX_LOG_SCALE = 2.0  # of one affine map: a factor of e² either way
SPLINE_BOUND = 5.0  # outside [−5, 5] splines are the identity
SPLINE_BINS = 8
LEAST_BIN, LEAST_SLOPE = 1e-2, 1e-2  # steeper or flatter splines cannot be undone in float32


class Bijection(nn.Module):
    """An invertible map; see the module's docstring for the directions."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x -> u and log |det ∂u/∂x| (B,)."""
        raise NotImplementedError

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """u -> x and log |det ∂x/∂u| (B,)."""
        raise NotImplementedError


# --- what couplings look through ----------------------------------------------------------------------------


class _Perceptron(nn.Module):
    """(B, inputs) and context -> (B, outputs), zero at the start."""

    def __init__(self, inputs: int, outputs: int, context: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs + context, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            _zeroed(nn.Linear(hidden, outputs)),
        )  # fmt: skip

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.net(x if c is None else torch.cat((x, c), 1))


class _Convolutions(nn.Module):
    """(B, inputs, H, W) and context -> (B, outputs, H, W), zero at the start (Glow's coupling network)."""

    def __init__(self, inputs: int, outputs: int, context: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(inputs + context, hidden, 3, 1, 1), nn.SiLU(), nn.Conv2d(hidden, hidden, 1), nn.SiLU(),
            _zeroed(nn.Conv2d(hidden, outputs, 3, 1, 1)),
        )  # fmt: skip

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        if c is not None:
            x = torch.cat((x, c[:, :, None, None].expand(-1, -1, *x.shape[2:])), 1)
        return self.net(x)


def _zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class _Coupling(Bijection):
    """Half of the channels is mapped element by element, by a map whose parameters are read from the other half.

    Args:
        channels: D of vectors (B, D), C of images (B, C, H, W); 2 or more.
        context: dimension of c; 0 for none.
        hidden: width of the network.
        images: whether x is an image.
        parameters: numbers that the map of one element needs.

    Raises:
        ValueError: fewer than 2 channels: there would be nothing to look at.
    """

    def __init__(
        self, channels: int, context: int = 0, hidden: int = 64, *, images: bool = False, parameters: int = 1
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling needs 2 channels or more, not {channels}")
        self.kept, self.parameters_each = channels // 2, parameters
        self.moved = channels - self.kept
        self.net = (_Convolutions if images else _Perceptron)(self.kept, self.moved * parameters, context, hidden)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = x.split([self.kept, self.moved], 1)
        moved, log_slopes = self.element_forward(moved, self._read(kept, c))
        return torch.cat((kept, moved), 1), log_slopes.flatten(1).sum(1)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = u.split([self.kept, self.moved], 1)
        moved, log_slopes = self.element_inverse(moved, self._read(kept, c))
        return torch.cat((kept, moved), 1), log_slopes.flatten(1).sum(1)

    def _read(self, kept: Tensor, c: Tensor | None) -> Tensor:
        """Parameters (B, moved, …, P) of the elements' maps."""
        raw = self.net(_tame(kept), c)
        return raw.view(len(raw), self.moved, self.parameters_each, *raw.shape[2:]).movedim(2, -1)

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Elements and their parameters (…, P) -> mapped elements and log slopes, shaped as the elements."""
        raise NotImplementedError

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def _tame(x: Tensor) -> Tensor:
    """Linear up to about 10, logarithmic beyond, so that no outlier blows up the networks that look at it."""
    return torch.asinh(x / 10) * 10


class AdditiveCoupling(_Coupling):
    """NICE: u₂ = x₂ + t(x₁, c); volume-preserving (arXiv:1410.8516, section 3.2)."""

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + parameters[..., 0], torch.zeros_like(x)

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return u - parameters[..., 0], torch.zeros_like(u)


class AffineCoupling(_Coupling):
    """RealNVP: u₂ = x₂ · exp(s(x₁, c)) + t(x₁, c) (arXiv:1605.08803, eq. 4–5), |s| at most MAX_LOG_SCALE."""

    def __init__(self, channels: int, context: int = 0, hidden: int = 64, *, images: bool = False) -> None:
        super().__init__(channels, context, hidden, images=images, parameters=2)

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = _affine(parameters)
        return x * log_scale.exp() + shift, log_scale

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = _affine(parameters)
        return (u - shift) * (-log_scale).exp(), -log_scale


def _affine(parameters: Tensor) -> tuple[Tensor, Tensor]:
    shift, raw = parameters.unbind(-1)
    return shift, MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)


class SplineCoupling(_Coupling):
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
    """Monotone rational-quadratic spline, element by element (arXiv:1906.04032, eq. 4–8), and its log slopes.

    Args:
        x: any shape.
        parameters: x's shape and a last dimension of 3K − 1: K widths, K heights, K − 1 inner slopes, all free; zeros
            give the identity.
        inverse: go from heights to widths.
        bound: B; linear with slope 1 outside [−B, B].
    """
    bins = (parameters.shape[-1] + 1) // 3
    widths, heights, slopes = parameters.split([bins, bins, bins - 1], -1)
    slopes = F.pad(LEAST_SLOPE + F.softplus(slopes + math.log(math.expm1(1 - LEAST_SLOPE))), (1, 1), value=1.0)
    x_knots, y_knots = _knots(widths, bound), _knots(heights, bound)
    inside = (x > -bound) & (x < bound)
    point = x.clamp(-bound, bound)

    knots = y_knots if inverse else x_knots
    bin_of = (torch.searchsorted(knots[..., 1:-1].contiguous(), point[..., None].contiguous())).clamp(0, bins - 1)
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
    """(…, K) free numbers -> K + 1 increasing knots from −bound to bound."""
    bins = free.shape[-1]
    widths = LEAST_BIN + (1 - LEAST_BIN * bins) * free.softmax(-1)
    inner = (2 * widths[..., :-1].cumsum(-1) - 1) * bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def _at(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(-1, places)[..., 0]


# --- maps that mix or scale channels ------------------------------------------------------------------------


class Scaling(Bijection):
    """u = x · exp(s), one learned s a channel (NICE's last layer, arXiv:1410.8516, section 3.3).

    With a standard normal base, log p(x) = log N(x; 0, exp(−2s)): the same as learning the prior's variances.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * _per_channel(self.log_scale.exp(), x), _log_det(self.log_scale, x)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u * _per_channel((-self.log_scale).exp(), u), _log_det(-self.log_scale, u)


class ActNorm(Bijection):
    """u = (x + b) · exp(s) by channel (arXiv:1807.03039, section 3.1).

    The first training batch sets b and s to zero mean and unit variance.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not self.initialised:
            self._measure(x)
        y = (x + _per_channel(self.shift, x)) * _per_channel(self.log_scale.exp(), x)
        return y, _log_det(self.log_scale, x)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = u * _per_channel((-self.log_scale).exp(), u) - _per_channel(self.shift, u)
        return x, _log_det(-self.log_scale, u)

    @torch.no_grad()
    def _measure(self, x: Tensor) -> None:
        values = x.transpose(0, 1).flatten(1)
        if values.shape[1] > 1:
            self.shift.copy_(-values.mean(1))
            self.log_scale.copy_(-values.std(1).clamp_min(1e-4).log())
            self.initialised.fill_(True)


class InvertibleLinear(Bijection):
    """u = W x over the channels, W = P L (U + diag(±exp s)): Glow's 1×1 convolution in LU form (arXiv:1807.03039,
    section 3.2, eq. 10–11). log |det| = Σ s, times H·W for images. W starts as a random rotation."""

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", diagonal.sign())
        self.log_scale = nn.Parameter(diagonal.abs().clamp_min(1e-6).log())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))

    def _factors(self) -> tuple[Tensor, Tensor]:
        """P L and U, both (C, C)."""
        unit = torch.eye(len(self.signs), device=self.signs.device, dtype=self.signs.dtype)
        upper = self.upper.triu(1) + torch.diag(self.signs * self.log_scale.exp())
        return self.lower.tril(-1) + unit, upper

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        weight = self.permutation @ lower @ upper
        return torch.einsum("oi,bi...->bo...", weight, x), _log_det(self.log_scale, x)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        columns = self.permutation.T @ u.transpose(0, 1).flatten(1)  # (C, B·H·W)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x = columns.view(u.shape[1], len(u), *u.shape[2:]).transpose(0, 1)
        return x, _log_det(-self.log_scale, u)


class Permutation(Bijection):
    """u = x with its channels in another order; log-determinant 0.

    Raises:
        ValueError: ``order`` is no permutation of 0 … C − 1.
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"{list(order)} is no permutation of 0 … {len(order) - 1}")
        self.register_buffer("order", torch.tensor(list(order)))
        self.register_buffer("back", torch.argsort(self.order))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u[:, self.back], u.new_zeros(len(u))


def reversal(channels: int) -> Permutation:
    """The channels back to front.

    >>> reversal(3)(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    tensor([[3., 2., 1.]])
    """
    return Permutation(range(channels - 1, -1, -1))


def shuffle(channels: int, generator: Generator | None = None) -> Permutation:
    """The channels in a random order, fixed from here on."""
    return Permutation(torch.randperm(channels, generator=generator).tolist())


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(C,) shaped to meet (B, C, …)."""
    return values.view(-1, *[1] * (like.ndim - 2))


def _log_det(log_scale: Tensor, x: Tensor) -> Tensor:
    """(B,): Σ log_scale for each place of x (B, C, …)."""
    return (log_scale.sum() * x[0, 0].numel()).expand(len(x))


# --- autoregressive -----------------------------------------------------------------------------------------


class _MaskedLinear(nn.Linear):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedAutoregressive(Bijection):
    """MAF: u_i = x_i · exp(s_i) + t_i, (s_i, t_i) read from x_1 … x_{i−1} and c by a MADE (arXiv:1705.07057, eq. 4).

    One pass from data to base, D passes back; :class:`Inverted` turns it round (IAF, arXiv:1606.04934).
    """

    def __init__(self, dim: int, context: int = 0, hidden: int = 64) -> None:
        super().__init__()
        self.dim = dim
        inputs = torch.arange(1, dim + 1)
        units = torch.arange(hidden) % max(dim - 1, 1) + 1
        self.first = _MaskedLinear(units[:, None] >= inputs[None])
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.second = _MaskedLinear(units[:, None] >= units[None])
        self.last = _MaskedLinear((inputs[:, None] > units[None]).repeat(2, 1))
        _zeroed(self.last)

    def _read(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shift and log scale, (B, D) each."""
        h = self.first(_tame(x))
        if self.context is not None and c is not None:
            h = h + self.context(c)
        shift, raw = self.last(F.silu(self.second(F.silu(h)))).chunk(2, 1)
        return _affine(torch.stack((shift, raw), -1))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._read(x, c)
        return x * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = torch.zeros_like(u)
        for i in range(self.dim):
            shift, log_scale = self._read(x, c)
            value = (u[:, i] - shift[:, i]) * (-log_scale[:, i]).exp()
            x = torch.cat((x[:, :i], value[:, None], x[:, i + 1 :]), 1)
        return x, -self._read(x, c)[1].sum(1)


class Inverted(Bijection):
    """A map taken the other way round."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.inverse(x, c)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner(u, c)


# --- images -------------------------------------------------------------------------------------------------


class Squeeze(Bijection):
    """(B, C, H, W) -> (B, 4C, H / 2, W / 2), each 2×2 square into channels (arXiv:1605.08803, section 3.6)."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(u, 2), u.new_zeros(len(u))


class _FactorOut(Bijection):
    """Multi-scale: half of the channels is done here, ``rest`` goes on with the other (arXiv:1605.08803, eq. 13–16).

    (B, C, H, W) -> (B, C·H·W): what ``rest`` makes of the first half, then the second half, flat.
    """

    def __init__(self, rest: Bijection, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.rest, self.shape = rest, shape  # (C / 2, H, W) of what goes on

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        going, done = x.split([self.shape[0], x.shape[1] - self.shape[0]], 1)
        u, log_det = self.rest(going, c)
        return torch.cat((u.flatten(1), done.flatten(1)), 1), log_det

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        size = math.prod(self.shape)
        going, log_det = self.rest.inverse(u[:, :size], c)
        return torch.cat((going, u[:, size:].view(len(u), -1, *self.shape[1:])), 1), log_det


class _Flat(Bijection):
    """(B, C, H, W) -> (B, C·H·W)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u.view(-1, *self.shape), u.new_zeros(len(u))


# --- flows --------------------------------------------------------------------------------------------------


class Flow(Bijection):
    """Maps one after the other, and the conditional density they give a standard normal base.

    Args:
        maps: from data to base.
        dim: D of the base space.
    """

    def __init__(self, maps: Sequence[Bijection], dim: int) -> None:
        super().__init__()
        self.maps, self.dim = nn.ModuleList(maps), dim

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):  # half precision has no exact inverse
            total = x.new_zeros(len(x))
            for part in self.maps:
                x, log_det = part(x, c)
                total = total + log_det
        return x, total

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.autocast(u.device.type, enabled=False):
            total = u.new_zeros(len(u))
            for part in reversed(self.maps):
                assert isinstance(part, Bijection)
                u, log_det = part.inverse(u, c)
                total = total + log_det
        return u, total

    def given(self, c: Tensor | None = None, count: int | None = None) -> FlowDistribution:
        """p(x | c) for c (B, context), or ``count`` rows of p(x) where there is no context.

        Raises:
            ValueError: neither c nor a count.
        """
        if c is None and count is None:
            raise ValueError("a flow without context needs to know how many rows: pass count")
        return FlowDistribution(self, c, len(c) if c is not None else int(count or 0))


@dataclass(frozen=True)
class FlowDistribution:
    """p(x | c) = N(f(x, c); 0, I) · |det ∂f/∂x|, one row each: exact density, samples by one inverse pass.

    ``mode`` is the image of the base's mode, the point that noise 0 gives; the density may be higher elsewhere.
    """

    flow: Flow
    c: Tensor | None
    count: int

    @property
    def mode(self) -> Tensor:
        return self.sample(noise=torch.zeros_like(self._base().mu))

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """f⁻¹(noise, c), (B, D), reparameterised; noise is N(0, I) if absent."""
        if noise is None:
            noise = self._base().sample(generator)
        return self.flow.inverse(noise, self.c)[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density (B,) of x (B, D) in nats (arXiv:1410.8516, eq. 3)."""
        u, log_det = self.flow(x, self.c)
        return standard_normal(u, u.shape[1]).log_prob(u) + log_det

    def to_noise(self, x: Tensor) -> Tensor:
        """The base point (B, D) that :meth:`sample` turns into x."""
        return self.flow(x, self.c)[0]

    def _base(self) -> DiagonalGaussian:
        return standard_normal(next(self.flow.parameters()).new_empty(self.count), self.flow.dim)


# One step of every family: (dim, context, hidden, index of the step) -> maps. Couplings move the second half, so a
# permutation stands between them.
FAMILIES: dict[str, Callable[[int, int, int, int], list[Bijection]]] = {
    "nice": lambda d, c, h, i: [AdditiveCoupling(d, c, h), reversal(d)],
    "realnvp": lambda d, c, h, i: [AffineCoupling(d, c, h), reversal(d) if i % 2 else _fixed_shuffle(d, i)],
    "glow": lambda d, c, h, i: [ActNorm(d), InvertibleLinear(d), AffineCoupling(d, c, h)],
    "maf": lambda d, c, h, i: [ActNorm(d), MaskedAutoregressive(d, c, h), reversal(d)],
    "iaf": lambda d, c, h, i: [ActNorm(d), Inverted(MaskedAutoregressive(d, c, h)), reversal(d)],
    "nsf": lambda d, c, h, i: [ActNorm(d), InvertibleLinear(d), SplineCoupling(d, c, h)],
}


def _fixed_shuffle(channels: int, seed: int) -> Permutation:
    """A random order in which at least half of what a coupling keeps moves to the side that it maps."""
    generator, kept = torch.Generator().manual_seed(seed), channels // 2
    while True:
        mixed = shuffle(channels, generator)
        if 2 * int((mixed.order[:kept] < kept).sum()) <= kept:
            return mixed


def flow(family: str, dim: int, context: int = 0, *, steps: int = 6, hidden: int = 64) -> Flow:
    """A flow over vectors (B, dim) with an optional context.

    Args:
        family: one of ``FAMILIES``: nice (additive couplings and a scaling layer), realnvp (affine couplings),
            glow (actnorm, invertible linear map, affine couplings), maf, iaf (masked autoregressive, fast in density
            and fast in sampling), nsf (spline couplings between invertible linear maps).
        dim: D, 2 or more.
        context: dimension of c; 0 for none.
        steps: how many couplings or autoregressive maps.
        hidden: width of their networks.

    Raises:
        ValueError: unknown family, or sizes below these bounds.

    >>> p = flow("realnvp", 2).given(count=4)
    >>> p.sample().shape, p.log_prob(torch.zeros(4, 2)).shape
    (torch.Size([4, 2]), torch.Size([4]))
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown flow family {family!r}: choose from {', '.join(FAMILIES)}")
    for name, value, least in (("dim", dim, 2), ("context", context, 0), ("steps", steps, 1), ("hidden", hidden, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}: a flow needs {least} or more")
    maps = [part for i in range(steps) for part in FAMILIES[family](dim, context, hidden, i)]
    if family in ("nice", "realnvp"):
        maps.append(Scaling(dim))
    return Flow(maps, dim)


def image_flow(
    family: str, shape: tuple[int, int, int], context: int = 0, *, levels: int = 2, steps: int = 4, hidden: int = 64
) -> Flow:
    """A multi-scale flow over images (B, C, H, W), base space (B, C·H·W) (arXiv:1605.08803, section 3.6).

    Every level squeezes and runs ``steps`` steps; all but the last then hand half of the channels to the base space.

    Args:
        family: nice, realnvp, glow or nsf.
        shape: C, H, W; H and W divisible by 2 ** levels.

    Raises:
        ValueError: another family, or sides that cannot be halved so often.
    """
    if family not in _IMAGE_STEPS:
        raise ValueError(f"no image flow of family {family!r}: choose from {', '.join(_IMAGE_STEPS)}")
    _, height, width = shape
    if levels < 1 or height % 2**levels or width % 2**levels:
        raise ValueError(f"images of {height} × {width} cannot be squeezed {levels} times")
    return Flow([_level(family, shape, context, levels, steps, hidden)], math.prod(shape))


_IMAGE_STEPS: dict[str, Callable[[int, int, int, int], list[Bijection]]] = {
    "nice": lambda d, c, h, i: [AdditiveCoupling(d, c, h, images=True), reversal(d)],
    "realnvp": lambda d, c, h, i: [AffineCoupling(d, c, h, images=True), _fixed_shuffle(d, i)],
    "glow": lambda d, c, h, i: [ActNorm(d), InvertibleLinear(d), AffineCoupling(d, c, h, images=True)],
    "nsf": lambda d, c, h, i: [ActNorm(d), InvertibleLinear(d), SplineCoupling(d, c, h, images=True)],
}


def _level(family: str, shape: tuple[int, int, int], context: int, levels: int, steps: int, hidden: int) -> Flow:
    """Squeeze, steps, and what comes after: the next level on half of the channels, or the flat end."""
    channels, height, width = shape[0] * 4, shape[1] // 2, shape[2] // 2
    maps: list[Bijection] = [Squeeze()]
    maps += [part for i in range(steps) for part in _IMAGE_STEPS[family](channels, context, hidden, i)]
    if family in ("nice", "realnvp"):
        maps.append(Scaling(channels))
    if levels == 1:
        maps.append(_Flat((channels, height, width)))
    else:
        half = (channels // 2, height, width)
        maps.append(_FactorOut(_level(family, half, context, levels - 1, steps, hidden), half))
    return Flow(maps, math.prod(shape))
