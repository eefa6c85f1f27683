"""`stackgan average`: the mean of checkpoints of one run."""

import shutil
from pathlib import Path

import pytest
import torch

from stackgan.checkpoint import load_checkpoint
from stackgan.cli.main import main
from stackgan.config import preset
from stackgan.pipeline import StackGANPipeline
from stackgan.training.loop import train
from tests.tiny import TINY, change_header


@pytest.fixture(scope="module")
def checkpoints(finished_run: Path, few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints of one run, the second after twice as many images."""
    run = tmp_path_factory.mktemp("checkpoints") / "run"
    shutil.copytree(finished_run, run)
    (run / "config.json").unlink()
    first = shutil.copytree(finished_run / "checkpoint", run / "first")
    assert train(few_birds, run, preset("quickstart", [*TINY, "train.images=32"]), device="cpu") == 0
    second = shutil.copytree(run / "checkpoint", run / "second")
    return [first, second]


@pytest.fixture(autouse=True)
def _few_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackgan.tools.average.IMAGES", 64)


def _use(checkpoints: list[Path], data: Path, out: Path) -> list[str]:
    return ["average", *map(str, checkpoints), "--data", str(data), "--out", str(out), "--device", "cpu"]


def test_weights_are_averaged_statistics_measured(checkpoints: list[Path], few_birds: Path, tmp_path: Path) -> None:
    assert main(_use(checkpoints, few_birds, tmp_path / "mean")) == 0
    a, b, mean = (load_checkpoint(folder).weights for folder in (*checkpoints, tmp_path / "mean"))
    measured = {name for name in mean if "running_" in name}
    for name in mean.keys() - measured:
        if mean[name].is_floating_point():
            torch.testing.assert_close(mean[name], (a[name] + b[name]) / 2)
    assert measured and any(not torch.allclose(mean[name], (a[name] + b[name]) / 2) for name in measured)
    facts = load_checkpoint(tmp_path / "mean").facts
    assert [each.images for each in facts.averaged] == [16, 32] and facts.trained.images == 32
    StackGANPipeline.from_pretrained(tmp_path / "mean", device="cpu")(["a red bird"], seeds=[0])


def test_the_mean_of_one_checkpoint_is_itself(checkpoints: list[Path], few_birds: Path, tmp_path: Path) -> None:
    assert main(_use([checkpoints[0], checkpoints[0]], few_birds, tmp_path / "same")) == 0
    a, same = load_checkpoint(checkpoints[0]).weights, load_checkpoint(tmp_path / "same").weights
    assert all(torch.equal(a[name], same[name]) for name in a if "running_" not in name and "batches" not in name)


def test_what_cannot_be_averaged_is_reported(
    checkpoints: list[Path], few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, fitted = (shutil.copytree(checkpoints[1], tmp_path / name) for name in ("other", "fitted"))
    change_header(other, lambda header: header["config"]["text"].update(reword=0.5))
    change_header(fitted, lambda header: header.update(fitted_prior={}))
    for folders, words in (
        (checkpoints[:1], "needs two or more"),
        ([checkpoints[0], other], "only checkpoints of one run"),
        ([checkpoints[0], fitted], "average first"),
        ([checkpoints[0], tmp_path / "none"], "no checkpoint found"),
    ):
        assert main(_use(folders, few_birds, tmp_path / "out")) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
