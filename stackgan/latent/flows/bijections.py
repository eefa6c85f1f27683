"""Bijections with exact log-determinants: the interface, and the maps without a network.

Every :class:`Bijection` maps data x to base u and back, each with the log-determinant of that direction:

    u, log |det ∂u/∂x| = f(x, c)              x, log |det ∂x/∂u| = f.inverse(u, c)

so that p(x | c) = N(f(x, c); 0, I) · |det ∂u/∂x| (arXiv:1410.8516, eq. 3). x is (B, D), or (B, C, H, W) if the
docstring of the map says so; c (B, context) is always optional. Maps are initialised at or close to the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from stackgan.runtime.distributed import gather_rows

__all__ = [
    "ActNorm",
    "Bijection",
    "Inverted",
    "InvertibleLinear",
    "Permutation",
    "Scaling",
    "mixing_shuffle",
    "reversal",
    "shuffle",
]


class Bijection(nn.Module):
    """An invertible map; see the module's docstring for the directions."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x -> u and log |det ∂u/∂x| (B,)."""
        raise NotImplementedError

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """u -> x and log |det ∂x/∂u| (B,)."""
        raise NotImplementedError


class Inverted(Bijection):
    """The inverse of a bijection as a bijection."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.inverse(x, c)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner(u, c)


class Scaling(Bijection):
    """u = x · exp(s), one learned s per channel (NICE's last layer, arXiv:1410.8516, section 3.3).

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
        values = gather_rows(x).transpose(0, 1).flatten(1)
        if values.shape[1] > 1:
            self.shift.copy_(-values.mean(1))
            self.log_scale.copy_(-values.std(1).clamp_min(1e-4).log())
            self.initialised.fill_(True)


class InvertibleLinear(Bijection):
    """u = W x over the channels, W = P L (U + diag(±exp s)): Glow's 1×1 convolution in LU form (arXiv:1807.03039,
    section 3.2, eq. 10–11). log |det| = Σ s, times H·W for images. W is initialised as a random rotation."""

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
        ValueError: ``order`` is not a permutation of 0 … C − 1.
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"{list(order)} is not a permutation of 0 … {len(order) - 1}")
        self.register_buffer("order", torch.tensor(list(order)))
        self.register_buffer("back", torch.argsort(self.order))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u[:, self.back], u.new_zeros(len(u))


def reversal(channels: int) -> Permutation:
    """Reverse the channels.

    >>> reversal(3)(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    tensor([[3., 2., 1.]])
    """
    return Permutation(range(channels - 1, -1, -1))


def shuffle(channels: int, generator: Generator | None = None) -> Permutation:
    """Permute the channels in a random but fixed order."""
    return Permutation(torch.randperm(channels, generator=generator).tolist())


def mixing_shuffle(channels: int, seed: int) -> Permutation:
    """Random permutation that moves at least half of a coupling's unchanged channels into the half that it maps."""
    generator, kept = torch.Generator().manual_seed(seed), channels // 2
    while True:
        mixed = shuffle(channels, generator)
        if 2 * int((mixed.order[:kept] < kept).sum()) <= kept:
            return mixed


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (C,) for broadcasting with (B, C, …)."""
    return values.view(-1, *[1] * (like.ndim - 2))


def _log_det(log_scale: Tensor, x: Tensor) -> Tensor:
    """(B,): Σ log_scale over all positions of x (B, C, …)."""
    return (log_scale.sum() * x[0, 0].numel()).expand(len(x))
