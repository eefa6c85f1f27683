"""The generator in its fast form as an ONNX graph, for ONNX Runtime, OpenVINO and browsers.

The same algebra as :mod:`stackgan.networks.fast_generator`, in operators that these engines compute fast:

- BatchNorm is folded into convolutions, or into the linear map from the style to gain and shift.
- Nearest upsampling and the 3×3 convolution behind it are four 2×2 convolutions, one for each position of a pixel in
  the enlarged map, interleaved by DepthToSpace: 4/9 of the multiply-adds. On maps of up to ``SMALL`` pixels a side
  they are one 1×1 convolution for the nine taps, and two products with constant matrices that shift and add: 1/4.
- The 3×3 convolution of a code's constant planes has nine different values, which are spread over the map.
- Values and gates of a GLU are two convolutions, so that engines fuse the sigmoid into one and the product into the
  other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stackgan.networks.fast_ops import SLOPE, taps_behind_upsampling, taps_inside
from stackgan.networks.fast_parts import scale_and_shift
from stackgan.networks.generator import (
    START,
    FusedFirst,
    FusedHead,
    FusedNext,
    Generator,
    LegacyFirst,
    LegacyHead,
    LegacyNext,
)
from stackgan.networks.layers import FusedBlock, FusedNorm, GatedBlock, GatedResidual
from stackgan.networks.onnx_graph import OnnxGraph, OnnxModel

__all__ = ["generator_graph"]

SMALL = 8  # side up to which an upsampling convolution is a 1×1 convolution and products with constant matrices


@torch.no_grad()
def generator_graph(
    generator: Generator,
    stages: Sequence[int] | None = None,
    *,
    precision: str = "fp32",
    metadata: Mapping[str, str] | None = None,
) -> OnnxModel:
    """G(z, c) as an ONNX model with a dynamic batch: inputs ``z`` (batch, Z) and ``c`` (batch, C), float32.

    Its outputs are ``image_64``, ``image_128``, … (batch, 3, s, s), float32 in [−1, 1], of ``stages`` (None: all). An
    unconditional generator has no input ``c``.

    Args:
        generator: a trained generator, taken in evaluation mode.
        precision: of the weights, see :class:`~stackgan.networks.onnx_graph.OnnxGraph`.
        metadata: entries of the model's ``metadata_props``.

    Raises:
        ValueError: the package onnx is missing, or an unknown precision.
    """
    wanted = range(len(generator.stages)) if stages is None else stages
    graph = OnnxGraph(precision)
    z = graph.input("z", ["batch", generator.z_dim])
    c = graph.input("c", ["batch", generator.code_dim]) if generator.code_dim else ""
    style = _Style(graph, generator, z, c)
    h, images = graph("Concat", c, z, axis=1) if c else z, dict[int, str]()
    for stage, head in enumerate(generator.heads[: max(wanted) + 1]):
        module, side = generator.stages[stage], START << 4 + stage
        h = _FORMS[type(module)](graph, module, h, style, START if stage == 0 else side // 2)
        if stage in wanted or (isinstance(generator.heads[-1], FusedHead) and generator.heads[-1].skip):
            y = _FORMS[type(head)](graph, head, h, style, side)
            if isinstance(head, FusedHead) and head.skip and stage:
                images[stage] = graph("Add", _enlarged(graph, images[stage - 1]), y)
            else:
                images[stage] = graph("Tanh", y)
    for stage in wanted:
        side = START << 4 + stage
        graph.output(images[stage], f"image_{side}", ["batch", 3, side, side])
    return graph.model("generator", metadata)


# --- upsampling, constant planes, styles ---------------------------------------------------------------------


def _upsampled(graph: OnnxGraph, x: str, weight: Tensor, bias: Tensor | None, side: int, *, gated: bool) -> str:
    """Nearest upsampling by 2, a 3×3 convolution with ``weight`` (O, I, 3, 3), and with ``gated`` a GLU.

    Args:
        side: of x.
    """
    if side <= SMALL:
        y = _by_products(graph, x, weight, bias, side)
        return graph.glu(y) if gated else y
    taps = taps_behind_upsampling(weight).transpose(0, 1)  # (O, I, 4, 4)
    of_place = ([3, 1], [2, 0])  # taps of pixel 2i at x(i−1), x(i), and of pixel 2i+1 at x(i), x(i+1)
    phases = []
    for row in (0, 1):
        for column in (0, 1):
            phase = taps[:, :, of_place[row]][:, :, :, of_place[column]]
            pads = [1 - row, 1 - column, row, column]
            if gated:
                (values, gates), (b, gate_b) = phase.chunk(2), _halves(bias)
                gate = graph("Sigmoid", graph.conv(x, gates, gate_b, pads))
                phases.append(graph("Mul", graph.conv(x, values, b, pads), gate))
            else:
                phases.append(graph.conv(x, phase, bias, pads))
    return graph("DepthToSpace", graph("Concat", *phases, axis=1), blocksize=2, mode="DCR")


def _by_products(graph: OnnxGraph, x: str, weight: Tensor, bias: Tensor | None, side: int) -> str:
    """Nearest upsampling and a 3×3 convolution: y = S t Sᵀ for the products t of x with the nine taps.

    Pixel 2i is w₀ x(i−1) + (w₁ + w₂) x(i), pixel 2i+1 is (w₀ + w₁) x(i) + w₂ x(i+1): S is (2 · side, 3 · side).
    """
    outputs = len(weight)
    t = graph.conv(x, weight.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None], None)
    t = graph("Reshape", t, [-1, outputs, 3, 3, side, side])
    t = graph("Reshape", graph("Transpose", t, perm=[0, 1, 2, 4, 3, 5]), [-1, outputs, 3 * side, 3 * side])
    eye, nothing = torch.eye(side), torch.zeros(1, side)
    before, after = torch.cat((nothing, eye[:-1])), torch.cat((eye[1:], nothing))  # x(i−1), x(i+1)
    even, odd = torch.cat((before, eye, eye), 1), torch.cat((eye, eye, after), 1)
    shifts = torch.stack((even, odd), 1).flatten(0, 1)
    y = graph("MatMul", graph("MatMul", shifts, t), shifts.T)
    return y if bias is None else graph("Add", y, bias[:, None, None])


def _halves(x: Tensor | None) -> Sequence[Tensor | None]:
    return (None, None) if x is None else x.chunk(2)


def _of_planes(graph: OnnxGraph, code: str, weight: Tensor, side: int) -> str:
    """The 3×3 convolution with ``weight`` (O, C, 3, 3) of a code's constant planes, zero padding: (B, O, side, side).

    Corners, edges and the interior have one value each.
    """
    seen = taps_inside(3, weight)
    y = graph.linear(code, torch.einsum("ocyx,py,qx->opqc", weight, seen, seen).flatten(0, 2), None)
    y = graph("Reshape", y, [-1, len(weight), 3, 3])
    for axis, shape in ((3, [1, 1, 3, side - 2]), (2, [1, 1, side - 2, side])):
        first, middle, last = graph.several("Split", 3, y, axis=axis, num_outputs=3)
        y = graph("Concat", first, graph("Expand", middle, shape), last, axis=axis)
    return y


def _enlarged(graph: OnnxGraph, images: str) -> str:
    """Bicubic upsampling by 2, as :func:`stackgan.networks.generator.enlarged`."""
    half = "half_pixel"
    doubled = _doubled(graph)
    return graph(
        "Resize", images, "", doubled, mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode=half
    )


def _doubled(graph: OnnxGraph) -> str:
    return graph.constant(torch.tensor([1.0, 1.0, 2.0, 2.0]), exact=True)


class _Style:
    """What conditions the blocks: the code of ``legacy``, or gain and shift of every text-fused normalisation."""

    def __init__(self, graph: OnnxGraph, generator: Generator, z: str, c: str) -> None:
        self.graph, self.code, self.code_dim = graph, c or z, generator.code_dim or generator.z_dim
        norms = [module for module in generator.modules() if isinstance(module, FusedNorm)]
        if not norms:
            return
        mixed = graph.linear(z, generator.mix.weight, generator.mix.bias)
        style = graph("Concat", c, mixed, axis=1) if c else mixed
        self.maps: dict[FusedNorm, tuple[str, str]] = {}
        for norm in norms:
            over, back = scale_and_shift(norm.norm)
            (gain_w, shift_w), (gain_b, shift_b) = norm.affine.weight.chunk(2), norm.affine.bias.chunk(2)
            scale = graph.linear(style, gain_w * over[:, None], (1 + gain_b) * over)
            shift = graph.linear(style, shift_w + gain_w * back[:, None], shift_b + (1 + gain_b) * back)
            shape = [-1, len(over), 1, 1]
            self.maps[norm] = graph("Reshape", scale, shape), graph("Reshape", shift, shape)

    def norm(self, norm: FusedNorm, x: str) -> str:
        """The text-fused normalisation with its LeakyReLU."""
        scale, shift = self.maps[norm]
        return self.graph("LeakyRelu", self.graph("Add", self.graph("Mul", x, scale), shift), alpha=SLOPE)


# --- parts, each from the module of the same name --------------------------------------------------------------


def _legacy_first(graph: OnnxGraph, stage: LegacyFirst, start: str, style: _Style, side: int) -> str:
    scale, shift = scale_and_shift(stage.norm)
    h = graph.glu(graph.linear(start, stage.linear.weight * scale[:, None], shift))
    h = graph("Reshape", h, [-1, stage.top, START, START])
    for i, block in enumerate(stage.blocks):
        h = _gated(graph, cast(GatedBlock, block), h, START << i)
    return h


def _legacy_next(graph: OnnxGraph, stage: LegacyNext, h: str, style: _Style, side: int) -> str:
    h = _gated(graph, stage.joint, h, side, style)
    for module in stage.residuals:
        block = cast(GatedResidual, module)
        scale, shift = scale_and_shift(block.norm)
        y = graph.conv(_gated(graph, block.gated, h, side), block.conv.weight * scale[:, None, None, None], shift)
        h = graph("Add", h, y)
    return _gated(graph, stage.up, h, side)


def _gated(graph: OnnxGraph, block: GatedBlock, x: str, side: int, style: _Style | None = None) -> str:
    """[nearest ×2 →] 3×3 convolution → BatchNorm → GLU, with ``style`` the code's planes as its first inputs."""
    scale, shift = scale_and_shift(block.norm)
    weight = block.conv.weight * scale[:, None, None, None]
    if block.upsample:
        return _upsampled(graph, x, weight, shift, side, gated=True)
    code = 0 if style is None else style.code_dim
    values, gates = (graph.conv(x, w[:, code:], b) for w, b in zip(weight.chunk(2), shift.chunk(2), strict=True))
    if style is not None:
        planes = graph.several(
            "Split", 2, _of_planes(graph, style.code, weight[:, :code], side), axis=1, num_outputs=2
        )
        values, gates = graph("Add", values, planes[0]), graph("Add", gates, planes[1])
    return graph("Mul", values, graph("Sigmoid", gates))


