"""Training and generation on a GPU, compared with the published model in plain PyTorch and the GPU's peak.

    python -m tests.gpu.benchmark --seconds 90

Times are medians of several rounds. ``--device cpu`` runs the same program at a small size, to test it without a
GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from stackgan.config import Config, preset
from stackgan.data.sampler import Batch
from stackgan.images.pixels import to_stages
from stackgan.model import StackGAN
from stackgan.networks.fast_generator import FastGenerator
from stackgan.training.state import Run
from stackgan.training.step import train_step
from tests.benchmarks.harness import baseline

Row = tuple[str, float, str]


class Clock:
    """Milliseconds of work on a device, the median of several rounds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], object], rounds: int = 10, warm_up: int = 5, inner: int = 1) -> float:
        for _ in range(warm_up):
            work()
        times = []
        for _ in range(rounds):
            self.wait()
            began = time.perf_counter()
            for _ in range(inner):
                work()
            self.wait()
            times.append((time.perf_counter() - began) / inner * 1e3)
        return statistics.median(times)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peaks(clock: Clock, side: int) -> dict[str, float]:
    """TFLOP/s of a square matrix product on random data, by precision."""
    found = {}
    for name, dtype, mode in (
        ("fp32", torch.float32, "ieee"),
        ("tf32", torch.float32, "tf32"),
        ("bf16", torch.bfloat16, "ieee"),
    ):
        torch.backends.cuda.matmul.fp32_precision = mode
        a, b = (torch.randn(side, side, device=clock.device).to(dtype) for _ in range(2))
        found[name] = 2 * side**3 / clock(lambda a=a, b=b: a @ b, rounds=5, warm_up=2, inner=3) / 1e9  # type: ignore[misc]
    return found


def precision(name: str) -> None:
    for backend in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
        backend.fp32_precision = name  # type: ignore[attr-defined]


def generation(clock: Clock, batch: int, toy: bool) -> list[Row]:
    """Images per second at the published size: the published model, and ours in its fast form."""
    keys = ["text.dim=1024", *(["generator.width=16"] if toy else [])]
    model = StackGAN(preset("legacy", keys)).to(clock.device).eval()
    z, e = torch.randn(batch, 100, device=clock.device), torch.randn(batch, 1024, device=clock.device)
    c = torch.randn(batch, 128, device=clock.device)
    rows: list[Row] = []
    reference = baseline()
    plain = reference.Generator(width=16 if toy else 64).to(clock.device).eval() if reference else model.generator
    given = (z, e) if reference else (z, c)
    with torch.inference_mode():
        for name, mode, dtype in (("fp32", "ieee", None), ("tf32", "tf32", None), ("bf16", "tf32", torch.bfloat16)):
            precision(mode)
            cast = torch.autocast(clock.device.type, dtype=torch.bfloat16, enabled=dtype is not None)

            def work(cast: torch.autocast = cast) -> object:
                with cast:
                    return plain(*given)

            rows.append((f"plain, {name}", clock(work), ""))
        for name, mode, dtype in (
            ("fp32", "ieee", torch.float32),
            ("tf32", "tf32", torch.float32),
            ("bf16", "tf32", torch.bfloat16),
        ):
            precision(mode)
            fast = FastGenerator(model.generator, dtype).to(clock.device)
            rows.append((f"ours, {name}", clock(lambda fast=fast: fast(z, c, [2])), ""))  # type: ignore[misc]
    return [
        (f"generate 256 px, batch {batch}: {name}", ms, f"{batch / ms * 1e3:,.0f} images/s") for name, ms, _ in rows
    ]


def batch_of(config: Config, device: torch.device) -> Batch:
    count, size = config.optim.batch_size, config.tree.sizes[-1]
    real, wrong = torch.randint(0, 256, (2, count, size, size, 3), dtype=torch.uint8, device=device)
    e, other = torch.randn(2, count, config.text.dim, device=device)
    photo = config.loss.mismatch == "photo"
    return Batch(real, e, wrong=wrong if photo else None, wrong_embedding=None if photo else other)


def a_step(clock: Clock, config: Config) -> float:
    """Milliseconds of a training step, averaged over a round of the lazy penalty."""
    run, batch = Run.start(config, clock.device), batch_of(config, clock.device)

    def work() -> None:
        train_step(run, batch)
        run.progress.step += 1

    every = config.loss.penalty_every if config.loss.penalty else 1
    warm_up = 3 * every if config.optim.cuda_graphs else 6
    return clock(work, rounds=5, warm_up=warm_up, inner=max(every, 8))


def legacy_training(clock: Clock, toy: bool) -> list[Row]:
    batch = 4 if toy else 24
    size = ["generator.width=16", "discriminator.width=4"] if toy else []
    keys = ["text.dim=1024", f"optim.batch_size={batch}", *size]
    rows = []
    reference = baseline()
    if reference is not None and not toy:
        config = preset("legacy", keys)
        data = batch_of(config, clock.device)
        generator = reference.Generator().to(clock.device)
        rivals = [reference.Discriminator(s).to(clock.device) for s in config.tree.sizes]
        real, wrong = (
            [x.contiguous() for x in to_stages(images, config.tree.sizes, clock.device)]
            for images in (data.real, data.wrong)
            if images is not None
        )
        average: list[Tensor] = [p.detach().clone() for p in generator.parameters()]
        optimizers = reference.make_optimizers(generator, rivals)
        for mode in ("ieee", "tf32"):
            precision(mode)
            work = lambda: reference.train_step(generator, rivals, optimizers, real, wrong, data.embedding, average)  # noqa: E731
            rows.append((f"plain, {'fp32' if mode == 'ieee' else mode}", clock(work, rounds=5, warm_up=3, inner=3)))
    choices = [("fp32", []), ("tf32", ["optim.precision=tf32"])]
    choices.append(("bf16", ["optim.precision=bf16", "optim.channels_last=true"]))
    if clock.device.type == "cuda":
        choices.append(("bf16, recorded", [*choices[-1][1], "optim.cuda_graphs=true"]))
    for name, more in choices:
        rows.append((f"ours, {name}", a_step(clock, preset("legacy", [*keys, *more]))))
    return [(f"legacy step, 256 px, batch {batch}: {n}", ms, f"{batch / ms * 1e3:,.0f} images/s") for n, ms in rows]


def modern_training(clock: Clock, toy: bool, keys: list[str]) -> list[Row]:
    rows = []
    graphs = [False, True] if clock.device.type == "cuda" else [False]
    for batch in (4,) if toy else (32, 64, 128):
        for graph in graphs:
            more = ["text.dim=256", f"optim.batch_size={batch}", f"optim.cuda_graphs={str(graph).lower()}", *keys]
            ms = a_step(clock, preset("modern", more))
            name = f"modern step, 64 px, batch {batch}{', recorded' if graph else ''}"
            rows.append((name, ms, f"{batch / ms * 1e3:,.0f} images/s"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=90, help="begin no further section after so many")
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="of the modern steps")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    toy, clock, began = device.type == "cpu", Clock(device), time.perf_counter()
    torch.backends.cudnn.benchmark = True
    if not toy:
        print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    print({name: f"{value:.0f} TFLOP/s" for name, value in peaks(clock, 512 if toy else 8192).items()}, flush=True)
    sections: list[Callable[[], list[Row]]] = [
        lambda: modern_training(clock, toy, arguments.keys),
        lambda: generation(clock, 1, toy),
        lambda: generation(clock, 2 if toy else 64, toy),
        lambda: legacy_training(clock, toy),
    ]
    for section in sections:
        if time.perf_counter() - began > arguments.seconds:
            print("time is up")
            break
        try:
            for name, ms, note in section():
                print(f"{name:50} {ms:9.2f} ms  {note}", flush=True)
        except Exception as error:  # a failure of one section must not lose the results of others
            import traceback

            traceback.print_exc()
            print(f"failed: {error}", flush=True)
    if not toy:
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
