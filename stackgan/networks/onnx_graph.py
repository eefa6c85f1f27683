"""An ONNX graph under construction, written node by node, not traced.

No exporter's version decides what is in the graph, and it takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["IR_VERSION", "OPSET", "PRECISIONS", "OnnxGraph", "OnnxModel", "onnx_package"]

OnnxModel: TypeAlias = "ModelProto"
OPSET, IR_VERSION = 21, 10  # ONNX 1.16: read by ONNX Runtime from 1.18, OpenVINO from 2024.2
PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8, computed in float32"}  # name -> kind of weights


def onnx_package() -> Any:
    """The package onnx.

    Raises:
        ValueError: it is missing.
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise ValueError('an ONNX graph needs the package onnx: pip install "stackgan[onnx]"') from None
    return onnx


class OnnxGraph:
    """Nodes, constants, inputs and outputs. Values are represented by their names.

    ::

        graph = OnnxGraph()
        x = graph.input("x", ["batch", 3])
        graph.output(graph("Mul", x, torch.tensor([1.0, 2.0, 3.0])), "y", ["batch", 3])
        model = graph.model("scaling")

    Args:
        precision: a name of :data:`PRECISIONS`. ``fp16``: float constants and feature maps in float16; float inputs
            and outputs stay float32 and are cast. ``int8``: the weights of :meth:`linear` and :meth:`conv` as int8,
            with the largest absolute weight / 127 as each output's scale; engines multiply them out when they load
            the file, and compute in float32.

    Raises:
        ValueError: the package onnx is missing, or an unknown precision.
    """

    def __init__(self, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown: it must be {', '.join(PRECISIONS)}")
        self.onnx, self.half, self.quantised = onnx_package(), precision == "fp16", precision == "int8"
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def __call__(self, op: str, *inputs: str | Tensor | Sequence[int], **attributes: Any) -> str:
        """Append a node with one output, whose name is returned; tensors and lists of integers become constants."""
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, count: int, *inputs: str | Tensor | Sequence[int], **attributes: Any) -> list[str]:
        """A node with ``count`` outputs."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        outputs = [f"{op.lower()}_{len(self._nodes)}_{i}" for i in range(count)]
        self._add(op, names, outputs, attributes)
        return outputs

    def _add(self, op: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> None:
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(self.onnx.helper.make_node(op, inputs, outputs, name=name, **attributes))

    def constant(self, value: Tensor | Sequence[int], *, exact: bool = False) -> str:
        """A tensor as a float constant, integers as int64; ``exact`` for float32 in a graph in float16 too."""
        if isinstance(value, Tensor):
            array = value.detach().float().cpu().contiguous().numpy()
            array = array.astype(np.float16) if self.half and not exact else array
        else:
            array = np.array(value, np.int64)
        return self._stored(array)

    def _stored(self, array: NDArray[Any]) -> str:
        self._constants.append(self.onnx.numpy_helper.from_array(array, f"constant_{len(self._constants)}"))
        return str(self._constants[-1].name)

    def input(self, name: str, shape: Sequence[int | str], *, integers: bool = False) -> str:
        """An input, float32 or int64; strings in ``shape`` are dynamic dimensions."""
        kind = self.onnx.TensorProto.INT64 if integers else self.onnx.TensorProto.FLOAT
        self._inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, shape))
        return self("Cast", name, to=self.onnx.TensorProto.FLOAT16) if self.half and not integers else name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Return ``value`` as a float32 output."""
        floats = self.onnx.TensorProto.FLOAT
        self._outputs.append(self.onnx.helper.make_tensor_value_info(name, floats, shape))
        self._add("Cast" if self.half else "Identity", [value], [name], {"to": floats} if self.half else {})

    def model(self, name: str, metadata: Mapping[str, str] | None = None) -> OnnxModel:
        """The finished model.

        Args:
            metadata: its ``metadata_props``.
        """
        helper = self.onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        model: OnnxModel = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        model.producer_name = "stackgan"
        helper.set_model_props(model, dict(metadata or {}))
        return model

    # --- layers ---

    def linear(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        """x (B, I) -> (B, O), weight (O, I)."""
        return self("Gemm", x, self._weight(weight), *([] if bias is None else [bias]), transB=1)

    def conv(self, x: str, weight: Tensor, bias: Tensor | None, pads: Sequence[int] | None = None) -> str:
        """Convolution of stride 1; ``pads`` (top, left, bottom, right), by default such that the side is kept."""
        kernel = list(weight.shape[2:])
        pads = [kernel[0] // 2] * 4 if pads is None else list(pads)
        stored = self._weight(weight)
        return self("Conv", x, stored, *([] if bias is None else [bias]), kernel_shape=kernel, pads=pads)

    def _weight(self, weight: Tensor) -> str:
        if not self.quantised:
            return self.constant(weight)
        scale = weight.flatten(1).abs().amax(1).clamp_min(1e-30).view(-1, *[1] * (weight.ndim - 1)) / 127
        levels = self._stored((weight / scale).round().to(torch.int8).cpu().numpy())
        return self("Mul", self("Cast", levels, to=self.onnx.TensorProto.FLOAT), scale)

    def glu(self, x: str) -> str:
        """Gated linear unit along axis 1."""
        values, gates = self.several("Split", 2, x, axis=1, num_outputs=2)
        return self("Mul", values, self("Sigmoid", gates))
