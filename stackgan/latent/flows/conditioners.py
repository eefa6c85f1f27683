"""Conditioner networks: predict the parameters of a map from the unchanged part of x and the context c."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "MAX_LOG_SCALE",
    "Convolutions",
    "Perceptron",
    "compress_outliers",
    "shift_and_log_scale",
    "zero_initialised",
]

MAX_LOG_SCALE = 2.0  # of one affine map: scales between e⁻² and e²


class Perceptron(nn.Module):
    """(B, inputs) and context -> (B, outputs), initially zero."""

    def __init__(self, inputs: int, outputs: int, context: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs + context, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            zero_initialised(nn.Linear(hidden, outputs)),
        )  # fmt: skip

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.net(x if c is None else torch.cat((x, c), 1))


class Convolutions(nn.Module):
    """(B, inputs, H, W) and context -> (B, outputs, H, W), initially zero (Glow's coupling network)."""

    def __init__(self, inputs: int, outputs: int, context: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(inputs + context, hidden, 3, 1, 1), nn.SiLU(), nn.Conv2d(hidden, hidden, 1), nn.SiLU(),
            zero_initialised(nn.Conv2d(hidden, outputs, 3, 1, 1)),
        )  # fmt: skip

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        if c is not None:
            x = torch.cat((x, c[:, :, None, None].expand(-1, -1, *x.shape[2:])), 1)
        return self.net(x)


def zero_initialised(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def compress_outliers(x: Tensor) -> Tensor:
    """10 · asinh(x / 10): linear up to about 10, logarithmic beyond, to limit the influence of outliers."""
    return torch.asinh(x / 10) * 10


def shift_and_log_scale(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """(…, 2) -> the shift and the log scale of an affine map, |log scale| at most MAX_LOG_SCALE."""
    shift, raw = parameters.unbind(-1)
    return shift, MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)
