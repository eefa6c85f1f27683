"""Coupling layers: one half of the channels is mapped with parameters predicted from the other half."""

from __future__ import annotations

import torch
from torch import Tensor

from stackgan.latent.flows.bijections import Bijection
from stackgan.latent.flows.conditioners import Convolutions, Perceptron, compress_outliers, shift_and_log_scale

__all__ = ["AdditiveCoupling", "AffineCoupling", "Coupling"]


class Coupling(Bijection):
    """Maps half of the channels elementwise, with parameters that a network predicts from the other half.

    Args:
        channels: D of vectors (B, D), C of images (B, C, H, W); 2 or more.
        context: dimension of c; 0 for none.
        hidden: width of the network.
        images: whether x is an image.
        parameters: number of parameters of an element's map.

    Raises:
        ValueError: fewer than 2 channels: one half would be empty.
    """

    def __init__(
        self, channels: int, context: int = 0, hidden: int = 64, *, images: bool = False, parameters: int = 1
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling needs 2 channels or more, not {channels}")
        self.kept, self.parameters_each = channels // 2, parameters
        self.moved = channels - self.kept
        self.net = (Convolutions if images else Perceptron)(self.kept, self.moved * parameters, context, hidden)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = x.split([self.kept, self.moved], 1)
        moved, log_slopes = self.element_forward(moved, self._predict(kept, c))
        return torch.cat((kept, moved), 1), log_slopes.flatten(1).sum(1)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = u.split([self.kept, self.moved], 1)
        moved, log_slopes = self.element_inverse(moved, self._predict(kept, c))
        return torch.cat((kept, moved), 1), log_slopes.flatten(1).sum(1)

    def _predict(self, kept: Tensor, c: Tensor | None) -> Tensor:
        """Parameters (B, moved, …, P) of the elements' maps."""
        raw = self.net(compress_outliers(kept), c)
        return raw.view(len(raw), self.moved, self.parameters_each, *raw.shape[2:]).movedim(2, -1)

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Elements and their parameters (…, P) -> mapped elements and log slopes, shaped as the elements."""
        raise NotImplementedError

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class AdditiveCoupling(Coupling):
    """NICE: u₂ = x₂ + t(x₁, c); volume-preserving (arXiv:1410.8516, section 3.2)."""

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + parameters[..., 0], torch.zeros_like(x)

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return u - parameters[..., 0], torch.zeros_like(u)


class AffineCoupling(Coupling):
    """RealNVP: u₂ = x₂ · exp(s(x₁, c)) + t(x₁, c) (arXiv:1605.08803, eq. 4–5), |s| at most MAX_LOG_SCALE."""

    def __init__(self, channels: int, context: int = 0, hidden: int = 64, *, images: bool = False) -> None:
        super().__init__(channels, context, hidden, images=images, parameters=2)

    def element_forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = shift_and_log_scale(parameters)
        return x * log_scale.exp() + shift, log_scale

    def element_inverse(self, u: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = shift_and_log_scale(parameters)
        return (u - shift) * (-log_scale).exp(), -log_scale
