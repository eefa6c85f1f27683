"""`stackgan pack` and `unpack`: arguments, round trips, and runs that are resumed on another machine."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from stackgan.cli.main import main
from stackgan.config import preset
from stackgan.io.run_state import load_state, save_state
from stackgan.training.state import RandomState, Run
from tests.folders import content_of, fill
from tests.tiny import TINY


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "painted"
    command = ["prepare", "painted", folder, "--count", "16", "--test-count", "8", "--seed", "1", "--workers", "1"]
    assert main([str(word) for word in command]) == 0
    return folder


def _run(*words: object) -> int:
    return main([str(word) for word in words])


def _training(data: Path, run: Path, images: int, *words: object) -> list[object]:
    keys = [*TINY, "optim.precision=fp32", f"train.images={images}"]
    return ["train", "--data", data, "--run", run, "--preset", "quickstart", "--device", "cpu", *words, *keys]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pack", "gone", "p"], "gone: no such folder to pack"),
        (["pack", "f", "p", "--limit", "0"], "--limit 0: the size of a piece in MiB must be above 0"),
        (["pack", "f", "p", "--limit", "nan"], "--limit nan: "),
        (["pack", "f", "p", "--limit", "1e-9"], "limit 0: it must be 1 byte or more"),
        (["pack", "f", "p", "--only", "b"], "f: has no 'b' at its top level; it has a"),
        (["pack", "f", "p", "--only", ""], "f: has no '' at its top level; it has a"),
        (["unpack", "p", "back"], "p/manifest.json: missing; "),
        (["train", "--data", "d", "--run", "r", "--stop-after", "0"], "--stop-after 0: the minutes must be above 0"),
        (["train", "--data", "d", "--run", "r", "--stop-after", "nan"], "--stop-after nan: the minutes must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    fill(tmp_path / "f", {"a": 10})
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stackgan: {said}") and error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_the_whole_way(painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prepare here, train there in several calls, generate here."""
    here, there = tmp_path / "here", tmp_path / "there"
    assert _run("pack", painted, here / "data", "--limit", 0.1) == 0
    said = capsys.readouterr().out
    count = len(list((here / "data").glob("piece-*")))
    assert count > 2 and said.startswith(f"{count} pieces in {here / 'data'}, ") and f": {count} written" in said
    shutil.copytree(here / "data", there / "data.pieces")  # the transfer
    assert _run("unpack", there / "data.pieces", there / "data") == 0
    assert content_of(there / "data") == content_of(painted)

    codes = []
    while (code := _run(*_training(there / "data", there / "run", 12, "--stop-after", 1e-6))) == 3:
        codes.append(code)
        assert "time limit reached: saved at step" in capsys.readouterr().out
    assert code == 0 and len(codes) == 2  # one step per call; the third is the last of the run
    assert _run("pack", there / "run", there / "back", "--only", "checkpoint", "--limit", 0.05) == 0
    assert all(file.stat().st_size <= 0.05 * 2**20 for file in (there / "back").glob("piece-*"))
    assert _run("unpack", there / "back", here / "run") == 0
    command = ["--checkpoint", here / "run" / "checkpoint", "--seeds", "0", "--device", "cpu", "--out", here / "out"]
    assert _run("generate", "a red bird", *command) == 0
    assert len(list((here / "out").glob("*.png"))) == 1


AUGMENT = "augment.policy=translation"  # draws from torch's generator, whose state is saved between calls


@pytest.fixture(scope="module")
def whole(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps in one call."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert _run(*_training(painted, run, 16), AUGMENT) == 0
    return run


def test_a_run_continues_elsewhere_to_the_same_bits(painted: Path, whole: Path, tmp_path: Path) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    assert _run(*_training(painted, home / "run", 8), AUGMENT) == 0
    assert _run("pack", home / "run", tmp_path / "pieces", "--limit", 0.1) == 0
    assert _run("unpack", tmp_path / "pieces", away / "run") == 0
    assert content_of(away / "run") == content_of(home / "run")
    assert _run("pack", painted, tmp_path / "data.pieces") == 0
    assert _run("unpack", tmp_path / "data.pieces", away / "data") == 0
    shutil.rmtree(home)
    assert _run(*_training(away / "data", away / "run", 16), AUGMENT) == 0
    _check_equal(away / "run", whole)


def test_a_run_cut_into_calls_equals_one_that_ran_through(painted: Path, whole: Path, tmp_path: Path) -> None:
    calls = [_training(painted, tmp_path / "cut", 16, "--stop-after", minutes) for minutes in (1e-6, 1e-6, 60)]
    assert [_run(*words, AUGMENT) for words in calls] == [3, 3, 0]
    _check_equal(tmp_path / "cut", whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_continues_with_its_own_noise(tmp_path: Path) -> None:
    run = Run.start(preset("quickstart", [*TINY, "text.dim=12"]), torch.device("cuda"))
    torch.randn(3, device="cuda")
    save_state(tmp_path / "state.pt", run.state(RandomState.now(run.device)))
    noise = torch.randn(5, device="cuda")
    run.restore(load_state(tmp_path / "state.pt"), tmp_path / "state.pt")
    assert torch.equal(torch.randn(5, device="cuda"), noise)


def _check_equal(one: Path, two: Path) -> None:
    states = [load_state(run / "state.pt") for run in (one, two)]
    assert states[0]["progress"]["step"] == states[1]["progress"]["step"] == 4
    for part in ("model", "average", "discriminators"):
        for name, tensor in states[0][part].items():
            assert torch.equal(tensor, states[1][part][name]), f"{part}.{name}"
    assert torch.equal(states[0]["rng"], states[1]["rng"])
    weights = [(run / "checkpoint" / "model.safetensors").read_bytes() for run in (one, two)]
    assert weights[0] == weights[1]


def test_evaluations_come_at_their_minutes_whatever_the_calls(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 30 s and an evaluation per minute, in one call and in calls of one step."""

    class Clock:
        def __init__(self) -> None:
            self.now = 0.0

        def perf_counter(self) -> float:
            self.now += 30
            return self.now

        monotonic = perf_counter

    monkeypatch.setattr("stackgan.training.outputs.quick_figures", lambda *_: {"pyramid_distance": 1.0})
    found = []
    for minutes in (1e9, 1e-6):
        run = tmp_path / f"{minutes}"
        monkeypatch.setattr("stackgan.training.loop.time", Clock())
        words = _training(painted, run, 16, "--stop-after", minutes)
        while _run(*words, "eval.every=1", "train.log_steps=1000") == 3:
            pass
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        found.append([line["step"] for line in lines if "eval/pyramid_distance" in line])
    assert found[0] == found[1] == [2, 4]
