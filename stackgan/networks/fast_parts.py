"""Parts of the fast generator: convolutions, style maps, borders of constant planes.

For inference only: weights are buffers in their final memory layout, and on the CPU oneDNN's operators are called if
this version of PyTorch has them (:func:`onednn_works`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.networks.fast_ops import SLOPE, taps_behind_upsampling, taps_inside
from stackgan.networks.layers import FusedNorm

__all__ = [
    "CodeBorders",
    "FastConv",
    "FastLinear",
    "FastProducts",
    "ScaleShiftLeaky",
    "StyleMaps",
    "fast_conv",
    "onednn_works",
    "scale_and_shift",
]

ROWS = 8  # of the input that the layout of a linear map's weight is chosen for
SMALL = 8  # side up to which FastProducts is faster than a transposed convolution (measured at the published widths)


class FastLinear(nn.Module):
    """x (B, I) -> x Wᵀ + b (B, O), with the weight (O, I) packed by oneDNN on the CPU.

    oneDNN sums each row in the same order whatever their number, unlike the matrix products of BLAS: an image is then
    the same to the bit alone and in a batch.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self._packed(x) if _packs(x) else F.linear(x, self.weight, self.bias)

    def _packed(self, x: Tensor) -> Tensor:
        """The product by oneDNN's operator; with a layout for one row, others are summed in another order."""
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, ROWS)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return y


class StyleMaps(nn.Module):
    """(z, c) -> scale and shift of every text-fused normalisation, (B, Σ 2·channels), in one matrix product.

    With running mean m and standard deviation d, (1 + A s) · (x − m) / d + B s is scale · x + shift, both linear in
    s.
    """

    def __init__(self, mix: nn.Linear, norms: Sequence[FusedNorm]) -> None:
        super().__init__()
        self.mix = FastLinear(mix.weight, mix.bias)
        weights, biases = [], []
        for norm in norms:
            over, back = scale_and_shift(norm.norm)
            gain_w, shift_w = norm.affine.weight.chunk(2)
            gain_b, shift_b = norm.affine.bias.chunk(2)
            weights += [gain_w * over[:, None], shift_w + gain_w * back[:, None]]
            biases += [(1 + gain_b) * over, shift_b + (1 + gain_b) * back]
        self.all = FastLinear(torch.cat(weights), torch.cat(biases))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.all(torch.cat((c, self.mix(z)), 1))


class ScaleShiftLeaky(nn.Module):
    """LeakyReLU(scale · x + shift), with scale and shift from a fixed slice of the style vector."""

    def __init__(self, place: int, channels: int) -> None:
        super().__init__()
        self.place, self.channels = place, channels

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = style.narrow(1, self.place, 2 * self.channels).chunk(2, 1)
        b, channels, height, width = x.shape
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return F.leaky_relu(torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None]), SLOPE)
        # over whole rows of pixels: see _Gated.split in fast_generator.py
        scale, shift = (t[:, None, None].expand(-1, 1, width, -1).reshape(b, 1, -1) for t in (scale, shift))
        y = torch.addcmul(shift, x.permute(0, 2, 3, 1).reshape(b, height, -1), scale)
        return F.leaky_relu_(y, SLOPE).view(b, height, width, channels).permute(0, 3, 1, 2)


