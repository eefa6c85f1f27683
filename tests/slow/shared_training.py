"""Trainings by several processes: equal to one process, resumed by another number, killed and stopped under torchrun.

Not collected by default, as it takes minutes: ``python -m pytest tests/slow/shared_training.py -s``.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stackgan.io.run_state import load_state
from tests.ranks import Ranks
from tests.slow.kills import LATENTS, PRESETS
from tests.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
CONFIG = [
    *TINY, f"train.images={8 * STEPS}", "optim.batch_size=8", "train.minutes=0", "train.log_steps=1",
    "train.save_minutes=1e-7", "train.sample_minutes=0.05", "eval.every=0.05",
]  # fmt: skip


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Ranks() as server:
        yield server


# --- twenty steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", ["modern, 16 images", "legacy", "vae"])
def test_twenty_steps_of_one_two_and_four_processes(ranks: Ranks, tmp_path: Path, name: str, precision: str) -> None:
    """Float64 shows that steps are equal; in float32, Adam's step of a gradient near 0 depends on its rounding."""
    arguments = (str(tmp_path), "20", precision, name)
    for count in (1, 2, 4):
        codes = ranks(count, "tests.training.shared_steps:steps", *arguments, output=tmp_path / f"{count}")
        assert codes == [0] * count, (tmp_path / f"{count}.0").read_text()[-2000:]
    one, *others = (torch.load(tmp_path / f"{count}.pt")[name] for count in (1, 2, 4))
    for count, other in zip((2, 4), others, strict=True):
        assert one.keys() == other.keys() and torch.equal(one["rng"], other["rng"])
        losses, weights = (_difference(one, other, prefix) for prefix in ("scalars.", "model."))
        print(f"\n{name}, {precision}, {count} processes, 20 steps: losses {losses:.1e}, weights {weights:.1e}")
        assert max(losses, weights) < (1e-7 if precision == "float64" else 0.05)


def _difference(one: dict[str, Tensor], other: dict[str, Tensor], prefix: str) -> float:
    """‖difference‖ / ‖value‖ of all tensors with that prefix together."""
    names = [name for name in one if name.startswith(prefix) and one[name].is_floating_point()]
    a, b = (torch.cat([values[name].double().flatten() for name in names]) for values in (one, other))
    return float((a - b).norm() / a.norm())


# --- resumed by other numbers of processes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PRESETS, *LATENTS])
def test_any_number_of_processes_resumes(ranks: Ranks, data: dict[int, Path], tmp_path: Path, name: str) -> None:
    preset, extra = (name, PRESETS[name]) if name in PRESETS else ("quickstart", LATENTS[name])
    prepared = data[128 if preset == "legacy" else 64]
    words = ("--data", str(prepared), "--preset", preset, *CONFIG, *extra, "optim.precision=fp32")

    def train(count: int, run: Path, *more: str) -> set[int]:
        job = "tests.training.shared_steps:training"
        return set(ranks(count, job, str(run), "none", *words, *more, output=run))

    whole, run, draws = tmp_path / "whole", tmp_path / "run", random.Random(name)
    assert train(1, whole) == {0}
    counts = [2, 1, *(draws.choice((1, 2)) for _ in range(3)), 2]
    for count in counts:
        assert train(count, run, "--stop-after", "1e-9") == {3}, Path(f"{run}.{count - 1}").read_text()[-2000:]
    assert train(1, run) == {0}
    states = [load_state(folder / "state.pt") for folder in (whole, run)]
    assert torch.equal(states[0]["rng"], states[1]["rng"])
    differences = [_difference(states[0][part], states[1][part], "") for part in ("model", "discriminators")]
    print(f"\n{name}: one step each by {', '.join(map(str, counts))} processes, then one: {max(differences):.1e}")
    assert max(differences) < 1e-7


def test_all_processes_go_back_to_the_same_state(ranks: Ranks, data: dict[int, Path], tmp_path: Path) -> None:
    words = ("--data", str(data[64]), "--preset", "quickstart", *CONFIG, "train.rollback=1", "optim.precision=fp32")
    states = []
    for count, event in ((1, "0:5:NAN"), (2, "1:5:NAN")):
        run = tmp_path / f"{count}"
        codes = ranks(count, "tests.training.shared_steps:training", str(run), event, *words, output=run)
        assert codes == [0] * count, Path(f"{run}.{count - 1}").read_text()[-2000:]
        assert "back at step 4 with 0.5 of the learning rates" in Path(f"{run}.0").read_text()
        states.append(load_state(run / "state.pt"))
    difference = max(_difference(states[0][part], states[1][part], "") for part in ("model", "discriminators"))
    print(f"\nloss of one of two processes not finite: all went back to the same state: {difference:.1e}")
    assert difference < 1e-7


# --- under torchrun -----------------------------------------------------------------------------------------------


def _torchrun(data: Path, run: Path, *words: str, count: int = 2) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command = [
        *launcher,
        "-m",
        "--",
        "stackgan",
        "train",
        "--data",
        str(data),
        "--run",
        str(run),
        "--preset",
        "quickstart",
    ]
    return subprocess.Popen(
        [*command, "--device", "cpu", *CONFIG, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


LONG = "train.images=80000"


def _step(run: Path) -> int:
    return int(load_state(run / "state.pt")["progress"]["step"])


def _wait_for_state(run: Path, job: subprocess.Popen[str]) -> None:
    while not (run / "checkpoint" / "config.json").is_file():
        assert job.poll() is None, job.communicate()[0][-3000:]
        time.sleep(0.05)


def _workers(job: subprocess.Popen[str]) -> list[int]:
    """Process ids by rank."""
    found = {}
    for child in map(int, Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()):
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(entry[5:]): child for entry in environment if entry.startswith(b"RANK=")}
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("killed", [0, 1, 0, 1])
def test_a_killed_process_ends_the_job(data: dict[int, Path], tmp_path: Path, killed: int) -> None:
    run = tmp_path / "run"
    job = _torchrun(data[64], run, LONG)
    _wait_for_state(run, job)
    time.sleep(random.random())
    began = time.monotonic()
    os.kill(_workers(job)[killed], signal.SIGKILL)
    printed = job.communicate(timeout=60)[0]
    took, kept = time.monotonic() - began, _step(run)
    assert job.returncode == 1 and "Signal 9 (SIGKILL) received by PID" in printed
    again = _torchrun(data[64], run, LONG, "--stop-after", "1e-9")
    assert f"resuming at step {kept}" in again.communicate()[0]
    words = "another process of this job ended or does not answer" in printed
    print(
        f"\nprocess {killed} of 2 killed: the job ended after {took:.1f} s, step {kept} kept; said in words: {words}"
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_torchrun_saves_the_state(data: dict[int, Path], tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    job = _torchrun(data[64], run, LONG, "train.save_minutes=60", "train.rollback=1")
    while not (run / "log.jsonl").is_file() or not (run / "log.jsonl").read_bytes():
        assert job.poll() is None, job.communicate()[0][-3000:]
        time.sleep(0.05)
    began = time.monotonic()
    job.send_signal(signal.Signals[name])
    printed = job.communicate(timeout=60)[0]
    assert f"stopped and saved at step {_step(run)}" in printed and _step(run) > 0, printed[-3000:]
    print(f"\n{name} to torchrun: all stopped at step {_step(run)} after {time.monotonic() - began:.1f} s")
