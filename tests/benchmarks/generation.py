"""Generation at 256 px, width 64, against the published model in plain eager PyTorch.

    python -m tests.benchmarks.generation [--batches 1 8 24] [--rounds 9] [--no-compile]

Every candidate generates the finest images from embeddings (B, 1024), with the same (random) weights. "As it comes"
is the plain model with the default allocator, which returns freed pages to the system; "pages kept" is the same with
:func:`stackgan.runtime.allocator.keep_pages`, which this program's commands use. If the published model is missing,
the project's own module, unfused, is the baseline.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stackgan.config import preset
from stackgan.model import StackGAN
from stackgan.networks.fast_generator import FastGenerator
from stackgan.pipeline import StackGANPipeline
from stackgan.tools.convert import convert
from tests.benchmarks.harness import Candidate, baseline, gmacs_at_peak, print_table, print_versions, race

TEXT, NOISE = 1024, 100
PLAIN = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 24])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled forms out")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    options = parser.parse_args()
    print_versions()
    peaks = {name: gmacs_at_peak(DTYPES[name]) for name in options.dtypes}
    print("peak of a large convolution: " + ", ".join(f"{v:.0f} GMAC/s in {k}" for k, v in peaks.items()))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _checkpoint(Path(folder))
        work = _gmacs_an_image(checkpoint)
        print(f"multiply-adds an image: plain {work[PLAIN]:.2f} G, ours {work['ours']:.2f} G")
        for batch in options.batches:
            _one_batch(checkpoint, batch, options, peaks, work)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _one_batch(
    checkpoint: Path, batch: int, options: argparse.Namespace, peaks: dict[str, float], work: dict[str, float]
) -> None:
    shared = {"checkpoint": checkpoint, "batch": batch}
    candidates = [
        Candidate("plain, as it comes", plain, shared, keep_pages=False, units=batch),
        Candidate("plain, pages kept", plain, shared, units=batch),
    ]
    for precision in options.dtypes:
        ours: dict[str, Any] = {**shared, "precision": precision}
        candidates.append(Candidate(f"ours, {precision}", fast, ours, units=batch))
        if not options.no_compile:
            ours = {**ours, "compiled": True}
            candidates.append(Candidate(f"ours, {precision}, compiled", fast, ours, units=batch))
    times = race(candidates, options.rounds)
    as_it_comes, kept = times["plain, as it comes"], times["plain, pages kept"]
    rows = []
    for name, time in times.items():
        ratios = []
        for other in (as_it_comes, kept):
            middle, low, high = time.faster_than(other)
            ratios.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        own = PLAIN if name.startswith(PLAIN) else "ours"
        peak = peaks.get("bf16" if "bf16" in name else "fp32")
        share = f"{work[own] / time.median / peak:.0%}" if peak else "–"
        rows.append([name, f"{1000 * time.median:.1f}", *ratios, share, f"{time.peak_mib:.0f}"])
    header = ["", "ms an image", "× as it comes", "× pages kept", "share of peak", "peak MiB"]
    print_table(f"Batch {batch}, 256 px", header, rows)


# --- candidates --------------------------------------------------------------------------------------------


def plain(checkpoint: Path, batch: int) -> Callable[[], object]:
    """The published model, or the project's own module where that is missing."""
    module = baseline()
    z, e = _inputs(batch)
    if module is None:
        model = StackGANPipeline.from_pretrained(checkpoint, device="cpu").model

        def work() -> object:
            with torch.inference_mode():
                return model.generator(z, model.condition(e).sample())
    else:
        generator = module.Generator().eval()
        stored = torch.load(checkpoint.parent / "netG_1.pth", weights_only=True)
        generator.load_state_dict({name.removeprefix("module."): tensor for name, tensor in stored.items()})

        def work() -> object:
            with torch.inference_mode():
                return generator(z, e)

    return work


def fast(checkpoint: Path, batch: int, precision: str, compiled: bool = False) -> Callable[[], object]:
    """The path of the pipeline from embeddings to pixels."""
    pipe = StackGANPipeline.from_pretrained(checkpoint, device="cpu", precision=precision, compiled=compiled)
    z, e = _inputs(batch)

    def work() -> object:
        with torch.inference_mode():
            return pipe.generator(z, pipe.model.condition(e).sample(), [len(pipe.sizes) - 1])

    return work


def _inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, NOISE, generator=generator), torch.randn(batch, TEXT, generator=generator)


def _checkpoint(folder: Path) -> Path:
    """Random weights in the published sizes: as a published file, and converted to a checkpoint."""
    torch.manual_seed(0)
    module, out = baseline(), folder / "checkpoint"
    if module is None:
        model = StackGAN(preset("legacy", ["text.encoder=precomputed:any", f"text.dim={TEXT}"])).eval()
        StackGANPipeline(model, None).save_pretrained(out)
        return out
    weights = {f"module.{name}": tensor for name, tensor in module.Generator().state_dict().items()}
    torch.save(weights, folder / "netG_1.pth")
    convert(folder / "netG_1.pth", [], out)
    return out


def _gmacs_an_image(checkpoint: Path) -> dict[str, float]:
    """10⁹ multiply-adds per image, counted by PyTorch."""
    model = StackGANPipeline.from_pretrained(checkpoint, device="cpu").model
    module, (z, e) = baseline(), _inputs(1)
    plainly, fast = module.Generator().eval() if module else None, FastGenerator(model.generator)
    runs: dict[str, Callable[[], object]] = {
        PLAIN: lambda: plainly(z, e) if plainly else model.generator(z, model.condition(e).mu),
        "ours": lambda: fast(z, model.condition(e).mu, [2]),
    }
    found = {}
    for name, run in runs.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:  # the counter misses calls in inference mode
            run()
        found[name] = counter.get_total_flops() / 2e9
    return found


if __name__ == "__main__":
    main()
