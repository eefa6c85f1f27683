"""Fast inference form of a trained generator: algebraically the same images with half the multiply-adds.

In float32 nothing is approximated; only the order of sums changes. Checkpoints store the trained module, from which
the fast form is derived.

- Nearest upsampling and the 3×3 convolution behind it are one transposed convolution (kernel 4, stride 2, padding 1)
  whose taps are sums of the 3×3 taps: 4/9 of the multiply-adds. On small maps it is one matrix product before the
  upsampling: 1/4 of them.
- A 3×3 convolution over the constant planes of a code has only 3 × 3 different values (corners, edges, interior): a
  matrix product with the code replaces C further input planes.
- BatchNorm in evaluation mode is a scale and a shift. They are folded into the preceding convolution or, with a
  text-fused gain in between, into the linear map from the style to the gain; all of these maps are one matrix
  product.
- Feature maps are channels-last throughout. On the CPU, weights are packed once into oneDNN's layout, and sigmoid,
  tanh and sums are fused into the convolutions, if this version of PyTorch has the operators.
- Only the images of the requested stages are computed, and no layers after the last of them.
- On the CPU, oneDNN's operators sum in the same order whatever the size of the batch: an image is the same to the bit
  alone and in a batch (measured with AVX2 and PyTorch 2.14; not so with 2.11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.networks.fast_parts import (
    CodeBorders,
    FastConv,
    FastLinear,
    ScaleShiftLeaky,
    StyleMaps,
    fast_conv,
    scale_and_shift,
)
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
from stackgan.networks.layers import FusedBlock, FusedNorm, GatedBlock, GatedResidual
from stackgan.runtime.compiler import frozen_weights, need_compiler

__all__ = ["FastGenerator"]

ALONE = 64  # side of maps after which a CPU computes images one by one: 0.75 of the time of 16 at once at 256 px


class FastGenerator(nn.Module):
    """Fast form of G(z, c): computes what :class:`~stackgan.networks.generator.Generator` computes in eval mode.

    Args:
        generator: a trained generator, not modified. Later changes of its weights do not affect this form.
        dtype: of weights and feature maps: ``torch.float32`` for the module's images up to rounding,
            ``torch.bfloat16`` for faster inference, with differences of about half of one of 255 levels.
        compiled: use ``torch.compile`` with frozen weights for the first batch size; other batch sizes run without.
            The first call takes seconds longer; on a CPU later calls are about as fast as without.

    Raises:
        ValueError: ``compiled`` on a CPU without a C++ compiler.

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
            fast: dict[FusedNorm, ScaleShiftLeaky] = {}
            for norm in norms:
                fast[norm] = ScaleShiftLeaky(place, norm.norm.num_features)
                place += 2 * norm.norm.num_features
            self.style = StyleMaps(generator.mix, norms) if norms else None
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
        self._batch: int | None = None  # batch size of the compiled graph
        if compiled:
            if on_cpu:
                need_compiler("a compiled generator was requested", "generate without")
            options: dict[str, Any] = {} if on_cpu else {"triton.cudagraphs": True}
            self._compiled = torch.compile(self._eager, dynamic=False, options=options)

    def forward(self, z: Tensor, c: Tensor, stages: Sequence[int] | None = None) -> list[Tensor]:
        """z (B, Z), c (B, C) -> images (B, 3, s, s) in [−1, 1], float32, of ``stages`` (None: all)."""
        wanted = tuple(range(len(self.stages)) if stages is None else stages)
        self._batch = self._batch or len(z)
        if self._compiled is None or len(z) != self._batch:
            return self._eager(z, c, wanted)
        with frozen_weights():  # read at each compilation, also of a later shape; an option would be read too late
            return self._compiled(z, c, wanted)

    def _eager(self, z: Tensor, c: Tensor, wanted: tuple[int, ...]) -> list[Tensor]:
        style = (c if c.shape[1] else z) if self.style is None else self.style(z, c).to(self.dtype)
        images = self._from(0, torch.cat((c, z), 1).to(self.dtype), style, None, wanted)
        return [images[stage] for stage in wanted]

    def _from(
        self, first: int, h: Tensor, style: Tensor, image: Tensor | None, wanted: tuple[int, ...]
    ) -> dict[int, Tensor]:
        """Wanted images of the stages from ``first`` on; ``image`` is that of the stage before, if it is needed."""
        images: dict[int, Tensor] = {}
        out = torch.promote_types(self.dtype, torch.float32)
        last = max(wanted)
        for stage in range(first, last + 1):
            if len(h) > 1 and _fills_cache(h):
                rows = zip(
                    h.split(1), style.split(1), [None] * len(h) if image is None else image.split(1), strict=True
                )
                trees = [self._from(stage, *row, wanted) for row in rows]
                return images | {each: torch.cat([tree[each] for tree in trees]) for each in trees[0]}
            h = self.stages[stage](h, style)
            if stage in wanted or (stage < last and self.skips[stage + 1]):
                y = self.heads[stage](h, style).to(out)
                if self.skips[stage]:
                    assert image is not None
                    image = enlarged(image).add_(y)
                else:
                    image = torch.tanh(y)
                if stage in wanted:
                    images[stage] = image
        return images


def _fills_cache(h: Tensor) -> bool:
    """Whether a stage on maps (B, C, s, s) is faster one image at a time: they are larger than a core's cache."""
    return h.dim() == 4 and h.shape[2] >= ALONE and h.device.type == "cpu" and not torch.compiler.is_compiling()


