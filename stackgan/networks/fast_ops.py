"""Exact training operations with fewer multiply-adds or fewer passes over the feature maps.

Each equals its plain form up to the order of sums, and is differentiable. Some use operators that PyTorch does not
document: :func:`native_operators_work` compares these with the public ones once; if they are missing or differ, the
plain form is used.
"""

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stackgan.runtime.distributed import gather_rows, shares, sum_over_ranks

__all__ = [
    "FOLD_FROM",
    "SLOPE",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNormByGroup",
    "conv_few_places",
    "conv_upsampled",
    "conv_with_code",
    "native_operators_work",
    "norm_gain_leaky",
    "planes_of_taps",
    "taps_behind_upsampling",
    "taps_inside",
]

# Side of a feature map from which nearest upsampling and the convolution behind it are faster as one transposed
# convolution (measured forward and backward on a CPU, at the published widths); both are exact.
FOLD_FROM = 32
SLOPE = 0.2  # of the LeakyReLU in a text-fused normalisation


@cache
def native_operators_work() -> bool:
    """Whether this version of PyTorch has the undocumented operators used here, with the expected results."""
    x = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4).sin()
    try:
        with torch.no_grad():
            y, _, inverse = torch.native_batch_norm(x, None, None, torch.zeros(3), torch.ones(3), True, 0.1, 1e-5)
            back = torch.ops.aten.leaky_relu_backward(torch.ones_like(x), x, SLOPE, True)
            flat = torch.ops.aten._unsafe_view(x, (6, 16))
    except (AttributeError, RuntimeError, TypeError):
        return False
    wanted = (x.var((0, 2, 3), unbiased=False) + 1e-5).rsqrt()
    pairs = [(y, F.batch_norm(x, None, None, training=True)), (inverse, wanted)]
    pairs += [(back, torch.where(x > 0, 1.0, SLOPE)), (flat, x.reshape(6, 16))]
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def conv_with_code(conv: nn.Conv2d, code: Tensor, h: Tensor) -> Tensor:
    """``conv(torch.cat((spread(code, h), h), 1))`` without the planes: (B, C), (B, F, H, W) -> (B, O, H, W).

    A 3×3 convolution with padding 1 over a constant plane has one value in the interior and others in the four
    corners and along the four edges, where taps fall on the padding: at most 3 × 3 values per channel, linear in the
    code. They are computed once and expanded to (H, W). Differentiable in all inputs, to any order.

    Args:
        conv: 3×3, stride 1, padding 1, with C + F inputs, the code's first.
    """
    of_code, of_h = conv.weight.split((code.shape[1], h.shape[1]), dim=1)
    taps = torch.einsum("bc,ocij->boij", code, of_code)
    return F.conv2d(h, of_h, conv.bias, padding=1) + planes_of_taps(taps, h.shape[2], h.shape[3])


def planes_of_taps(taps: Tensor, height: int, width: int) -> Tensor:
    """3×3 convolutions with padding 1 of a plane of ones, given their taps: (B, O, 3, 3) -> (B, O, H, W).

    >>> planes_of_taps(torch.ones(1, 1, 3, 3), 2, 4)
    tensor([[[[4., 6., 6., 4.],
              [4., 6., 6., 4.]]]])
    """
    rows, columns = taps_inside(height, taps), taps_inside(width, taps)
    places = rows @ taps @ columns.T  # (B, O, at most 3, at most 3)
    return _widened(_widened(places, 2, height), 3, width)


def taps_inside(side: int, like: Tensor) -> Tensor:
    """Mask of the three taps inside a line of ``side`` pixels: (min(side, 3), 3) of 0 and 1."""
    inside = like.new_ones(min(side, 3), 3)  # filled on the device: CUDA graphs cannot capture a copy from the host
    inside[0, 0].zero_()
    inside[-1, 2].zero_()
    return inside


def _widened(x: Tensor, dim: int, side: int) -> Tensor:
    """Expand first, middle and last entry of ``dim`` to ``side`` entries by repeating the middle one."""
    if side <= 3:
        return x
    first, middle, last = x.split(1, dim)
    shape = [-1] * x.ndim
    shape[dim] = side - 2
    return torch.cat((first, middle.expand(shape), last), dim)