def _fused_first(graph: OnnxGraph, stage: FusedFirst, start: str, style: _Style, side: int) -> str:
    h = graph.linear(start, stage.linear.weight, stage.linear.bias)
    h = graph("Reshape", h, [-1, stage.top, START, START])
    for i, block in enumerate(stage.blocks):
        h = _fused_block(graph, cast(FusedBlock, block), h, style, START << i)
    return h


def _fused_next(graph: OnnxGraph, stage: FusedNext, h: str, style: _Style, side: int) -> str:
    for block in stage.blocks:
        h = _fused_block(graph, cast(FusedBlock, block), h, style, side)
    return h


def _fused_block(graph: OnnxGraph, block: FusedBlock, x: str, style: _Style, side: int) -> str:
    """The residual block with the style in both normalisations, for x of ``side`` pixels a side."""
    y = style.norm(block.norm1, x)
    if block.upsample:
        y = _upsampled(graph, y, block.conv1.weight, block.conv1.bias, side, gated=False)
    else:
        y = graph.conv(y, block.conv1.weight, block.conv1.bias)
    y = graph.conv(style.norm(block.norm2, y), block.conv2.weight, block.conv2.bias)
    if isinstance(block.skip, nn.Conv2d):
        x = graph.conv(x, block.skip.weight, None)
    if block.upsample:
        x = graph("Resize", x, "", _doubled(graph), mode="nearest", **_NEAREST)
    return graph("Add", x, y)


_NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}  # exact repetition of pixels


def _fused_head(graph: OnnxGraph, head: FusedHead, h: str, style: _Style, side: int) -> str:
    return graph.conv(style.norm(head.norm, h), head.conv.weight, head.conv.bias)


def _legacy_head(graph: OnnxGraph, head: LegacyHead, h: str, style: _Style, side: int) -> str:
    return graph.conv(h, head.conv.weight, None)


_FORMS: dict[type[nn.Module], Callable[[OnnxGraph, Any, str, _Style, int], str]] = {
    LegacyFirst: _legacy_first,
    LegacyNext: _legacy_next,
    LegacyHead: _legacy_head,
    FusedFirst: _fused_first,
    FusedNext: _fused_next,
    FusedHead: _fused_head,
}
