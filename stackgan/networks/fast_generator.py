"""The fast form of a trained generator: algebraically the same pictures for half the multiply-adds.

Nothing is approximated in float32; what changes is the order of sums. The trained module stays the source of truth:
its fast form is made from it at any time.

- Nearest upsampling and the 3×3 convolution behind it are one transposed convolution (kernel 4, stride 2, padding 1)
  whose taps are sums of the 3×3's: 4/9 of the multiply-adds. Over small maps it is one matrix product before the
  upsampling: 1/4 of them.
- A 3×3 convolution over the constant planes of a code has only 3 × 3 different values, those of corners, edges and
  the inside: a matrix product with the code instead of C further input planes.
- BatchNorm in evaluation is a scale and a shift. They go into the convolution before it or, where a text-fused gain
  stands between, into the linear map that reads the gain from the style; all of these maps are one matrix product.
- Feature maps are channels-last throughout. On the CPU, oneDNN gets its weights in a layout of its own, once, and
  applies sigmoid, tanh and sums while a convolution's result is still in cache, where this PyTorch has the operators.
- Only the heads that are asked for are painted, and nothing behind the last of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.networks.generator import (
    START,
    FusedFirst,
    FusedHead,
    FusedNext,
    Generator,
    LegacyFirst,
    LegacyHead,
    LegacyNext,
    enlarged,
)
from stackgan.networks.layers import (
    FusedBlock,
    FusedNorm,
    GatedBlock,
    GatedResidual,
    taps_behind_upsampling,
    taps_inside,
)
from stackgan.runtime.compiler import need_compiler

__all__ = ["FastGenerator", "onednn_works"]

SMALL = 8  # side up to which _Products is faster than a transposed convolution (measured at the published widths)
SLOPE = 0.2  # of LeakyReLU, as in layers.py


class FastGenerator(nn.Module):
    """G(z, c) in its fast form; what :class:`~stackgan.networks.generator.Generator` computes in eval mode.

    Args:
        generator: a trained generator, left as it is. Later changes of its weights do not reach this form.
        dtype: of weights and feature maps: ``torch.float32`` for the module's pictures up to rounding,
            ``torch.bfloat16`` for faster ones that differ by about half a level of 255.
        compiled: hand the whole to ``torch.compile``, weights frozen, for the first batch size that comes; others are
            painted without. Seconds at the first call; on a processor about as fast as without, from then on.

    Raises:
        ValueError: ``compiled`` on a processor, and no C++ compiler here.

    >>> from stackgan.config import GeneratorConfig
    >>> g = Generator(GeneratorConfig(width=4), stages=2, z_dim=5, code_dim=3).eval().double()
    >>> z, c = torch.randn(2, 5).double(), torch.randn(2, 3).double()
    >>> fine = FastGenerator(g, dtype=torch.float64)(z, c, stages=[1])[0]
    >>> bool((fine - g(z, c)[1]).abs().max() < 1e-9)
    True
    """

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32, *, compiled: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        norms = [module for module in generator.modules() if isinstance(module, FusedNorm)]
        with torch.no_grad():
            place = 0
            fast: dict[FusedNorm, _Norm] = {}
            for norm in norms:
                fast[norm] = _Norm(place, norm.norm.num_features)
                place += 2 * norm.norm.num_features
            self.style = _Styles(generator.mix, norms) if norms else None
            self.stages = nn.ModuleList(_FORMS[type(stage)](stage, fast) for stage in generator.stages)
            self.heads = nn.ModuleList(_FORMS[type(head)](head, fast) for head in generator.heads)
            self.skips = [isinstance(head, FusedHead) and head.skip for head in generator.heads]
            for part in (*self.stages, *self.heads):
                part.to(dtype)
            on_cpu = next(generator.parameters()).device.type == "cpu"
            if on_cpu and not compiled:
                for part in self.modules():
                    if isinstance(part, _Gated):
                        part.split()
        self.eval().requires_grad_(False)
        self._compiled: Callable[..., list[Tensor]] | None = None
        self._batch: int | None = None  # what was compiled
        if compiled:
            if on_cpu:
                need_compiler("a compiled generator was asked for", "paint without")
            options: dict[str, Any] = {} if on_cpu else {"triton.cudagraphs": True}
            self._compiled = torch.compile(self._eager, dynamic=False, options=options)

    def forward(self, z: Tensor, c: Tensor, stages: Sequence[int] | None = None) -> list[Tensor]:
        """z (B, Z), c (B, C) -> images (B, 3, s, s) in [−1, 1], float32, of ``stages`` (None: of all)."""
        wanted = tuple(range(len(self.stages)) if stages is None else stages)
        self._batch = self._batch or len(z)
        if self._compiled is None or len(z) != self._batch:
            return self._eager(z, c, wanted)
        from torch._inductor import config

        with config.patch(freezing=True):  # read when a new shape is compiled; as an option it comes too late
            return self._compiled(z, c, wanted)

    def _eager(self, z: Tensor, c: Tensor, wanted: tuple[int, ...]) -> list[Tensor]:
        style = (c if c.shape[1] else z) if self.style is None else self.style(z, c).to(self.dtype)
        h = torch.cat((c, z), 1).to(self.dtype)
        images: dict[int, Tensor] = {}
        out = torch.promote_types(self.dtype, torch.float32)
        last = max(wanted)
        for stage in range(last + 1):
            h = self.stages[stage](h, style)
            if stage in wanted or (stage < last and self.skips[stage + 1]):
                y = self.heads[stage](h, style).to(out)
                images[stage] = enlarged(images[stage - 1]).add_(y) if self.skips[stage] else torch.tanh(y)
        return [images[stage] for stage in wanted]


# --- the parts, each made from the module of the same name ----------------------------------------------------


class _LegacyFirst(nn.Module):
    def __init__(self, stage: LegacyFirst, _: dict[FusedNorm, _Norm]) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(stage.norm)
        rows = torch.arange(len(scale)).view(2, stage.top, START * START).transpose(1, 2).flatten()
        self.top, self.linear = stage.top, _linear((stage.linear.weight * scale[:, None])[rows], shift[rows])
        self.blocks = nn.ModuleList(
            _Gated(cast(GatedBlock, block), side=START << i) for i, block in enumerate(stage.blocks)
        )

    def forward(self, start: Tensor, code: Tensor) -> Tensor:
        h = F.glu(self.linear(start), 1).view(-1, START, START, self.top).permute(0, 3, 1, 2)
        for block in self.blocks:
            h = block(h)
        return h


class _LegacyNext(nn.Module):
    def __init__(self, stage: LegacyNext, _: dict[FusedNorm, _Norm]) -> None:
        super().__init__()
        code = stage.joint.conv.in_channels - stage.joint.conv.out_channels // 2
        self.joint = _Gated(stage.joint, code)
        self.residuals = nn.ModuleList(_Residual(cast(GatedResidual, block)) for block in stage.residuals)
        self.up = _Gated(stage.up)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        h = self.joint(h, code)
        for block in self.residuals:
            h = block(h)
        return self.up(h)


class _Gated(nn.Module):
    """[nearest ×2 →] 3×3 convolution → BatchNorm → GLU, with ``code`` constant planes before the others."""

    SPLITS = 128  # bytes of a pixel's values

    def __init__(self, block: GatedBlock, code: int = 0, side: int = 0) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(block.norm)
        weight = block.conv.weight * scale[:, None, None, None]
        self.convs = nn.ModuleList([_conv(weight[:, code:], shift, side, doubles=block.upsample)])
        self.borders = nn.ModuleList([_Borders(weight[:, :code])] if code else [])

    def split(self) -> None:
        """Make values and gates two convolutions where one convolution's GLU would cost more.

        PyTorch's CPU kernels take 2 × 64 bytes of neighbours at a time. In channels-last memory the neighbours of a
        value are the other values of its pixel; where they are fewer, the sigmoid is computed one by one, which takes
        as long as the convolution in float32, and eight times as long in bfloat16. oneDNN computes it, and the
        product, while the result of a convolution of its own is in cache.
        """
        both = self.convs[0]
        if isinstance(both, _Conv) and both.outputs // 2 * both.weight.element_size() < self.SPLITS:
            self.convs = nn.ModuleList(both.halves())
            self.borders = nn.ModuleList(
                half for borders in self.borders for half in cast(_Borders, borders).halves()
            )

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        if len(self.convs) == 1:
            y = self.convs[0](x)
            return F.glu(y if code is None else self.borders[0](y, code), 1)
        values, gates = self.convs
        if code is None:
            return values(x, times=gates(x, gate=True))
        to_values, to_gates = self.borders
        return to_values(values(x), code).mul_(to_gates(gates(x), code).sigmoid_())


class _Residual(nn.Module):
    """x + BatchNorm(conv(gated(x)))."""

    def __init__(self, block: GatedResidual) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(block.norm)
        self.gated = _Gated(block.gated)
        self.conv = _Conv(block.conv.weight * scale[:, None, None, None], shift)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.gated(x), plus=x)


class _LegacyHead(nn.Module):
    def __init__(self, head: LegacyHead, _: dict[FusedNorm, _Norm]) -> None:
        super().__init__()
        self.conv = _Conv(head.conv.weight, None)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        return self.conv(h)


class _FusedFirst(nn.Module):
    def __init__(self, stage: FusedFirst, norms: dict[FusedNorm, _Norm]) -> None:
        super().__init__()
        rows = torch.arange(stage.top * START * START).view(stage.top, START * START).T.flatten()
        assert stage.linear.bias is not None
        self.top, self.linear = stage.top, _linear(stage.linear.weight[rows], stage.linear.bias[rows])
        self.blocks = nn.ModuleList(
            _Block(cast(FusedBlock, block), norms, START << i) for i, block in enumerate(stage.blocks)
        )

    def forward(self, start: Tensor, style: Tensor) -> Tensor:
        h = self.linear(start).view(-1, START, START, self.top).permute(0, 3, 1, 2)
        for block in self.blocks:
            h = block(h, style)
        return h


class _FusedNext(nn.Module):
    def __init__(self, stage: FusedNext, norms: dict[FusedNorm, _Norm]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(cast(FusedBlock, block), norms) for block in stage.blocks)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h, style)
        return h


class _Block(nn.Module):
    """The residual block with the style in both normalisations."""

    def __init__(self, block: FusedBlock, norms: dict[FusedNorm, _Norm], side: int = 0) -> None:
        super().__init__()
        self.doubles = block.upsample
        self.norm1, self.norm2 = norms[block.norm1], norms[block.norm2]
        self.conv1 = _conv(block.conv1.weight, block.conv1.bias, side, doubles=block.upsample)
        self.conv2 = _Conv(block.conv2.weight, block.conv2.bias)
        self.skip = _Conv(block.skip.weight, None) if isinstance(block.skip, nn.Conv2d) else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y = self.norm2(self.conv1(self.norm1(x, style)), style)
        if self.skip is not None:
            x = self.skip(x)
        if not self.doubles:
            return self.conv2(y, plus=x)
        y = self.conv2(y)
        if torch.compiler.is_compiling() or y.device.type != "cpu":
            return y + F.interpolate(x, scale_factor=2.0, mode="nearest")
        b, channels, height, width = y.shape
        whole = y.permute(0, 2, 3, 1).view(b, height // 2, 2, width // 2, 2, channels)
        whole += x.permute(0, 2, 3, 1)[:, :, None, :, None]  # each pixel of x to its four of y
        return y


class _FusedHead(nn.Module):
    def __init__(self, head: FusedHead, norms: dict[FusedNorm, _Norm]) -> None:
        super().__init__()
        self.norm, self.conv = norms[head.norm], _Conv(head.conv.weight, head.conv.bias)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        return self.conv(self.norm(h, style))


_FORMS: dict[type[nn.Module], Callable[[Any, dict[FusedNorm, _Norm]], nn.Module]] = {
    LegacyFirst: _LegacyFirst,
    LegacyNext: _LegacyNext,
    LegacyHead: _LegacyHead,
    FusedFirst: _FusedFirst,
    FusedNext: _FusedNext,
    FusedHead: _FusedHead,
}


# --- what they are made of ------------------------------------------------------------------------------------


class _Styles(nn.Module):
    """(z, c) -> scale and shift of every text-fused normalisation, (B, Σ 2·channels), in one matrix product.

    (1 + A s) · (x − m) / d + B s, for running mean m and deviation d, is scale · x + shift with both linear in s.
    """

    def __init__(self, mix: nn.Linear, norms: Sequence[FusedNorm]) -> None:
        super().__init__()
        self.mix = _linear(mix.weight, mix.bias)
        weights, biases = [], []
        for norm in norms:
            over, back = _scale_and_shift(norm.norm)
            gain_w, shift_w = norm.affine.weight.chunk(2)
            gain_b, shift_b = norm.affine.bias.chunk(2)
            weights += [gain_w * over[:, None], shift_w + gain_w * back[:, None]]
            biases += [(1 + gain_b) * over, shift_b + (1 + gain_b) * back]
        self.all = _linear(torch.cat(weights), torch.cat(biases))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.all(torch.cat((c, self.mix(z)), 1))


class _Norm(nn.Module):
    """LeakyReLU(scale · x + shift), read from the styles at a place of its own."""

    def __init__(self, place: int, channels: int) -> None:
        super().__init__()
        self.place, self.channels = place, channels

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = style.narrow(1, self.place, 2 * self.channels).chunk(2, 1)
        b, channels, height, width = x.shape
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return F.leaky_relu(torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None]), SLOPE)
        # a whole row of pixels at a time: see _Gated.split
        scale, shift = (t[:, None, None].expand(-1, 1, width, -1).reshape(b, 1, -1) for t in (scale, shift))
        y = torch.addcmul(shift, x.permute(0, 2, 3, 1).reshape(b, height, -1), scale)
        return F.leaky_relu_(y, SLOPE).view(b, height, width, channels).permute(0, 3, 1, 2)


class _Borders(nn.Module):
    """Adds what a 3×3 convolution with ``weight`` (O, C, 3, 3) makes of constant planes, zero outside.

    A pixel inside sees all nine taps; the first row does not see the upper three, and so on: 3 × 3 different values,
    all linear in the code.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        seen = taps_inside(3, weight)  # (place, tap) along one axis
        self.outputs = len(weight)
        self.linear = _linear(torch.einsum("ocyx,py,qx->pqoc", weight, seen, seen).flatten(0, 2), None)

    def halves(self) -> list[_Borders]:
        """Two of them, each for half of the outputs."""
        parts = [copy.copy(self) for _ in range(2)]
        for part, weight in zip(parts, self.linear.weight.view(9, self.outputs, -1).chunk(2, 1), strict=True):
            part._modules = {"linear": _linear(weight.flatten(0, 1), None)}
            part.outputs //= 2
        return parts

    def forward(self, y: Tensor, code: Tensor) -> Tensor:
        values = self.linear(code.to(y.dtype)).view(len(y), 3, 3, self.outputs)
        inside = values[:, 1:2, 1:2]
        pixels = y.permute(0, 2, 3, 1)
        edges = values - inside
        if torch.compiler.is_compiling() or y.device.type != "cpu":  # sums that a compiler makes one loop of
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