def conv_upsampled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv`` after nearest upsampling by 2: (B, I, H, W) -> (B, O, 2H, 2W).

    The two are one transposed convolution (kernel 4, stride 2, padding 1) whose taps are sums of the 3×3 taps: 4/9 of
    the multiply-adds, and no upsampled map is stored for the backward pass.

    Args:
        conv: 3×3, stride 1, padding 1.
    """
    if min(x.shape[2:]) < FOLD_FROM:
        return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return F.conv_transpose2d(x, taps_behind_upsampling(conv.weight), conv.bias, stride=2, padding=1)


def taps_behind_upsampling(weight: Tensor) -> Tensor:
    """Taps of a 3×3 convolution after nearest upsampling, (O, I, 3, 3) -> of the transposed one, (I, O, 4, 4).

    Along one axis pixel 2i of the result is w₀ x(i−1) + (w₁ + w₂) x(i), pixel 2i+1 is (w₀ + w₁) x(i) + w₂ x(i+1);
    a transposed convolution of stride 2 and padding 1 has taps 3, 1 and 2, 0 at these places.
    """
    sums = weight.new_zeros(4, 3)  # filled on the device: CUDA graphs cannot capture a copy from the host
    for tap, rows in enumerate((slice(2, 4), slice(1, 3), slice(0, 2))):
        sums[rows, tap].fill_(1)
    return torch.einsum("ki,ocij,lj->cokl", sums, weight, sums)


def conv_few_places(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``, (B, I, H, W) -> (B, O, h, w), as one matrix product if it has fewer positions than channels.

    The deep layers of a discriminator have many weights and maps of 4×4: a CPU convolution takes longer to reorder
    the weights, in both directions, than to compute the sums. The product of the patches, (B · h · w, I · k²), with
    the weights in their stored layout avoids the reordering.
    """
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
    few = len(x) * height * width <= conv.out_channels
    if not few or x.device.type != "cpu" or not conv.weight.is_contiguous():
        return conv(x)
    patches = F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2).flatten(0, 1)
    y = F.linear(patches, conv.weight.flatten(1), conv.bias)
    return y.view(len(x), height * width, -1).transpose(1, 2).contiguous().view(len(x), -1, height, width)


# --- BatchNorm ----------------------------------------------------------------------------------------------


class BatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` with the statistics of the whole batch when it is shared by several processes."""

    def forward(self, x: Tensor) -> Tensor:
        return _norm_by_whole_batch(self, x) if self.training and shares() > 1 else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with the statistics of the whole batch when it is shared by several processes."""

    def forward(self, x: Tensor) -> Tensor:
        return _norm_by_whole_batch(self, x) if self.training and shares() > 1 else super().forward(x)


class BatchNormByGroup(BatchNorm2d):
    """BatchNorm over several batches in one call with separate statistics for each.

    forward(x (B · groups, C, H, W), groups), sample b of group g at b · groups + g, equals ``groups`` calls on (B, C,
    H, W), including the running statistics: in NCHW, adjacent samples are a batch with (groups · C) channels.
    """

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        if groups == 1 or not self.training:
            return super().forward(x)
        channels, momentum = x.shape[1], self.momentum
        assert self.running_mean is not None and self.running_var is not None and momentum is not None
        if shares() > 1:
            return _norm_by_whole_batch(self, x, groups)
        mean, variance = self.running_mean.repeat(groups), self.running_var.repeat(groups)
        y = F.batch_norm(
            x.view(-1, groups * channels, *x.shape[2:]),
            mean,
            variance,
            self.weight.repeat(groups),
            self.bias.repeat(groups),
            training=True,
            momentum=1.0,  # the buffers then hold the statistics of this batch
            eps=self.eps,
        )
        with torch.no_grad():
            for running, measured in ((self.running_mean, mean), (self.running_var, variance)):
                for of_group in measured.chunk(groups):
                    running.lerp_(of_group, momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += groups
        # not a view: the next LeakyReLU changes it in place, and for a view its backward pass would copy whole maps
        return torch.ops.aten._unsafe_view(y, x.shape) if native_operators_work() else y.view(x.shape).clone()


def _norm_by_whole_batch(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, groups: int = 1) -> Tensor:
    """``norm(x)`` in training mode with the statistics of the rows of all processes; differentiable to any order.

    Args:
        x: this process's rows, (B · groups, C, …).
        groups: as in :class:`BatchNormByGroup`.
    """
    wide = x.float().reshape(-1, groups * x.shape[1], *x.shape[2:])
    mean, variance = _whole_statistics(wide)
    _update_running(norm, mean, variance, wide.numel() // wide.shape[1], groups)
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.repeat(groups)
    shift = -mean * scale
    if norm.affine:
        shift = shift + norm.bias.repeat(groups)
    shape = (1, -1, *(1 for _ in wide.shape[2:]))
    return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype).view(x.shape)


def _whole_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over the rows (B, C, …) of all processes, (C,), differentiable.

    With equal numbers of rows, the variance is the mean of the processes' variances and the variance of their means:
    one exchange of two numbers a channel, without the cancellation of E[x²] − E[x]².
    """
    places = [0, *range(2, x.ndim)]
    mean = x.mean(places, keepdim=True)
    variance = (x - mean).square().mean(places)  # var() is several times slower on a CPU
    means, variances = gather_rows(torch.stack((mean.flatten(), variance))[None]).unbind(1)  # (W, C) each
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


@torch.no_grad()
def _update_running(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int, groups: int = 1
) -> None:
    """Update running statistics from those of the whole batch, ``count`` values a channel in each process."""
    if norm.num_batches_tracked is None or norm.running_mean is None or norm.running_var is None:
        return
    whole = count * shares()
    for of_mean, of_variance in zip(mean.chunk(groups), variance.chunk(groups), strict=True):
        norm.num_batches_tracked.add_(1)
        weight = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum  # None: cumulative mean
        norm.running_mean.lerp_(of_mean.to(norm.running_mean.dtype), weight)
        norm.running_var.lerp_((of_variance * (whole / (whole - 1))).to(norm.running_var.dtype), weight)


# --- text-fused normalisation -------------------------------------------------------------------------------


def norm_gain_leaky(x: Tensor, a: Tensor, b: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """leaky(a · norm(x) + b) with the batch's statistics, in two thirds of the passes over the maps.

    Args:
        x: (B, C, H, W).
        a, b: (B, C, 1, 1), gain and shift of each image.
        norm: without affine parameters, with a momentum; its running statistics are updated.
    """
    if norm.num_batches_tracked is not None and shares() == 1:
        norm.num_batches_tracked.add_(1)
    return cast(Tensor, _NormGainLeaky.apply(x, a, b, norm))


class _NormGainLeaky(torch.autograd.Function):
    """leaky(a · norm(x) + b) with batch statistics, a and b (B, C, 1, 1): two thirds of the passes over the maps.

    With x̂ = norm(x), σ the standard deviations and g the gradient at the input of the LeakyReLU, sums over
    positions, means over positions and batch (arXiv:1502.03167, section 3, with a gain for each image):

        ∂b = Σ g        ∂a = Σ g x̂        ∂x = (a g − mean(a g) − x̂ mean(a g x̂)) / σ

    and both means are sums over the batch of a ∂b and a ∂a, so that they need no further pass over the maps. If
    several processes share the batch, statistics and means are those of the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        if shares() == 1:
            mean, var, momentum = norm.running_mean, norm.running_var, cast(float, norm.momentum)
            x_hat, _, inverse = torch.native_batch_norm(x, None, None, mean, var, True, momentum, norm.eps)
        else:
            of_batch, variance = _whole_statistics(x.float())
            _update_running(norm, of_batch, variance, x.numel() // x.shape[1])
            x_hat = F.batch_norm(x, of_batch, variance, eps=norm.eps)
            inverse = (variance + norm.eps).rsqrt()
        y = F.leaky_relu(torch.addcmul(b, x_hat, a), SLOPE, inplace=True)
        ctx.save_for_backward(x_hat, a, inverse, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_hat, a, inverse, y = ctx.saved_tensors
        g = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)  # the sign of y is that of its argument
        of_b, of_a = g.sum((2, 3), keepdim=True), (g * x_hat).sum((2, 3), keepdim=True)
        count = grad.shape[0] * grad.shape[2] * grad.shape[3] * shares()
        inverse = inverse[:, None, None]
        sums = sum_over_ranks(torch.stack([(a * of).sum(0) for of in (of_b, of_a)]))  # (2, C, 1, 1)
        shift, slope = -inverse / count * sums
        of_x = torch.addcmul(shift.to(g.dtype), x_hat, slope.to(g.dtype))
        return of_x.addcmul_(g, (a * inverse).to(g.dtype)), of_a, of_b, None
