"""Several processes that share each batch: equal to one process with the whole batch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stackgan.io.run_state import load_state
from tests.killing import log_lines
from tests.ranks import Ranks
from tests.tiny import TINY
from tests.training.shared_steps import CASES

EQUAL = 1e-9  # of the largest entry, in float64
NOUGHT = 1e-6  # learning rates are about 1e-3: where a gradient is zero up to rounding, Adam divides by its epsilon


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Ranks() as server:
        yield server


@pytest.fixture(scope="module")
def ends(ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What the cases end with after two steps, by one and by two processes."""
    folder = tmp_path_factory.mktemp("shared")
    for count in (1, 2):
        codes = ranks(
            count, "tests.training.shared_steps:steps", str(folder), "2", "float64", output=folder / f"{count}"
        )
        assert codes == [0] * count, (folder / f"{count}.0").read_text()
    return [torch.load(folder / f"{count}.pt") for count in (1, 2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(name: str, ends: list[dict[str, dict[str, Tensor]]]) -> None:
    one, two = (end[name] for end in ends)
    assert one.keys() == two.keys()
    assert torch.equal(one["rng"], two["rng"])
    _check_equal(one, two)


# --- whole trainings ------------------------------------------------------------------------------------------

STEPS = 3
CONFIG = [
    *TINY, f"train.images={4 * STEPS}", "train.minutes=0", "train.log_steps=1", "train.save_minutes=1e-7",
    "eval.every=1", "optim.precision=fp32", "optim.standing=8",
]  # fmt: skip
ONE_STEP = ["--stop-after", "1e-9"]


@pytest.fixture(scope="module")
def train(ranks: Ranks, few_birds: Path) -> Callable[..., list[int]]:
    """Train with so many processes; what process r prints is in RUN.r. Returns the exit codes."""

    def call(count: int, run: Path, *words: str, event: str = "none") -> list[int]:
        words = ("--data", str(few_birds), "--preset", "quickstart", *CONFIG, *words)
        return ranks(count, "tests.training.shared_steps:training", str(run), event, *words, output=run)

    return call


@pytest.fixture(scope="module")
def whole(train: Callable[..., list[int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    assert train(1, run) == [0], _printed(run, 0)
    return run


def test_a_run_of_two_one_and_two_processes_equals_one_of_one(
    train: Callable[..., list[int]], whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(2, run, *ONE_STEP) == [3, 3], _printed(run, 1)
    assert train(1, run, *ONE_STEP) == [3], _printed(run, 0)
    assert "resuming at step 1" in _printed(run, 0)
    assert train(2, run) == [0, 0], _printed(run, 1)  # 71: the second process changed a file
    assert "resuming at step 2" in _printed(run, 0) and _printed(run, 1) == ""
    _check_same_run(whole, run)
    assert {path.name for path in whole.iterdir()} == {path.name for path in run.iterdir()}


def test_a_signal_to_one_process_stops_all_at_the_same_step(train: Callable[..., list[int]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(2, run, "train.save_minutes=60", event="1:2:SIGTERM") == [130, 130], _printed(run, 1)
    assert "stopped and saved at step 2" in _printed(run, 0) and _step(run) == 2


def test_a_killed_process_ends_the_others_in_words(train: Callable[..., list[int]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(2, run, event="1:3:SIGKILL") == [2, -signal.SIGKILL]
    printed = _printed(run, 0)
    assert "another process of this job ended or does not answer" in printed and "Traceback" not in printed
    assert "the same command resumes" in printed and _step(run) == 2
    assert not (run / "train.lock").exists()


def test_an_error_of_the_first_process_is_printed_once(train: Callable[..., list[int]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.write_text("")
    assert train(2, run) == [2, 2]
    assert "cannot be created" in _printed(run, 0) and _printed(run, 1) == ""


def test_batches_that_cannot_be_shared_are_refused(train: Callable[..., list[int]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(2, run, "optim.batch_size=5") == [2, 2]
    assert "optim.batch_size is 5, of all processes together: it must be a multiple of 2" in _printed(run, 0)
    assert _printed(run, 1) == ""
    assert not run.exists()


def _printed(run: Path, process: int) -> str:
    return Path(f"{run}.{process}").read_text()


def _step(run: Path) -> int:
    return int(load_state(run / "state.pt")["progress"]["step"])


def _check_same_run(one: Path, two: Path) -> None:
    states = [_flat(load_state(run / "state.pt")) for run in (one, two)]
    assert torch.equal(states[0]["rng"], states[1]["rng"])
    _check_equal(*states)
    lines = [[line for line in log_lines(run) if "d64/loss" in line] for run in (one, two)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [1, 2, 3]
    for ours, theirs in zip(*lines, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(ours[key] == pytest.approx(theirs[key], abs=2e-5) for key in ours if key != "troubles")


def _flat(value: Any, name: str = "") -> dict[str, Tensor]:
    """The tensors of a state."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {k: v for key, part in items for k, v in _flat(part, f"{name}/{key}" if name else str(key)).items()}


def _check_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    """Equal up to the order of sums in float64, and up to what Adam makes of gradients that are zero."""
    assert one.keys() == two.keys()
    for key, expected in ((key, value.double()) for key, value in one.items()):
        limit = EQUAL * float(expected.abs().max()) + (NOUGHT if key.endswith("bias") else EQUAL)
        assert float((two[key].double() - expected).abs().max()) <= limit, key
