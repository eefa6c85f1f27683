"""Jobs of tests/ranks.py: steps of small models, and trainings in float64, by one process or by several."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stackgan.cli.main import run_command
from stackgan.config import Config, preset
from stackgan.data.sampler import Batch
from stackgan.runtime.distributed import gather_rows, is_first, mean_over_ranks, own_rows, processes, sharded, world
from stackgan.training import loop
from stackgan.training.setup import check_share
from stackgan.training.state import Run
from stackgan.training.step import train_step

__all__ = ["CASES", "steps", "training"]

COUNT, TEXT = 8, 6
SMALL = [
    "text.dim=6", "text.code_dim=4", "latent.dim=5", f"optim.batch_size={COUNT}", "generator.width=4",
    "discriminator.width=2", "latent.width=4", "latent.hidden=8", "latent.steps=2", "latent.warm_up=0",
    "optim.precision=fp32", "train.log_steps=1",
]  # fmt: skip
# Name: preset, overrides.
CASES = {
    "modern": (
        "modern",
        ["tree.stages=1", "loss.penalty_every=2", "loss.diversity=1", "optim.checkpointing=true"],
    ),
    "legacy": ("legacy", ["tree.stages=1", "loss.penalty=0.1", "loss.penalty_every=2"]),
    "vae": ("modern", ["tree.stages=1", "latent.z=vae"]),
    "flows": ("modern", ["tree.stages=1", "latent.z=flow", "latent.family=glow", "latent.c=flow"]),
    "crops in parts": (
        "quickstart",
        [
            "tree.stages=2",
            "discriminator.patch=64",
            "loss.coarse=1",
            "optim.lower_rate=0",
            "loss.contrast=0",
            "loss.adversarial=relativistic",
            "discriminator.match=1",
            "discriminator.minibatch_std=true",
            "optim.accumulate=2",
            "optim.batch_size=16",
        ],
    ),
}
# For four processes, by a quarter of a batch.
LARGE_CASES = {"modern, 16 images": ("modern", [*CASES["modern"][1], "optim.batch_size=16"])}


def steps(folder: str, count: str, precision: str, *names: str) -> None:
    """Run ``count`` steps of the cases in float64 or float32; the first process writes FOLDER/W.pt, their ends."""
    if precision == "float64":
        _use_float64()
    found = {}
    with processes("cpu") as device:
        for name in names or CASES:
            kind, overrides = (CASES | LARGE_CASES)[name]
            found[name] = _case(preset(kind, [*SMALL, *overrides]), int(count), device)
        if is_first():
            torch.save(found, Path(folder) / f"{world()}.pt")


def training(run: str, event: str, *words: str) -> int:
    """``stackgan train WORDS``; a process other than the first that changes a file of RUN exits with code 71.

    Args:
        event: ``none``; ``R:N:SIGNAL``: process R sends itself a signal after N steps; ``R:N:NAN``: it then finds a
            loss that is not finite.
    """
    _use_float64()
    own, changed = os.environ.get("RANK", "0"), False
    if event != "none":
        _disturb(*event.split(":"), own=own)

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changed
        if name not in CHANGES or not str(arguments[0]).startswith(run):
            return
        if name == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        changed = True
        sys.__stderr__.write(f"{name} {arguments[0]}\n")

    if own != "0":
        sys.addaudithook(watch)
    code = run_command("train", [*words, "--run", run, "--device", "cpu"])
    return 71 if changed else code


CHANGES = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")  # audit events


def _use_float64() -> None:
    Tensor.float = Tensor.double  # type: ignore[assignment,method-assign]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def _disturb(process: str, after: str, name: str, *, own: str) -> None:
    step: Callable[..., dict[str, Tensor]] = loop.train_step
    made = 0

    def counted(*arguments: Any) -> dict[str, Tensor]:
        nonlocal made
        scalars = step(*arguments)
        made += 1
        if process == own and made == int(after):
            if name == "NAN":
                return scalars | {"d64/loss": scalars["d64/loss"] * math.nan}
            os.kill(os.getpid(), signal.Signals[name])
        return scalars

    loop.train_step = counted  # type: ignore[assignment]


def _case(config: Config, count: int, device: torch.device) -> dict[str, Tensor]:
    """Weights, EMA, running statistics after some steps; the scalars of all steps; the state of the generator."""
    check_share(config)
    run, data = Run.start(config, device), torch.Generator().manual_seed(5)
    torch.manual_seed(1)
    logged: dict[str, list[Tensor]] = {}
    for _ in range(count):
        whole = _batch(config, data)
        with sharded():
            batch = Batch(**{key: own_rows(value) for key, value in vars(whole).items() if value is not None})
        scalars = train_step(run, batch)
        with sharded():
            for key, value in scalars.items():
                logged.setdefault(f"scalars.{key}", []).append(mean_over_ranks(value))
        run.progress.step += 1
        run.progress.images += config.optim.batch_size
    found = {key: torch.stack(values) for key, values in logged.items()}
    for title, part in (("model", run.model), ("ema", run.ema), ("discriminators", run.discriminators)):
        found |= {f"{title}.{key}": value for key, value in part.state_dict().items()}
    with sharded():  # the processes' weights are equal, bit for bit
        for parameter in run.model.parameters():
            rows = gather_rows(parameter.detach().flatten()[None])
            assert (rows == rows[0]).all()
    return found | {"rng": torch.get_rng_state()}


def _batch(config: Config, generator: torch.Generator) -> Batch:
    size, count, photo = config.tree.sizes[-1], config.optim.batch_size, config.loss.mismatch == "photo"

    def images() -> Tensor:
        return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)

    def embeddings() -> Tensor:
        return torch.randn(count, TEXT, generator=generator)

    wrong = {"wrong": images()} if photo else {"wrong_embedding": embeddings()}
    return Batch(images(), embeddings(), **wrong)
