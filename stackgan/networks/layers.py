"""The blocks that generators and discriminators are made of, and how their weights start.

Shapes are (B, channels, height, width) throughout.
"""

import math
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

__all__ = [
    "GLU",
    "BatchNormByGroup",
    "Blocks",
    "FusedBlock",
    "FusedNorm",
    "GatedBlock",
    "GatedResidual",
    "LeakyBlock",
    "MinibatchStd",
    "ResidualDown",
    "conv3x3",
    "conv_few_places",
    "conv_upsampled",
    "conv_with_code",
    "glu",
    "kaiming_init",
    "orthogonal_init",
    "planes_of_taps",
    "set_checkpointing",
    "spread",
    "taps_behind_upsampling",
    "taps_inside",
]

# Side of a feature map from which nearest upsampling and the convolution behind it are faster as one transposed
# convolution (measured forward and backward on a CPU, at the published widths); both are exact.
FOLD_FROM = 32


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


# --- the same sums, for less work ---------------------------------------------------------------------------


def conv_with_code(conv: nn.Conv2d, code: Tensor, h: Tensor) -> Tensor:
    """``conv(torch.cat((spread(code, h), h), 1))`` without the planes: (B, C), (B, F, H, W) -> (B, O, H, W).

    A 3×3 convolution with padding 1 over a constant plane has one value inside and others in the four corners and
    along the four edges, where taps fall on the padding: at most 3 × 3 values a channel, linear in the code. They
    are computed once and widened to (H, W); differentiable in everything, any number of times.

    Args:
        conv: 3×3, stride 1, padding 1, with C + F inputs, the code's first.
    """
    of_code, of_h = conv.weight.split((code.shape[1], h.shape[1]), dim=1)
    taps = torch.einsum("bc,ocij->boij", code, of_code)
    return F.conv2d(h, of_h, conv.bias, padding=1) + planes_of_taps(taps, h.shape[2], h.shape[3])


def planes_of_taps(taps: Tensor, height: int, width: int) -> Tensor:
    """3×3 convolutions with padding 1 of a plane of ones, their taps given: (B, O, 3, 3) -> (B, O, H, W).

    >>> planes_of_taps(torch.ones(1, 1, 3, 3), 2, 4)
    tensor([[[[4., 6., 6., 4.],
              [4., 6., 6., 4.]]]])
    """
    rows, columns = taps_inside(height, taps), taps_inside(width, taps)
    places = rows @ taps @ columns.T  # (B, O, at most 3, at most 3)
    return _widened(_widened(places, 2, height), 3, width)


def taps_inside(side: int, like: Tensor) -> Tensor:
    """Which of three taps fall inside a line of ``side``: (1 for side 1, 2 for side 2, else 3; 3) of 0 and 1."""
    inside = like.new_ones(min(side, 3), 3)  # filled on the device: a copy from the host could not be recorded
    inside[0, 0].zero_()
    inside[-1, 2].zero_()
    return inside


def _widened(x: Tensor, dim: int, side: int) -> Tensor:
    """First, middle and last of ``dim`` as ``side`` places, the middle one repeated."""
    if side <= 3:
        return x
    first, middle, last = x.split(1, dim)
    shape = [-1] * x.ndim
    shape[dim] = side - 2
    return torch.cat((first, middle.expand(shape), last), dim)