class _Conv(nn.Module):
    """A convolution that keeps the side, or nearest upsampling and one as a transposed convolution.

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

    def halves(self) -> list[_Conv]:
        """Two convolutions, each with half of the outputs."""
        parts = [copy.copy(self) for _ in range(2)]
        for part, weight in zip(parts, self.weight.chunk(2, 1 if self.doubles else 0), strict=True):
            part._buffers = {"weight": weight.clone(memory_format=torch.channels_last), "bias": None}
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
        """The same by oneDNN's operators, the weight in oneDNN's layout; packed for the first shape that comes."""
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


class _Products(nn.Module):
    """:class:`_Conv` with ``doubles`` as one matrix product before the upsampling, and sums behind it.

    Nearest upsampling commutes with what a tap does to the channels of a pixel: nine products with (O, I) matrices at
    the small side, a quarter of the multiply-adds behind the upsampling and nine sixteenths of the transposed
    convolution's, each weight read once. The nine maps are added up at their places, which costs more than it saves
    once maps are large.
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
        """The product by oneDNN's operator, as in :class:`_Conv`."""
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, len(rows))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.packed, None, "none", [], "")
        return y


def _placed(taps: Tensor, dim: int) -> Tensor:
    """What three taps (at dimension 3) make of a line of pixels (at ``dim``), at the places behind an upsampling.

    Pixel 2i is w₀ x(i−1) + w₁ x(i) + w₂ x(i), pixel 2i+1 is w₀ x(i) + w₁ x(i) + w₂ x(i+1), nothing beyond the ends.
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


def _conv(weight: Tensor, bias: Tensor | None, side: int, *, doubles: bool) -> _Conv | _Products:
    """The form of a convolution over maps of ``side`` (0: large)."""
    if doubles and 0 < side <= SMALL and weight.device.type != "cuda":
        return _Products(weight, bias)
    return _Conv(weight, bias, doubles=doubles)


def _packs(x: Tensor) -> bool:
    """Whether oneDNN's own operators take this tensor here and now."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return False
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled) and onednn_works(x.dtype)


@cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the private operators that :class:`_Conv` calls, and they do what it expects."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.linspace(-1, 1, 2 * 16 * 6 * 6).view(2, 16, 6, 6).to(dtype).to(memory_format=torch.channels_last)
    weight = torch.linspace(-1, 1, 16 * 16 * 9).sin().view(16, 16, 3, 3).to(dtype)
    try:
        with torch.inference_mode():
            for conv in (_Conv(weight, weight[0, :, 0, 0]), _Conv(weight, weight[0, :, 0, 0], doubles=True)):
                if conv.doubles:
                    plain = F.conv_transpose2d(x, conv.weight, conv.bias, stride=2, padding=1)
                else:
                    plain = F.conv2d(x, conv.weight, conv.bias, padding=1)
                gate = conv._packed(x, True, None, None)
                pairs = [(gate, plain.sigmoid()), (conv._packed(x, False, None, gate), plain * gate)]
                if not conv.doubles:
                    pairs.append((conv._packed(x, False, x, None), plain + x))
                products = _Products(weight, None)
                pairs.append((products._packed(products.weight), F.linear(products.weight, products.weight)))
                if not all(torch.allclose(a.float(), b.float(), rtol=0.02, atol=0.2) for a, b in pairs):
                    return False
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation as scale · x + shift, both (channels,)."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
