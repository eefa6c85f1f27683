"""Inference engines at 256 px, width 64, with the same (random) weights: PyTorch, ONNX Runtime, OpenVINO.

    python -m tests.benchmarks.engines [--batches 1 8] [--rounds 9] [--threads 1] [--no-compile]

Every candidate generates the finest image from z and c, and is compared with plain PyTorch's before it is timed.
"Plain graph" is the published generator, layer by layer, as PyTorch's exporter writes it; "fast graph" is
:func:`stackgan.networks.onnx_generator.generator_graph`, which ``stackgan export`` writes. OpenVINO is left out if it
is not installed (``pip install openvino``).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackgan.config import preset
from stackgan.model import StackGAN
from stackgan.networks.fast_generator import FastGenerator
from stackgan.networks.generator import Generator
from stackgan.networks.onnx_generator import generator_graph
from stackgan.networks.onnx_graph import OPSET
from stackgan.runtime.engines import onnx_session
from tests.benchmarks.harness import Candidate, print_table, print_versions, race
from tests.plain import plain_images

FINEST = 2
GRAPHS = ("plain", "fast")
Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_versions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_graphs(folder)
        for batch in options.batches:
            before = os.getloadavg()[0]
            times = race(_candidates(folder, batch, options.threads, options.no_compile), options.rounds)
            rows = []
            for candidate, time in times.items():
                middle, low, high = times["ours"].faster_than(time)
                per_image = f"{1000 * time.median:.0f}"
                rows.append([candidate, per_image, f"{middle:.2f} ({low:.2f}–{high:.2f})", f"{time.peak_mib:.0f}"])
            title = f"Batch {batch}, load average {before:.1f} before and {os.getloadavg()[0]:.1f} after"
            print_table(title, ["", "ms an image", "time / ours", "peak MiB"], rows)


def _candidates(folder: Path, batch: int, threads: int, no_compile: bool) -> list[Candidate]:
    table: dict[str, tuple[Callable[..., Work], dict[str, Any]]] = {
        "ours": (ours, {}),
        "plain PyTorch": (plain, {}),
        "plain PyTorch, torch.compile": (plain, {"compiled": True}),
    }
    if no_compile:
        del table["plain PyTorch, torch.compile"]
    for graph in GRAPHS:
        table[f"ONNX Runtime, {graph} graph"] = onnx_runtime, {"graph": graph, "threads": threads}
        if find_spec("openvino"):
            table[f"OpenVINO, {graph} graph"] = openvino, {"graph": graph, "threads": threads}
    shared = {"folder": folder, "batch": batch}
    return [
        Candidate(name, make, {**shared, **arguments}, threads=threads, units=batch)
        for name, (make, arguments) in table.items()
    ]


# --- candidates ------------------------------------------------------------------------------------------------


def ours(folder: Path, batch: int) -> Work:
    fast = FastGenerator(_generator())
    return _checked(lambda z, c: fast(z, c, [FINEST])[0].numpy(), batch)


def plain(folder: Path, batch: int, compiled: bool = False) -> Work:
    model = _Plain(_generator())
    call = torch.compile(model) if compiled else model
    return _checked(lambda z, c: call(z, c).numpy(), batch)


def onnx_runtime(folder: Path, batch: int, graph: str, threads: int) -> Work:
    session = onnx_session(folder / f"{graph}.onnx", threads)
    return _checked(lambda z, c: next(iter(session({"z": z.numpy(), "c": c.numpy()}).values())), batch)


def openvino(folder: Path, batch: int, graph: str, threads: int) -> Work:
    from openvino import Core

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = Core().compile_model(folder / f"{graph}.onnx", "CPU", settings).create_infer_request()
    return _checked(lambda z, c: request.infer({"z": z.numpy(), "c": c.numpy()}, share_outputs=True)[0], batch)


def _checked(call: Callable[[Tensor, Tensor], Any], batch: int) -> Work:
    """The call on fixed inputs, after a comparison of its images with plain PyTorch's."""
    draw = torch.Generator().manual_seed(0)
    generator = _generator()
    z, c = (torch.randn(batch, size, generator=draw) for size in (generator.z_dim, generator.code_dim))

    def work() -> object:
        with torch.inference_mode():
            return call(z, c)

    with torch.inference_mode():
        wanted = plain_images(generator, z, c)[FINEST].numpy()
    np.testing.assert_allclose(np.asarray(work()), wanted, atol=1e-3)
    return work


def _generator() -> Generator:
    torch.manual_seed(0)
    return StackGAN(preset("legacy", ["text.encoder=precomputed:any", "text.dim=1024"])).eval().generator


class _Plain(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return plain_images(self.generator, z, c)[FINEST]


def _write_graphs(folder: Path) -> None:
    generator = _generator()
    fast = generator_graph(generator, [FINEST])
    (folder / "fast.onnx").write_bytes(fast.SerializeToString())
    batch = torch.export.Dim("batch")
    inputs = torch.zeros(2, generator.z_dim), torch.zeros(2, generator.code_dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Plain(generator),
            inputs,
            input_names=["z", "c"],
            output_names=["image"],
            dynamic_shapes=({0: batch}, {0: batch}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    (folder / "plain.onnx").write_bytes(program.model_proto.SerializeToString())


if __name__ == "__main__":
    main()
