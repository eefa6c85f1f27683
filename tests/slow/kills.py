"""Trainings of all presets and latent modules, killed at random and resumed: each equals one that ran through.

Not collected by default, as it takes minutes: ``python -m pytest tests/slow/kills.py -s``. The draws are seeded, and
half of the kills are at a time, which no seed repeats.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.killing import CALLS, KILLED, Kill, TrainingServer, differences, log_lines
from tests.tiny import TINY

STEPS = 8
OFTEN = ["train.save_minutes=0.002", "train.sample_minutes=0.02", "eval.every=0.02", "train.minutes=0"]
CONFIG = [*TINY, *OFTEN, f"train.images={4 * STEPS}", "train.log_steps=1"]
PRESETS = {
    "quickstart": ["loss.contrast=1.0"],
    "modern": ["optim.standing=16"],
    "legacy": ["tree.stages=2", "generator.width=8"],
}
VAE = ["latent.z=vae", "latent.warm_up=0"]
FLOW = ["latent.z=flow", "latent.warm_up=0", "latent.steps=2"]
LATENTS = {
    "vae": [*VAE, "optim.precision=fp32"],
    "vae, learned prior, bf16": [*VAE, "latent.prior=learned", "optim.precision=bf16"],
    "flow of codes": ["latent.c=flow", "loss.diversity=1.0"],
    **{f"flow {name}": [*FLOW, f"latent.family={name}"] for name in ("realnvp", "glow", "nsf", "maf")},
    "unconditional": ["text.encoder=none", "loss.adversarial=relativistic", "optim.accumulate=2"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[TrainingServer]:
    with TrainingServer() as server:
        yield server


@pytest.mark.parametrize("preset", PRESETS)
def test_thirty_kills_of_a_preset(server: TrainingServer, data: dict[int, Path], tmp_path: Path, preset: str) -> None:
    prepared = data[128 if preset == "legacy" else 64]
    _check(server, prepared, tmp_path, preset, [*CONFIG, *PRESETS[preset]], preset, kills=30)


@pytest.mark.parametrize("name", LATENTS)
def test_kills_of_a_latent_module(server: TrainingServer, data: dict[int, Path], tmp_path: Path, name: str) -> None:
    _check(server, data[64], tmp_path, "quickstart", [*CONFIG, *LATENTS[name]], name, kills=6)


def _check(
    server: TrainingServer, data: Path, folder: Path, preset: str, config: list[str], seed: str, *, kills: int
) -> None:
    """Run once through, then repeatedly with up to four kills a run until ``kills`` were made; compare each."""
    whole = folder / "whole"
    assert server.train(data, whole, preset, config) == 0
    calls, seconds = server.calls, server.seconds
    draws, made, run = random.Random(seed), 0, 0
    kinds: dict[str, int] = {}
    while made < kills:
        killed = folder / f"killed{run}"
        run += 1
        for _ in range(4):
            kill = _drawn(draws, calls, seconds)
            code = server.train(data, killed, preset, config, kill)
            assert code in (0, KILLED), (kill, (folder / f"{killed.name}.txt").read_text()[-2000:])
            if code == 0:
                break
            made += 1
            kinds[kill.call or "time"] = kinds.get(kill.call or "time", 0) + 1
        assert server.train(data, killed, preset, config) == 0
        assert differences(whole, killed) == []
        steps = [line["step"] for line in log_lines(killed) if any(key.startswith("d64/") for key in line)]
        assert steps == list(range(1, STEPS + 1))
        assert not [path for path in killed.rglob("*") if ".partial-" in path.name]
    print(f"\n{seed}: {made} kills in {run} runs, all equal: {kinds}")


def _drawn(draws: random.Random, calls: dict[str, int], seconds: float) -> Kill:
    """A random time in the first two thirds of a run, or a random call in its first half."""
    if draws.random() < 0.5:
        return Kill(seconds=draws.uniform(0.2, 0.7) * seconds)
    call = draws.choice([call for call in CALLS if calls.get(call, 0) > 1])
    return Kill(call=call, number=draws.randint(1, max(calls[call] // 2, 1)), after=draws.random() < 0.5)
