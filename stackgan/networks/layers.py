"""Blocks of generators and discriminators, and their initialisation.

Shapes are (B, channels, height, width) throughout.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.networks.fast_ops import (
    SLOPE,
    BatchNorm2d,
    BatchNormByGroup,
    conv_few_places,
    conv_upsampled,
    conv_with_code,
    native_operators_work,
    norm_gain_leaky,
)
from stackgan.runtime.distributed import gather_rows, own_rows, whole_count

__all__ = [
    "FusedBlock",
    "FusedNorm",
    "GatedBlock",
    "GatedResidual",
    "LeakyBlock",
    "MinibatchStd",
    "ResidualDown",
    "conv3x3",
    "glu",
    "kaiming_init",
    "orthogonal_init",
    "spread",
]


def glu(x: Tensor) -> Tensor:
    """Gated linear unit: the first half of the channels, gated by the sigmoid of the second (arXiv:1612.08083).

    >>> glu(torch.tensor([[3.0, 0.0]]))
    tensor([[1.5000]])
    """
    return F.glu(x, dim=1)


def conv3x3(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias)


def spread(c: Tensor, like: Tensor) -> Tensor:
    """Expand a code (B, C) to constant planes (B, C, H, W), with H and W of ``like``."""
    return c[:, :, None, None].expand(-1, -1, *like.shape[2:])


# --- published generator blocks (arXiv:1710.10916, section 4; BatchNorm and GLU) -----------------------------


class GatedBlock(nn.Module):
    """[nearest ×2 →] 3×3 convolution → BatchNorm → GLU: (B, inputs, H, W) -> (B, outputs, H or 2H, W or 2W)."""

    def __init__(self, inputs: int, outputs: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = conv3x3(inputs, outputs * 2)
        self.norm = BatchNorm2d(outputs * 2)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """With a ``code`` (B, C), the first C input channels are its constant planes and x has the others."""
        if code is not None:
            y = conv_with_code(self.conv, code, x)
        else:
            y = conv_upsampled(self.conv, x) if self.upsample else self.conv(x)
        return glu(self.norm(y))


class GatedResidual(nn.Module):
    """x + BatchNorm(conv(gated(x))), shape kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gated = GatedBlock(width, width)
        self.conv = conv3x3(width, width)
        self.norm = BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(self.gated(x)))


# --- blocks conditioned on the style in every normalisation -------------------------------------------------


class FusedNorm(nn.Module):
    """BatchNorm without affine parameters, gain and shift as linear maps of the style s (B, S), LeakyReLU 0.2.

    y = leaky((1 + A s) · norm(x) + B s), a text-fused normalisation after DF-GAN (arXiv:2008.05865, section 3.3). In
    training it is one autograd function with an explicit gradient
    (:func:`~stackgan.networks.fast_ops.norm_gain_leaky`).
    """

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=False)
        self.affine = nn.Linear(style, channels * 2)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gain, shift = self.affine(s)[:, :, None, None].chunk(2, dim=1)
        learns = self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if learns and self.norm.momentum is not None and native_operators_work():  # momentum None: cumulative mean
            return norm_gain_leaky(x, 1 + gain, shift, self.norm)
        return F.leaky_relu(torch.addcmul(shift, self.norm(x), 1 + gain), SLOPE)


class FusedBlock(nn.Module):
    """Residual block with two text-fused normalisations: (B, inputs, H, W), (B, S) -> (B, outputs, ...)."""

    def __init__(self, inputs: int, outputs: int, style: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1, self.norm2 = FusedNorm(inputs, style), FusedNorm(outputs, style)
        self.conv1, self.conv2 = conv3x3(inputs, outputs, bias=True), conv3x3(outputs, outputs, bias=True)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        y = self.norm1(x, s)
        x = self.skip(x)  # a 1×1 convolution commutes with nearest upsampling and costs a quarter before it
        if self.upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        y = conv_upsampled(self.conv1, y) if self.upsample else self.conv1(y)
        return x + self.conv2(self.norm2(y, s))


# --- discriminator blocks -----------------------------------------------------------------------------------


class LeakyBlock(nn.Sequential):
    """Convolution → [BatchNorm →] LeakyReLU 0.2, as published: kernel 4 halves the side, kernel 3 keeps it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: bool = True) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, 2 if kernel == 4 else 1, 1, bias=False)
        super().__init__(conv, *([BatchNormByGroup(outputs)] if norm else []), nn.LeakyReLU(0.2, inplace=True))

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """``groups`` as in :class:`BatchNormByGroup`."""
        conv, *norm, activation = self
        assert isinstance(conv, nn.Conv2d)
        x = conv_few_places(conv, x)
        for layer in norm:
            x = layer(x, groups)
        return activation(x)


class ResidualDown(nn.Module):
    """Residual block without normalisation that halves the side: (B, inputs, 2H, 2W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 4, 2, 1)
        self.conv2 = conv3x3(outputs, outputs, bias=True)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, 0.2)), 0.2))
        return (self.skip(F.avg_pool2d(x, 2)) + y) / math.sqrt(2)


class MinibatchStd(nn.Module):
    """Minibatch standard deviation (arXiv:1710.10196, section 3): x + w · mean standard deviation of the features.

    The deviations are taken over groups of four images. Instead of a further feature map followed by a linear layer,
    that layer's result is added directly, with weights w (C,) initialised to 0.
    """

    GROUP = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); B may hold ``batches`` concatenated batches, treated separately."""
        size = whole_count(len(x)) // batches
        group = self.GROUP if size % self.GROUP == 0 else size
        groups = gather_rows(x.float()).unflatten(0, (-1, group))
        away = groups - groups.mean(1, keepdim=True)
        spread = (away.square().mean(1) + 1e-8).sqrt().mean((1, 2, 3))  # var() is ten times slower here
        of_rows = own_rows(spread[:, None].expand(-1, group).reshape(-1, 1))
        return x + (of_rows * self.weight).to(x.dtype)[:, :, None, None]


# --- initialisation -----------------------------------------------------------------------------------------


def orthogonal_init(module: nn.Module) -> None:
    """Published initialisation: orthogonal convolutions and linear maps, BatchNorm weights N(1, 0.02), biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and part.affine:
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)


def kaiming_init(module: nn.Module) -> None:
    """He initialisation for LeakyReLU 0.2 (arXiv:1502.01852); fused normalisations start near the identity.

    With PyTorch's default, a discriminator without normalisation gives nearly constant logits for minutes of
    training.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, 0.2)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, FusedNorm):
            nn.init.normal_(part.affine.weight, 0.0, 0.5 / math.sqrt(part.affine.in_features))
