"""Faults during training: full disks, damaged states, divergence, two trainings in one folder, moved runs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stackgan.config import Config, preset
from stackgan.io.archive import pack, unpack
from stackgan.io.folder_lock import LOCK, folder_lock
from stackgan.io.run_state import load_state
from stackgan.pipeline import StackGANPipeline
from stackgan.training import loop
from stackgan.training.loop import train
from stackgan.training.state import Run
from tests.killing import TrainingServer, differences, log_lines
from tests.limits import largest_file
from tests.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
EACH_STEP = ["train.log_steps=1", "train.save_minutes=1e-7"]


def _config(*overrides: str) -> Config:
    return preset("quickstart", [*TINY, "train.minutes=0", "text.encoder=none", *overrides])


def _steps(run: Path) -> list[int]:
    return [line["step"] for line in log_lines(run) if "d64/loss" in line]


@pytest.fixture(scope="module")
def whole(few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
    return run


def _stopped(data: Path, run: Path, steps: int, *overrides: str) -> None:
    """Train the first steps of ``whole``, one step a call."""
    for _ in range(steps):
        config = _config("train.images=24", *EACH_STEP, *overrides)
        assert train(data, run, config, device="cpu", stop_after=0) == 3


# --- states ---------------------------------------------------------------------------------------------------


def test_a_torn_state_costs_the_steps_of_one_save(
    few_birds: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _stopped(few_birds, run, 3)
    content = (run / "state.pt").read_bytes()
    (run / "state.pt").write_bytes(content[: len(content) // 2])
    (run / ".state.pt.partial-77").write_bytes(content[:1000])
    capsys.readouterr()
    assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
    printed = capsys.readouterr().out
    assert "state.pt: unreadable run state" in printed and "resuming at step" in printed
    assert "removed what an interrupted save left: .state.pt.partial-77" in printed
    assert differences(whole, run) == [] and _steps(run) == [1, 2, 3, 4, 5, 6]
    assert not list(run.glob(".state*"))


def test_steps_after_the_restored_one_are_logged_once(few_birds: Path, whole: Path, tmp_path: Path) -> None:
    """As after a kill between a log line and the save: the state is older than the log."""
    run = tmp_path / "run"
    _stopped(few_birds, run, 2)
    older = (run / "state.pt").read_bytes()
    _stopped(few_birds, run, 2)
    (run / "state.pt").write_bytes(older)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "ima')
    assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
    assert _steps(run) == [1, 2, 3, 4, 5, 6] and differences(whole, run) == []
    assert _tensorboard_steps(run) == [1, 2, 3, 4, 5, 6]


def _tensorboard_steps(run: Path) -> list[int]:
    """Steps of a scalar as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["samples"]
    return [event.step for event in events.Scalars("d64/loss")]


