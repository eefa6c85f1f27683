"""Inference engines besides PyTorch: sessions of ONNX models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Session", "onnx_session"]

Arrays = Mapping[str, NDArray[Any]]


class Session(Protocol):
    """A loaded ONNX model."""

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; inputs that the model does not have are ignored."""
        ...


def onnx_session(model: Path | bytes, threads: int | None = None) -> Session:
    """A session of ONNX Runtime on the CPU.

    Args:
        model: a file, or its content.
        threads: None for one a core.

    Raises:
        ValueError: the package onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError('ONNX Runtime needs the package onnxruntime: pip install "stackgan[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    given = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = {entry.name for entry in session.get_inputs()}
    outputs = [entry.name for entry in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        found = session.run(outputs, {name: value for name, value in inputs.items() if name in names})
        return dict(zip(outputs, found, strict=True))

    return run
