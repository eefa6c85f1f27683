"""The blocks that generators and discriminators are made of, and how their weights start.

Shapes are (B, channels, height, width) throughout.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "GLU",
    "FusedBlock",
    "FusedNorm",
    "GatedBlock",
    "GatedResidual",
    "ResidualDown",
    "conv3x3",
    "down4x4",
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


class GLU(nn.Module):
    """:func:`glu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return glu(x)


def conv3x3(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias)


def spread(c: Tensor, like: Tensor) -> Tensor:
    """A code (B, C) as constant planes (B, C, H, W), H and W as in ``like``."""
    return c[:, :, None, None].expand(-1, -1, *like.shape[2:])


# --- published generator blocks (arXiv:1710.10916, section 4; BatchNorm and GLU) -----------------------------


class GatedBlock(nn.Module):
    """[nearest ×2 →] 3×3 convolution → BatchNorm → GLU: (B, inputs, H, W) -> (B, outputs, H or 2H, W or 2W)."""

    def __init__(self, inputs: int, outputs: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = conv3x3(inputs, outputs * 2)
        self.norm = nn.BatchNorm2d(outputs * 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return glu(self.norm(self.conv(x)))


class GatedResidual(nn.Module):
    """x + BatchNorm(conv(gated(x))), shape kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gated = GatedBlock(width, width)
        self.conv = conv3x3(width, width)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(self.gated(x)))


# --- blocks that see the condition everywhere ---------------------------------------------------------------


class FusedNorm(nn.Module):
    """BatchNorm without affine, then gain and shift read linearly from the style s (B, S).

    y = (1 + A s) · norm(x) + B s, the text-fused normalisation of DF-GAN's idea (arXiv:2008.05865, section 3.3).
    """

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.affine = nn.Linear(style, channels * 2)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gain, shift = self.affine(s)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x), 1 + gain)


class FusedBlock(nn.Module):
    """Residual block with the style in both normalisations: (B, inputs, H, W), (B, S) -> (B, outputs, ...)."""

    def __init__(self, inputs: int, outputs: int, style: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1, self.norm2 = FusedNorm(inputs, style), FusedNorm(outputs, style)
        self.conv1, self.conv2 = conv3x3(inputs, outputs, bias=True), conv3x3(outputs, outputs, bias=True)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(x, s), 0.2)
        x = self.skip(x)  # a 1×1 convolution commutes with nearest upsampling and is four times cheaper before it
        if self.upsample:
            x, y = (F.interpolate(t, scale_factor=2.0, mode="nearest") for t in (x, y))
        y = self.conv2(F.leaky_relu(self.norm2(self.conv1(y), s), 0.2))
        return x + y


# --- discriminator blocks -----------------------------------------------------------------------------------


def down4x4(inputs: int, outputs: int, norm: bool = True) -> nn.Sequential:
    """4×4 convolution, stride 2 → [BatchNorm →] LeakyReLU 0.2, as published: halves the side."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True))


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


# --- initialisation -----------------------------------------------------------------------------------------


def orthogonal_init(module: nn.Module) -> None:
    """As published: orthogonal convolutions and linear maps, BatchNorm weights N(1, 0.02), biases 0."""
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

    PyTorch's own default leaves an unnormalised discriminator without a signal for minutes.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, 0.2)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, FusedNorm):
            nn.init.normal_(part.affine.weight, 0.0, 0.5 / math.sqrt(part.affine.in_features))