def conv_upsampled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv`` behind nearest upsampling by 2: (B, I, H, W) -> (B, O, 2H, 2W).

    The two are one transposed convolution (kernel 4, stride 2, padding 1) whose taps are sums of the 3×3's: 4/9 of
    the multiply-adds, and no upsampled map to keep for the backward pass.

    Args:
        conv: 3×3, stride 1, padding 1.
    """
    if min(x.shape[2:]) < FOLD_FROM:
        return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return F.conv_transpose2d(x, taps_behind_upsampling(conv.weight), conv.bias, stride=2, padding=1)


def taps_behind_upsampling(weight: Tensor) -> Tensor:
    """Taps of a 3×3 convolution behind nearest upsampling, (O, I, 3, 3) -> of a transposed one's, (I, O, 4, 4).

    Along one axis pixel 2i of the result is w₀ x(i−1) + (w₁ + w₂) x(i), pixel 2i+1 is (w₀ + w₁) x(i) + w₂ x(i+1);
    a transposed convolution of stride 2 and padding 1 has taps 3, 1 and 2, 0 at these places.
    """
    sums = weight.new_zeros(4, 3)  # filled on the device: a copy from the host could not be recorded
    for tap, rows in enumerate((slice(2, 4), slice(1, 3), slice(0, 2))):
        sums[rows, tap].fill_(1)
    return torch.einsum("ki,ocij,lj->cokl", sums, weight, sums)


def conv_few_places(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``, (B, I, H, W) -> (B, O, h, w), as one matrix product where it has fewer places than outputs.

    The deep layers of a discriminator are many weights over maps of 4×4: a convolution on a CPU spends more time in
    bringing the weights into its own order, forth and back, than on the sums. A patch a row, (B · h · w, I · k²),
    times the weights as they lie needs none of that.
    """
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
    few = len(x) * height * width <= conv.out_channels
    if not few or x.device.type != "cpu" or not conv.weight.is_contiguous():
        return conv(x)
    patches = F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2).flatten(0, 1)
    y = F.linear(patches, conv.weight.flatten(1), conv.bias)
    return y.view(len(x), height * width, -1).transpose(1, 2).contiguous().view(len(x), -1, height, width)


