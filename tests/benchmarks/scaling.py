"""Scaling of speed and memory with batch, threads, size and width: curves and tables.

    python -m tests.benchmarks.scaling --out tests/benchmarks/scaling

Writes ``scaling.png``, ``numbers.json`` and prints the tables. Every point is measured in a
separate process: the shape of the curves of one machine. Ratios between programs are in the other benchmarks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stackgan.config import Config, preset
from stackgan.data.sampler import Batch
from stackgan.networks.fast_generator import FastGenerator
from stackgan.networks.generator import Generator
from stackgan.study.figures import dress, new_figure, save_figure, write_numbers
from stackgan.training.state import Run
from stackgan.training.step import train_step
from tests.benchmarks.harness import Candidate, gmacs_at_peak, print_table, print_versions, race

BATCHES, FEW = (1, 2, 4, 8, 16, 32, 64), (1, 4, 16, 64)
STEP_BATCHES = (2, 4, 8, 16, 32)
WIDTHS = (16, 24, 32, 48, 64)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LINES = {"fp32": "#3B6FB6", "bf16": "#DD6E42", "module": "#98A2AD"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scaling"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print_versions()
    threads = torch.get_num_threads()
    numbers: dict[str, Any] = {
        "threads": threads,
        "peak_gmacs": {name: gmacs_at_peak(dtype) for name, dtype in DTYPES.items()},
        "generation": [
            *(_paint(options, 3, b, form, threads) for form in ("fp32", "bf16") for b in BATCHES),
            *(_paint(options, 3, b, "module", threads) for b in (*FEW, 8)),
            *(_paint(options, 3, b, form, 1) for form in ("fp32", "bf16") for b in FEW if threads > 1),
            *(_paint(options, s, 8, form, threads) for form in ("module", "fp32", "bf16") for s in (1, 2)),
        ],
        "training": [
            *(_step(options, "modern", b, 32) for b in STEP_BATCHES),
            *(_step(options, "modern", 16, width) for width in WIDTHS if width != 32),
            *(_step(options, "legacy", b, 64) for b in (2, 4, 8)),
        ],
    }
    write_numbers(options.out, numbers)
    _draw(options.out / "scaling.png", numbers)
    report(numbers)


def report(numbers: dict[str, Any]) -> None:
    """Print the tables, as Markdown."""
    peaks = numbers["peak_gmacs"]
    rows: list[Sequence[object]] = []
    for point in numbers["generation"]:
        peak = peaks["bf16" if point["form"] == "bf16" else "fp32"] * point["threads"] / numbers["threads"]
        named = [point["form"], point["size"], point["batch"], point["threads"]]
        rows.append([*named, *_figures(point, peak)])
    header = ["form", "px", "batch", "threads"]
    print_table("Generation, width 64", [*header, *FIGURES], rows)
    rows = []
    for point in numbers["training"]:
        named = [point["preset"], point["width"], point["batch"], point["precision"]]
        rows.append([*named, *_figures(point, peaks[point["precision"]])])
    header = ["preset", "width", "batch", "precision"]
    print_table("Training (a step without the penalty, which comes every eighth)", [*header, *FIGURES], rows)


FIGURES = ("images/s", "G multiply-adds an image", "of peak", "peak MiB")


def _figures(point: dict[str, Any], peak: float) -> list[str]:
    share = point["gmacs"] * point["rate"] / peak
    return [f"{point['rate']:.1f}", f"{point['gmacs']:.2f}", f"{share:.0%}", f"{point['mib']:.0f}"]


# --- points -------------------------------------------------------------------------------------------------


def painting(stages: int, batch: int, form: str) -> Callable[[], object]:
    """Generation of the finest images by the published generator with ``stages``."""
    generator, (z, c) = _generator(stages), _noise(batch)
    fast = FastGenerator(generator, DTYPES[form]) if form in DTYPES else None

    def work() -> object:
        with torch.inference_mode():
            return generator(z, c) if fast is None else fast(z, c, [stages - 1])

    return work


def stepping(name: str, batch: int, width: int) -> Callable[[], object]:
    """A training step of a preset with other widths."""
    config = _config(name, batch, width)
    run, pictures = _run(config), _pictures(config)
    return lambda: train_step(run, pictures)


def _paint(options: argparse.Namespace, stages: int, batch: int, form: str, threads: int) -> dict[str, Any]:
    arguments = {"stages": stages, "batch": batch, "form": form}
    time = _alone(Candidate("point", painting, arguments, threads=threads, units=batch), options.rounds)
    generator, (z, c) = _generator(stages), _noise(1)
    forward = FastGenerator(generator) if form in DTYPES else generator
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward(z, c)
    gmacs = counter.get_total_flops() / 2e9
    point = {"form": form, "size": 32 << stages, "batch": batch, "threads": threads, "gmacs": gmacs}
    return _said(point | {"rate": 1 / time.median, "mib": time.peak_mib})


def _step(options: argparse.Namespace, name: str, batch: int, width: int) -> dict[str, Any]:
    config = _config(name, batch, width)
    arguments = {"name": name, "batch": batch, "width": width}
    time = _alone(Candidate("point", stepping, arguments, units=batch), options.rounds)
    run, pictures = _run(config), _pictures(config)
    with FlopCounterMode(display=False) as counter:
        train_step(run, pictures)
    point = {"preset": name, "width": width, "batch": batch, "precision": config.optim.precision}
    point |= {"gmacs": counter.get_total_flops() / 2e9 / batch, "seconds": time.median * batch}
    return _said(point | {"rate": 1 / time.median, "mib": time.peak_mib})


def _alone(candidate: Candidate, rounds: int) -> Any:
    return race([candidate], rounds)[candidate.name]


def _said(point: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(point), flush=True)
    return point


def _generator(stages: int) -> Generator:
    torch.manual_seed(0)
    return Generator(preset("legacy").generator, stages, 100, 128).eval()


def _noise(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 100), torch.randn(batch, 128)


def _config(name: str, batch: int, width: int) -> Config:
    keys = [f"text.dim={1024 if name == 'legacy' else 256}", f"optim.batch_size={batch}"]
    return preset(name, [*keys, f"generator.width={width}", f"discriminator.width={width}"])


def _run(config: Config) -> Run:
    """Step 1, which has no penalty."""
    run = Run.start(config, torch.device("cpu"))
    run.progress.step = 1
    return run


def _pictures(config: Config) -> Batch:
    generator = torch.Generator().manual_seed(0)
    count, size = config.optim.batch_size, config.tree.sizes[-1]
    real, wrong = torch.randint(0, 256, (2, count, size, size, 3), dtype=torch.uint8, generator=generator)
    e, other = torch.randn(2, count, config.text.dim, generator=generator)
    if config.loss.mismatch == "photo":
        return Batch(real, e, wrong=wrong)
    return Batch(real, e, wrong_embedding=other)


# --- figure -------------------------------------------------------------------------------------------------


def _draw(file: Path, numbers: dict[str, Any]) -> None:
    figure, axes = new_figure(2, 3, (13, 7.4), "Where speed bends")
    threads = numbers["threads"]
    for form, colour in LINES.items():
        for count, style in ((threads, "-"), (1, "--")):
            points = [p for p in numbers["generation"] if (p["form"], p["size"], p["threads"]) == (form, 256, count)]
            if points:
                label = f"{form}, {count} thread{'s' if count > 1 else ''}"
                points.sort(key=lambda p: p["batch"])
                batches = [p["batch"] for p in points]
                for column, key in ((0, "rate"), (2, "mib")):
                    if key == "rate" or count == threads:
                        axes[0, column].plot(batches, [p[key] for p in points], style, marker="o", ms=3.5,
                                             color=colour, label=label)  # fmt: skip
        points = [p for p in numbers["generation"] if (p["form"], p["batch"], p["threads"]) == (form, 8, threads)]
        points.sort(key=lambda p: p["size"])
        axes[0, 1].plot([p["size"] for p in points], [p["rate"] for p in points], marker="o", ms=3.5, color=colour,
                        label=form)  # fmt: skip
    dress(axes[0, 0], "Generation, 256 px", "batch", "images a second", grid="both").set_xscale("log", base=2)
    dress(axes[0, 1], "Generation, batch 8", "px", "images a second", grid="both").set(yscale="log")
    axes[0, 1].set_xticks([64, 128, 256])
    dress(axes[0, 2], "Generation, 256 px", "batch", "peak MiB", grid="both").set_xscale("log", base=2)
    training = numbers["training"]
    for name, colour in (("modern", "#3E9C78"), ("legacy", "#8A5FA8")):
        points = [p for p in training if p["preset"] == name and p["width"] == {"modern": 32, "legacy": 64}[name]]
        for column, key in ((0, "rate"), (2, "mib")):
            axes[1, column].plot([p["batch"] for p in points], [p[key] for p in points], marker="o", ms=3.5,
                                 color=colour, label=name)  # fmt: skip
    dress(axes[1, 0], "Training", "batch", "images a second", grid="both").set(yscale="log")
    dress(axes[1, 2], "Training", "batch", "peak MiB", grid="both")
    points = sorted((p for p in training if p["preset"] == "modern" and p["batch"] == 16), key=lambda p: p["width"])
    axes[1, 1].plot([p["width"] for p in points], [1000 * p["seconds"] for p in points], marker="o", ms=3.5,
                    color="#3E9C78", label="modern")  # fmt: skip
    dress(axes[1, 1], "Training, modern, batch 16", "width of G and D", "ms a step", grid="both")
    axes[0, 0].set_ylim(0, 1.5 * max(p["rate"] for p in numbers["generation"] if p["size"] == 256))  # for labels
    for panel in (axes[0, 0], axes[0, 2]):
        panel.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    for panel, ticks in ((axes[0, 1], (20, 50, 100, 200, 500)), (axes[1, 0], (2, 5, 10, 20, 50, 100))):
        panel.set_yticks(ticks, [str(tick) for tick in ticks])
        panel.set_yticks([], minor=True)
    for panel in axes.flat:
        panel.legend(frameon=False, fontsize=8, ncols=2 if panel is axes[0, 0] else 1)
    save_figure(figure, file)


if __name__ == "__main__":
    main()