class CodeBorders(nn.Module):
    """Adds the 3×3 convolution with ``weight`` (O, C, 3, 3) of constant planes with zero padding.

    An interior pixel gets all nine taps, the first row lacks the upper three, and so on: 3 × 3 different values, all
    linear in the code.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        seen = taps_inside(3, weight)  # (place, tap) along one axis
        self.outputs = len(weight)
        self.linear = FastLinear(torch.einsum("ocyx,py,qx->pqoc", weight, seen, seen).flatten(0, 2), None)

    def split_outputs(self) -> list[CodeBorders]:
        """Split into two modules, each for half of the output channels."""
        parts = [copy.deepcopy(self) for _ in range(2)]
        for part, weight in zip(parts, self.linear.weight.view(9, self.outputs, -1).chunk(2, 1), strict=True):
            part.linear = FastLinear(weight.flatten(0, 1), None)
            part.outputs //= 2
        return parts

    def forward(self, y: Tensor, code: Tensor) -> Tensor:
        values = self.linear(code.to(y.dtype)).view(len(y), 3, 3, self.outputs)
        inside = values[:, 1:2, 1:2]
        pixels = y.permute(0, 2, 3, 1)
        edges = values - inside
        if torch.compiler.is_compiling() or y.device.type != "cpu":  # sums that a compiler fuses into one loop
            at_row, at_column = (_ends(side, y) for side in y.shape[2:])
            pixels = pixels + inside
            for row in (0, 2):
                pixels = pixels + at_row[row][:, None, None] * edges[:, row : row + 1, 1:2]
                pixels = pixels + at_column[row][:, None] * edges[:, 1:2, row : row + 1]
                for column in (0, 2):
                    corner = at_row[row][:, None, None] * at_column[column][:, None]
                    rest = edges[:, row, column] - edges[:, row, 1] - edges[:, 1, column]
                    pixels = pixels + corner * rest[:, None, None]
            return pixels.permute(0, 3, 1, 2)
        pixels += inside
        pixels[:, 0, 1:-1] += edges[:, 0, 1:2]
        pixels[:, -1, 1:-1] += edges[:, 2, 1:2]
        pixels[:, 1:-1, 0] += edges[:, 1:2, 0]
        pixels[:, 1:-1, -1] += edges[:, 1:2, 2]
        for row in (0, -1):
            for column in (0, -1):
                pixels[:, row, column] += edges[:, row, column]
        return y


def _ends(side: int, like: Tensor) -> dict[int, Tensor]:
    """1 at the first (0) and at the last (2) of ``side`` places, else 0."""
    places = torch.arange(side, device=like.device)
    return {0: (places == 0).to(like.dtype), 2: (places == side - 1).to(like.dtype)}


class FastConv(nn.Module):
    """Convolution that keeps the side, or nearest upsampling and convolution as one transposed convolution.

    Args:
        weight: (O, I, k, k), k 1 or 3.
        doubles: upsample first.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, *, doubles: bool = False) -> None:
        super().__init__()
        self.doubles, self.padding, self.outputs = doubles, weight.shape[-1] // 2, len(weight)
        weight = taps_behind_upsampling(weight) if doubles else weight
        self.register_buffer("weight", weight.clone(memory_format=torch.channels_last))
        self.register_buffer("bias", None if bias is None else bias.clone())
        self.packed: Tensor | None = None

    def split_outputs(self) -> list[FastConv]:
        """Split into two convolutions, each with half of the output channels."""
        parts = [copy.deepcopy(self) for _ in range(2)]
        for part, weight in zip(parts, self.weight.chunk(2, 1 if self.doubles else 0), strict=True):
            part.weight = weight.clone(memory_format=torch.channels_last)
            part.outputs //= 2
        if self.bias is not None:
            for part, bias in zip(parts, self.bias.chunk(2), strict=True):
                part.bias = bias.clone()
        return parts

    def forward(
        self, x: Tensor, *, gate: bool = False, plus: Tensor | None = None, times: Tensor | None = None
    ) -> Tensor:
        """The convolution, its sigmoid (``gate``), or its sum or product with another map."""
        if _packs(x):
            return self._packed(x, gate, plus, times)
        if self.doubles:
            y = F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        else:
            y = F.conv2d(x, self.weight, self.bias, padding=self.padding)
        if plus is not None:
            return y + plus
        return y.sigmoid() if gate else y if times is None else y * times

    def _packed(self, x: Tensor, gate: bool, plus: Tensor | None, times: Tensor | None) -> Tensor:
        """The same by oneDNN's operators; the weight is packed into oneDNN's layout for the first input shape."""
        ops, one, pad = torch.ops.mkldnn, [1, 1], [self.padding] * 2
        if self.packed is None:
            shape = list(x.shape)
            if self.doubles:
                packed = ops._reorder_convolution_transpose_weight(self.weight, one, [0, 0], [2, 2], one, 1, shape)
            else:
                packed = ops._reorder_convolution_weight(self.weight, pad, one, one, 1, shape)
            self.packed = packed
        after = "sigmoid" if gate else "none"
        if self.doubles:
            y: Tensor = ops._convolution_transpose_pointwise(
                x, self.packed, self.bias, one, [0, 0], [2, 2], one, 1, after, [], ""
            )
            return y if times is None else y.mul_(times)
        other, how = (times, "mul") if plus is None else (plus, "add")
        if other is None:
            y = ops._convolution_pointwise(x, self.packed, self.bias, pad, one, one, 1, after, [], "")
        else:
            y = ops._convolution_pointwise.binary(
                x, other, self.packed, self.bias, pad, one, one, 1, how, None, None, [], None
            )
        return y


