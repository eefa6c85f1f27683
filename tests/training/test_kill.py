"""A training that is killed and resumed equals one that ran through, bit for bit. More kills are in tests/slow."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.killing import KILLED, Kill, TrainingServer, differences, log_lines
from tests.tiny import TINY

OFTEN = ["train.save_minutes=1e-7", "train.sample_minutes=0.01", "eval.every=0.02", "train.minutes=0"]
STEPS = 8
CONFIG = [
    *TINY,
    *OFTEN,
    f"train.images={4 * STEPS}",
    "train.log_steps=1",
    "loss.contrast=1.0",
    "optim.precision=bf16",
]


@pytest.fixture(scope="module")
def server() -> Iterator[TrainingServer]:
    with TrainingServer() as server:
        yield server


def test_a_run_killed_three_times_equals_one_that_ran_through(
    server: TrainingServer, few_birds: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert server.train(few_birds, whole, "quickstart", CONFIG) == 0
    seconds, fsyncs = server.seconds, server.calls["os:fsync"]
    draws = random.Random(0)
    writes = server.calls["stackgan.io.run_state:_Hashed.write"] // STEPS
    kills = [
        Kill(call="stackgan.io.run_state:_Hashed.write", number=draws.randrange(writes, 3 * writes)),
        Kill(call="os:fsync", number=draws.randrange(fsyncs // 4, fsyncs // 2), after=True),
        Kill(seconds=seconds * 0.3),
    ]
    for kill in kills:
        assert server.train(few_birds, killed, "quickstart", CONFIG, kill) == KILLED, kill
    assert server.train(few_birds, killed, "quickstart", CONFIG) == 0
    assert differences(whole, killed) == []
    steps = [line["step"] for line in log_lines(killed) if "d64/loss" in line]
    assert steps == list(range(1, STEPS + 1))
    left = [path.name for path in killed.rglob("*") if ".partial-" in path.name or path.name == "train.lock"]
    assert left == []