class BatchNormByGroup(nn.BatchNorm2d):
    """BatchNorm that can take several batches in one call and keeps their statistics apart.

    forward(x (B · groups, C, H, W), groups), sample b of group g at b · groups + g, gives what ``groups`` calls on
    (B, C, H, W) would, running statistics included: in NCHW, samples that lie side by side are a batch of
    (groups · C) channels.
    """

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        if groups == 1 or not self.training:
            return super().forward(x)
        channels, momentum = x.shape[1], self.momentum
        assert self.running_mean is not None and self.running_var is not None and momentum is not None
        mean, variance = self.running_mean.repeat(groups), self.running_var.repeat(groups)
        y = F.batch_norm(
            x.view(-1, groups * channels, *x.shape[2:]),
            mean,
            variance,
            self.weight.repeat(groups),
            self.bias.repeat(groups),
            training=True,
            momentum=1.0,  # leaves the batch's own statistics in the buffers
            eps=self.eps,
        )
        with torch.no_grad():
            for running, measured in ((self.running_mean, mean), (self.running_var, variance)):
                for of_group in measured.chunk(groups):
                    running.lerp_(of_group, momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += groups
        # as a tensor of its own: changing a view in place, as LeakyReLU does next, would copy whole maps backwards
        return torch.ops.aten._unsafe_view(y, x.shape)


# --- feature maps computed again instead of kept ------------------------------------------------------------


class Blocks(nn.Module):
    """Base of what runs through blocks; with ``checkpointing``, their inner feature maps are not kept.

    They are computed again when the backward pass needs them (arXiv:1604.06174): same gradients, same running
    statistics, less memory, one more forward pass.
    """

    checkpointing = False

    def through(self, block: nn.Module, *inputs: Tensor | int | None) -> Tensor:
        """``block(*inputs)``."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        return checkpoint(
            block,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,  # no block draws
            context_fn=lambda: (nullcontext(), _BuffersKept(block)),
        )


def set_checkpointing(module: nn.Module, on: bool) -> None:
    """Switch every :class:`Blocks` in ``module``."""
    for part in module.modules():
        if isinstance(part, Blocks):
            part.checkpointing = on


class _BuffersKept:
    """Leaves the buffers of a module as they were: a second forward pass is not a second batch.

    Entered once a backward pass, which is twice where gradients are differentiated again.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.before = [buffer.clone() for buffer in self.module.buffers()]

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for buffer, value in zip(self.module.buffers(), self.before, strict=True):
            buffer.copy_(value)


# --- published generator blocks (arXiv:1710.10916, section 4; BatchNorm and GLU) -----------------------------


class GatedBlock(nn.Module):
    """[nearest ×2 →] 3×3 convolution → BatchNorm → GLU: (B, inputs, H, W) -> (B, outputs, H or 2H, W or 2W)."""

    def __init__(self, inputs: int, outputs: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = conv3x3(inputs, outputs * 2)
        self.norm = nn.BatchNorm2d(outputs * 2)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """With a ``code`` (B, C), the convolution's first C inputs are its constant planes and x has the others."""
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
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(self.gated(x)))


# --- blocks that see the condition everywhere ---------------------------------------------------------------


SLOPE = 0.2  # of a fused norm's LeakyReLU


class FusedNorm(nn.Module):
    """BatchNorm without affine, gain and shift read linearly from the style s (B, S), LeakyReLU 0.2.

    y = leaky((1 + A s) · norm(x) + B s), the text-fused normalisation of DF-GAN's idea (arXiv:2008.05865, section
    3.3). In training the three are one function with its gradient written out (:class:`_NormGainLeaky`).
    """

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.affine = nn.Linear(style, channels * 2)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gain, shift = self.affine(s)[:, :, None, None].chunk(2, dim=1)
        learns = self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if learns and self.norm.momentum is not None:  # None would want a cumulative mean
            if self.norm.num_batches_tracked is not None:
                self.norm.num_batches_tracked.add_(1)
            return cast(Tensor, _NormGainLeaky.apply(x, 1 + gain, shift, self.norm))
        return F.leaky_relu(torch.addcmul(shift, self.norm(x), 1 + gain), SLOPE)


class _NormGainLeaky(torch.autograd.Function):
    """leaky(a · norm(x) + b) with batch statistics, a and b (B, C, 1, 1): two thirds of the passes over the maps.

    With x̂ = norm(x), σ the deviations and g the gradient behind the LeakyReLU, sums over places, means over places
    and batch (arXiv:1502.03167, section 3, with a gain for each picture):

        ∂b = Σ g        ∂a = Σ g x̂        ∂x = (a g − mean(a g) − x̂ mean(a g x̂)) / σ

    and both means are sums over the batch of a ∂b and a ∂a, so that no map has to be read for them again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        mean, var, momentum = norm.running_mean, norm.running_var, cast(float, norm.momentum)
        x_hat, _, inverse = torch.native_batch_norm(x, None, None, mean, var, True, momentum, norm.eps)
        y = F.leaky_relu(torch.addcmul(b, x_hat, a), SLOPE, inplace=True)
        ctx.save_for_backward(x_hat, a, inverse, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_hat, a, inverse, y = ctx.saved_tensors
        g = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)  # the sign of y is that of its argument
        of_b, of_a = g.sum((2, 3), keepdim=True), (g * x_hat).sum((2, 3), keepdim=True)
        count = grad.shape[0] * grad.shape[2] * grad.shape[3]
        inverse = inverse[:, None, None]
        shift, slope = (-inverse / count * (a * of).sum(0) for of in (of_b, of_a))  # (C, 1, 1)
        of_x = torch.addcmul(shift.to(g.dtype), x_hat, slope.to(g.dtype))
        return of_x.addcmul_(g, (a * inverse).to(g.dtype)), of_a, of_b, None


class FusedBlock(nn.Module):
    """Residual block with the style in both normalisations: (B, inputs, H, W), (B, S) -> (B, outputs, ...)."""

    def __init__(self, inputs: int, outputs: int, style: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1, self.norm2 = FusedNorm(inputs, style), FusedNorm(outputs, style)
        self.conv1, self.conv2 = conv3x3(inputs, outputs, bias=True), conv3x3(outputs, outputs, bias=True)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        y = self.norm1(x, s)
        x = self.skip(x)  # a 1×1 convolution commutes with nearest upsampling and is four times cheaper before it
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
    """Tells a discriminator how much the pictures around differ: x + w · mean over features of their deviations.

    The minibatch standard deviation of arXiv:1710.10196, section 3, over groups of four. What a feature map behind
    the features and a linear layer on it would add is added at once: w (C,) starts at 0.
    """

    GROUP = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); B are ``batches`` of one size, one after the other, that stay apart."""
        size = len(x) // batches
        group = self.GROUP if size % self.GROUP == 0 else size
        groups = x.float().unflatten(0, (-1, group))
        away = groups - groups.mean(1, keepdim=True)
        spread = (away.square().mean(1) + 1e-8).sqrt().mean((1, 2, 3))  # var() is ten times as slow here
        return x + (spread[:, None].expand(-1, group).reshape(-1, 1) * self.weight).to(x.dtype)[:, :, None, None]


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