def test_runs_of_one_process_never_share_an_event_file(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fast machines start a run and resume it within one second."""
    run = tmp_path / "run"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    for count in range(1, 4):
        _stopped(few_birds, run, 1)
        assert len(list((run / "tensorboard").iterdir())) == count


def test_a_complete_run_is_not_evaluated_again(few_birds: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
    assert log_lines(run) == log_lines(whole)


# --- full disks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[TrainingServer]:
    with TrainingServer() as server:
        yield server


def test_a_full_disk_is_one_sentence_and_the_state_is_kept(
    few_birds: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _stopped(few_birds, run, 2)
    state = (run / "state.pt").read_bytes()
    limit = len(state) // 2  # configuration and log fit, the state does not
    capsys.readouterr()
    for policy, step in (("stop", 3), ("continue", 6)):
        config = _config("train.images=24", *EACH_STEP, f"train.on_full_disk={policy}")
        message = rf"step {step}: the state could not be written .*File too large\); the state of step 2 is kept"
        with largest_file(limit), pytest.raises(ValueError, match=message):
            train(few_birds, run, config, device="cpu")
        lines = [line for line in capsys.readouterr().err.splitlines() if "could not be written" in line]
        assert len(lines) == (policy == "continue") and all("training goes on" in line for line in lines)
        assert (run / "state.pt").read_bytes() == state
        assert not list(run.rglob("*partial*"))
    assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
    assert differences(whole, run) == [] and _steps(run) == [1, 2, 3, 4, 5, 6]


def test_training_saves_again_once_there_is_space(
    few_birds: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    full = largest_file(100)

    def step(run: Run, batch: Any) -> dict[str, Tensor]:
        if run.progress.step == 2:
            full.__enter__()
        if run.progress.step == 4:
            full.__exit__(None, None, None)
        return original(run, batch)

    original = loop.train_step
    monkeypatch.setattr(loop, "train_step", step)
    assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
    printed = capsys.readouterr().err
    assert printed.count("could not be written") == 1 and "the state of step 2 is kept" in printed
    assert "step 5: the state was saved again" in printed
    assert differences(whole, run) == [] and _steps(run) == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB, which root can mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_is_full(few_birds: Path, small_disk: Path, server: TrainingServer) -> None:
    """A whole command on a real full disk; its output is on that disk too."""
    run = small_disk / "run"
    keys = [*TINY, "train.minutes=0", "text.encoder=none", *EACH_STEP, "train.images=8"]
    assert server.train(few_birds, run, "quickstart", keys) == 0
    with (small_disk / "other").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(2**14))
    command = [sys.executable, "-m", "stackgan", "train", "--data", str(few_birds), "--run", str(run)]
    command += ["--preset", "quickstart", "--device", "cpu", *keys, "train.images=16"]
    with (small_disk / "out.txt").open("wb") as out:
        code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)
    assert code.returncode == 2 and "Traceback" not in code.stderr
    assert code.stderr.strip().splitlines()[-1].startswith("stackgan: "), code.stderr
    assert "No space left on device" in code.stderr
    assert load_state(run / "state.pt")["progress"]["step"] == 2
    StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    (small_disk / "other").unlink()
    assert server.train(few_birds, run, "quickstart", [*keys, "train.images=16"]) == 0
    assert load_state(run / "state.pt")["progress"]["step"] == 4 and _steps(run) == [1, 2, 3, 4]


# --- one at a time --------------------------------------------------------------------------------------------


def test_a_second_training_is_refused(few_birds: Path, whole: Path, tmp_path: Path, server: TrainingServer) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    names = sorted(file.name for file in run.iterdir())
    keys = [*TINY, "train.minutes=0", "text.encoder=none", *EACH_STEP, "train.images=48"]
    with folder_lock(run):
        assert server.train(few_birds, run, "quickstart", keys) == 2
        assert {name: (run / name).read_bytes() for name in before} == before
        assert sorted(file.name for file in run.iterdir() if file.name != LOCK) == names
    printed = (tmp_path / "run.txt").read_text()
    assert f"process {os.getpid()} on {socket.gethostname()}" in printed and printed.count("\n") == 1


def test_a_run_moved_while_it_was_trained_goes_on(
    few_birds: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, copied, unpacked = tmp_path / "here", tmp_path / "copied", tmp_path / "unpacked"
    _stopped(few_birds, here, 2)
    with folder_lock(here):
        shutil.copytree(here, copied)
        pack(here, tmp_path / "pieces")
    unpack(tmp_path / "pieces", unpacked)
    holder = json.loads((copied / LOCK).read_text())
    (copied / LOCK).write_text(json.dumps(holder | {"host": "elsewhere"}))
    for run, expected in ((copied, True), (unpacked, False)):
        capsys.readouterr()
        assert train(few_birds, run, _config("train.images=24", *EACH_STEP), device="cpu") == 0
        assert ("on elsewhere" in capsys.readouterr().out) == expected
        assert differences(whole, run) == []


# --- divergence -----------------------------------------------------------------------------------------------


def _diverging(monkeypatch: pytest.MonkeyPatch, change: Callable[[Run, dict[str, Tensor]], None], times: int) -> None:
    """Change what the fifth step returns or does, as often as ``times`` rollbacks."""
    original = loop.train_step

    def step(run: Run, batch: Any) -> dict[str, Tensor]:
        scalars = original(run, batch)
        if run.progress.step == 4 and run.progress.rollbacks < times:
            change(run, scalars)
        return scalars

    monkeypatch.setattr(loop, "train_step", step)


def _nan_loss(run: Run, scalars: dict[str, Tensor]) -> None:
    scalars["d64/loss"] = torch.tensor(float("nan"))


def _large_loss(run: Run, scalars: dict[str, Tensor]) -> None:
    scalars["d64/loss"] = torch.tensor(1e9)


def _infinite_weight(run: Run, scalars: dict[str, Tensor]) -> None:
    with torch.no_grad():
        next(run.discriminators.parameters()).fill_(float("inf"))


@pytest.mark.parametrize(
    ("change", "named"),
    [(_nan_loss, "d64/loss became nan"), (_large_loss, "d64/loss became 1e+09"), (_infinite_weight, "not finite")],
)
def test_a_run_that_diverges_goes_back_with_lower_rates(
    few_birds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Run, dict[str, Tensor]], None],
    named: str,
) -> None:
    _diverging(monkeypatch, change, times=2)
    run, keys = tmp_path / "run", ["train.images=24", *EACH_STEP, "train.rollback=3"]
    assert train(few_birds, run, _config(*keys), device="cpu") == 0
    state = load_state(run / "state.pt")
    assert state["progress"]["step"] == 6 and state["progress"]["rollbacks"] == 2
    usual = preset("quickstart").optim.lr_generator
    assert state["optimizers"]["generator"]["param_groups"][0]["lr"] < 0.26 * usual
    assert _steps(run) == [1, 2, 3, 4, 5, 6] and _tensorboard_steps(run) == [1, 2, 3, 4, 5, 6]
    told = [line for line in log_lines(run) if "rollback" in line]
    assert [line["rollback"] for line in told] == [1, 2] and all(named in line["failure"] for line in told)
    printed = capsys.readouterr().err
    assert "step 5: " in printed and "back at step 4 with 0.25 of the learning rates (rollback 2 of 3)" in printed


def test_resuming_includes_the_rollbacks(few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _diverging(monkeypatch, _infinite_weight, times=2)
    run, parts, keys = tmp_path / "run", tmp_path / "parts", ["train.images=24", *EACH_STEP, "train.rollback=3"]
    assert train(few_birds, run, _config(*keys), device="cpu") == 0
    while train(few_birds, parts, _config(*keys), device="cpu", stop_after=0) == 3:
        pass
    assert differences(run, parts) == []


def test_a_first_save_is_there_to_go_back_to(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _diverging(monkeypatch, _nan_loss, times=1)
    run = tmp_path / "run"
    keys = ["train.images=24", "train.log_steps=1", "train.save_minutes=100", "train.rollback=1"]
    assert train(few_birds, run, _config(*keys), device="cpu") == 0
    assert _steps(run) == [1, 2, 3, 4, 5, 6]
    assert load_state(run / "state.pt")["progress"]["rollbacks"] == 1


def test_after_the_last_rollback_the_run_ends_in_words(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _diverging(monkeypatch, _nan_loss, times=9)
    keys = ["train.images=24", *EACH_STEP]
    for allowed, after in ((0, ":"), (2, " after 2 rollbacks:")):
        run = tmp_path / f"run{allowed}"
        with pytest.raises(
            ValueError, match=rf"^step 5: d64/loss became nan{after} the last saved state is kept; try"
        ):
            train(few_birds, run, _config(*keys, f"train.rollback={allowed}"), device="cpu")
        assert load_state(run / "state.pt")["progress"]["step"] == 4