class FastProducts(nn.Module):
    """:class:`FastConv` with ``doubles`` as one matrix product before the upsampling, and sums after it.

    Nearest upsampling commutes with the channel mixing of each tap: nine products with (O, I) matrices at the small
    side, which are a quarter of the multiply-adds after the upsampling and nine sixteenths of the transposed
    convolution's, and each weight is read once. The nine maps are then added at shifted positions, which outweighs
    the saving for large maps.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.outputs = len(weight)
        self.register_buffer("weight", weight.permute(2, 3, 0, 1).flatten(0, 2))  # rows (row, column, output)
        self.register_buffer("bias", None if bias is None else bias.clone())
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        rows = pixels.flatten(0, 2)
        product = self._packed(rows) if _packs(x) else F.linear(rows, self.weight)
        taps = product.view(*pixels.shape[:3], 3, 3, self.outputs)
        y = _placed(_placed(taps, 1), 2)
        if self.bias is not None:
            y += self.bias
        return y.permute(0, 3, 1, 2)

    def _packed(self, rows: Tensor) -> Tensor:
        """The product by oneDNN's operator, as in :class:`FastConv`."""
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, len(rows))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.packed, None, "none", [], "")
        return y


def _placed(taps: Tensor, dim: int) -> Tensor:
    """Sum of three taps' products (at dimension 3) along ``dim``, at the positions after nearest upsampling.

    Pixel 2i is w₀ x(i−1) + w₁ x(i) + w₂ x(i), pixel 2i+1 is w₀ x(i) + w₁ x(i) + w₂ x(i+1), zero beyond the ends.
    """
    first, middle, last = taps.unbind(3)
    count = middle.shape[dim]
    y = middle.new_empty(*middle.shape[: dim + 1], 2, *middle.shape[dim + 1 :])
    even, odd = y.unbind(dim + 1)
    even.copy_(middle).add_(last)
    odd.copy_(middle).add_(first)
    even.narrow(dim, 1, count - 1).add_(first.narrow(dim, 0, count - 1))
    odd.narrow(dim, 0, count - 1).add_(last.narrow(dim, 1, count - 1))
    return y.flatten(dim, dim + 1)


def fast_conv(weight: Tensor, bias: Tensor | None, side: int, *, doubles: bool) -> FastConv | FastProducts:
    """Choose the faster form of a convolution for maps of ``side`` (0: large)."""
    if doubles and 0 < side <= SMALL and weight.device.type != "cuda":
        return FastProducts(weight, bias)
    return FastConv(weight, bias, doubles=doubles)


def _packs(x: Tensor) -> bool:
    """Whether oneDNN's operators support this tensor in the current mode."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return False
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled) and onednn_works(x.dtype)


@cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether this version of PyTorch has the private operators of :class:`FastConv`, with the expected results."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.linspace(-1, 1, 2 * 16 * 6 * 6).view(2, 16, 6, 6).to(dtype).to(memory_format=torch.channels_last)
    weight = torch.linspace(-1, 1, 16 * 16 * 9).sin().view(16, 16, 3, 3).to(dtype)
    try:
        with torch.inference_mode():
            for conv in (FastConv(weight, weight[0, :, 0, 0]), FastConv(weight, weight[0, :, 0, 0], doubles=True)):
                if conv.doubles:
                    plain = F.conv_transpose2d(x, conv.weight, conv.bias, stride=2, padding=1)
                else:
                    plain = F.conv2d(x, conv.weight, conv.bias, padding=1)
                gate = conv._packed(x, True, None, None)
                pairs = [(gate, plain.sigmoid()), (conv._packed(x, False, None, gate), plain * gate)]
                if not conv.doubles:
                    pairs.append((conv._packed(x, False, x, None), plain + x))
                products = FastProducts(weight, None)
                pairs.append((products._packed(products.weight), F.linear(products.weight, products.weight)))
                linear = FastLinear(products.weight, products.weight[:, 0])
                pairs.append((linear._packed(linear.weight), F.linear(linear.weight, linear.weight, linear.bias)))
                if not all(torch.allclose(a.float(), b.float(), rtol=0.02, atol=0.2) for a, b in pairs):
                    return False
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation mode as scale · x + shift, both (channels,)."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift
