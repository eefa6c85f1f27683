"""Training speed: milliseconds per image and step of ``legacy``, and of the published model in plain eager PyTorch.

    python -m tests.benchmarks.train --batch 8 --rounds 7

Both compute the same step from the same weights (tests/training/test_step.py shows equal gradients in float64).
If the published model is not beside the repository, a plain form of our own modules is the baseline.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stackgan.config import Config, preset
from stackgan.data.sampler import Batch
from stackgan.images.pixels import to_stages
from stackgan.tools.convert import _discriminator_modules, _generator_modules
from stackgan.training.state import Run
from stackgan.training.step import train_step
from tests.benchmarks.harness import Candidate, baseline, gmacs_at_peak, print_table, print_versions, race
from tests.plain import plain_optimizers, plain_step

NEEDED = 56.0  # 10⁹ multiply-adds per image and step at the published size, after all exact savings
TEXT = 1024


def config_of(batch: int, overrides: Sequence[str] = ()) -> Config:
    """The published size."""
    return preset("legacy", [f"text.dim={TEXT}", f"optim.batch_size={batch}", "tree.stages=3", *overrides])


def random_batch(config: Config) -> Batch:
    generator = torch.Generator().manual_seed(0)
    count, size = config.optim.batch_size, config.tree.sizes[-1]
    real, wrong = torch.randint(0, 256, (2, count, size, size, 3), dtype=torch.uint8, generator=generator)
    return Batch(real, torch.randn(count, config.text.dim, generator=generator), wrong=wrong)


def ours(batch: int, overrides: Sequence[str] = ()) -> Callable[[], object]:
    """A step of this program."""
    config = config_of(batch, overrides)
    run, pictures = Run.start(config, torch.device("cpu")), random_batch(config)
    return lambda: train_step(run, pictures)


def plain(batch: int) -> Callable[[], object]:
    """A step of the baseline with the same weights."""
    config = config_of(batch)
    run, pictures = Run.start(config, torch.device("cpu")), random_batch(config)
    reference = baseline()
    if reference is None:
        plainly = plain_optimizers(run)
        return lambda: plain_step(run, pictures, plainly)
    generator = reference.Generator()
    rivals = [reference.Discriminator(size) for size in config.tree.sizes]
    with torch.no_grad():
        for their, (our, _) in _generator_modules(config.tree.stages, config.generator.residuals).items():
            generator.get_submodule(their).load_state_dict(run.model.get_submodule(our).state_dict())
        for stage, rival in enumerate(rivals):
            for their, (our, _) in _discriminator_modules(stage).items():
                rival.get_submodule(their).load_state_dict(run.nets[stage].get_submodule(our).state_dict())
    real, wrong = (
        [x.contiguous() for x in to_stages(images, config.tree.sizes, torch.device("cpu"))]
        for images in (pictures.real, pictures.wrong)
        if images is not None
    )
    average: list[Tensor] = [parameter.detach().clone() for parameter in generator.parameters()]
    optimizers = reference.make_optimizers(generator, rivals)
    return lambda: reference.train_step(generator, rivals, optimizers, real, wrong, pictures.embedding, average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="images per step (published: 24)")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each candidate")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for ours, e.g. optim.compile=true")
    arguments = parser.parse_args()
    batch, overrides = arguments.batch, arguments.overrides

    def mine(name: str, *more: str) -> Candidate:
        return Candidate(name, ours, {"batch": batch, "overrides": [*more, *overrides]}, units=batch)

    candidates = [
        Candidate("plain, as it comes", plain, {"batch": batch}, keep_pages=False, units=batch),
        Candidate("plain, pages kept", plain, {"batch": batch}, units=batch),
        mine("ours, fp32"),
        mine("ours, bf16", "optim.precision=bf16"),
    ]
    print_versions()
    print(f"legacy at 256 px, batch {batch}; plain: {'the yardstick' if baseline() else 'our modules, plainly used'}")
    times = race(candidates, arguments.rounds, warm_up=1)
    first, second = (times[candidate.name] for candidate in candidates[:2])
    peaks = {bf16: gmacs_at_peak(torch.bfloat16 if bf16 else torch.float32) for bf16 in (False, True)}
    rows = []
    for candidate in candidates:
        mine_times = times[candidate.name]
        share = NEEDED / mine_times.median / peaks[candidate.name.endswith("bf16")]
        cells = [candidate.name, f"{1000 * mine_times.median:.0f}"]
        for other in (first, second):
            middle, low, high = mine_times.faster_than(other)
            cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        rows.append([*cells, f"{share:.0%}", f"{mine_times.peak_mib:.0f}"])
    header = ("", "ms an image and step", "× as it comes", "× pages kept", "of peak", "peak MiB")
    print_table(f"{arguments.rounds} rounds; ratio: median (quartiles)", header, rows)


if __name__ == "__main__":
    main()