# --- parts, each derived from the module of the same name -----------------------------------------------------


class _LegacyFirst(nn.Module):
    def __init__(self, stage: LegacyFirst, _: dict[FusedNorm, ScaleShiftLeaky]) -> None:
        super().__init__()
        scale, shift = scale_and_shift(stage.norm)
        rows = torch.arange(len(scale)).view(2, stage.top, START * START).transpose(1, 2).flatten()
        self.top, self.linear = stage.top, FastLinear((stage.linear.weight * scale[:, None])[rows], shift[rows])
        self.blocks = nn.ModuleList(
            _Gated(cast(GatedBlock, block), side=START << i) for i, block in enumerate(stage.blocks)
        )

    def forward(self, start: Tensor, code: Tensor) -> Tensor:
        h = F.glu(self.linear(start), 1).view(-1, START, START, self.top).permute(0, 3, 1, 2)
        for block in self.blocks:
            h = block(h)
        return h


class _LegacyNext(nn.Module):
    def __init__(self, stage: LegacyNext, _: dict[FusedNorm, ScaleShiftLeaky]) -> None:
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
    """[nearest ×2 →] 3×3 convolution → BatchNorm → GLU, with ``code`` constant planes as its first inputs."""

    SPLITS = 128  # bytes per pixel below which values and gates are two convolutions

    def __init__(self, block: GatedBlock, code: int = 0, side: int = 0) -> None:
        super().__init__()
        scale, shift = scale_and_shift(block.norm)
        weight = block.conv.weight * scale[:, None, None, None]
        self.convs = nn.ModuleList([fast_conv(weight[:, code:], shift, side, doubles=block.upsample)])
        self.borders = nn.ModuleList([CodeBorders(weight[:, :code])] if code else [])

    def split(self) -> None:
        """Use two convolutions for values and gates where the GLU of a single one would be slower.

        PyTorch's CPU kernels vectorise over 2 × 64 contiguous bytes. In channels-last memory these are the channels
        of one pixel; with fewer channels the sigmoid is computed element by element, which takes as long as the
        convolution in float32, and eight times as long in bfloat16. oneDNN fuses the sigmoid and the product into
        separate convolutions.
        """
        both = self.convs[0]
        if isinstance(both, FastConv) and both.outputs // 2 * both.weight.element_size() < self.SPLITS:
            self.convs = nn.ModuleList(both.split_outputs())
            self.borders = nn.ModuleList(
                part for borders in self.borders for part in cast(CodeBorders, borders).split_outputs()
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
        scale, shift = scale_and_shift(block.norm)
        self.gated = _Gated(block.gated)
        self.conv = FastConv(block.conv.weight * scale[:, None, None, None], shift)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.gated(x), plus=x)


class _LegacyHead(nn.Module):
    def __init__(self, head: LegacyHead, _: dict[FusedNorm, ScaleShiftLeaky]) -> None:
        super().__init__()
        self.conv = FastConv(head.conv.weight, None)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        return self.conv(h)


class _FusedFirst(nn.Module):
    def __init__(self, stage: FusedFirst, norms: dict[FusedNorm, ScaleShiftLeaky]) -> None:
        super().__init__()
        rows = torch.arange(stage.top * START * START).view(stage.top, START * START).T.flatten()
        assert stage.linear.bias is not None
        self.top, self.linear = stage.top, FastLinear(stage.linear.weight[rows], stage.linear.bias[rows])
        self.blocks = nn.ModuleList(
            _Block(cast(FusedBlock, block), norms, START << i) for i, block in enumerate(stage.blocks)
        )

    def forward(self, start: Tensor, style: Tensor) -> Tensor:
        h = self.linear(start).view(-1, START, START, self.top).permute(0, 3, 1, 2)
        for block in self.blocks:
            h = block(h, style)
        return h


class _FusedNext(nn.Module):
    def __init__(self, stage: FusedNext, norms: dict[FusedNorm, ScaleShiftLeaky]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(cast(FusedBlock, block), norms) for block in stage.blocks)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h, style)
        return h


class _Block(nn.Module):
    """The residual block with the style in both normalisations."""

    def __init__(self, block: FusedBlock, norms: dict[FusedNorm, ScaleShiftLeaky], side: int = 0) -> None:
        super().__init__()
        self.doubles = block.upsample
        self.norm1, self.norm2 = norms[block.norm1], norms[block.norm2]
        self.conv1 = fast_conv(block.conv1.weight, block.conv1.bias, side, doubles=block.upsample)
        self.conv2 = FastConv(block.conv2.weight, block.conv2.bias)
        self.skip = FastConv(block.skip.weight, None) if isinstance(block.skip, nn.Conv2d) else None

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
        whole += x.permute(0, 2, 3, 1)[:, :, None, :, None]  # adds each pixel of x to its four pixels of y
        return y


class _FusedHead(nn.Module):
    def __init__(self, head: FusedHead, norms: dict[FusedNorm, ScaleShiftLeaky]) -> None:
        super().__init__()
        self.norm, self.conv = norms[head.norm], FastConv(head.conv.weight, head.conv.bias)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        return self.conv(self.norm(h, style))


_FORMS: dict[type[nn.Module], Callable[[Any, dict[FusedNorm, ScaleShiftLeaky]], nn.Module]] = {
    LegacyFirst: _LegacyFirst,
    LegacyNext: _LegacyNext,
    LegacyHead: _LegacyHead,
    FusedFirst: _FusedFirst,
    FusedNext: _FusedNext,
    FusedHead: _FusedHead,
}
