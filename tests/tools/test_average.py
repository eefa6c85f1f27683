"""`stackgan average`: the mean of one run's moments."""

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
def moments(finished_run: Path, few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints of one run, the second after twice the pictures."""
    run = tmp_path_factory.mktemp("moments") / "run"
    shutil.copytree(finished_run, run)
    (run / "config.json").unlink()
    first = shutil.copytree(finished_run / "checkpoint", run / "first")
    assert train(few_birds, run, preset("quickstart", [*TINY, "train.images=32"]), device="cpu") == 0
    second = shutil.copytree(run / "checkpoint", run / "second")
    return [first, second]


def _use(moments: list[Path], data: Path, out: Path) -> list[str]:
    return ["average", *map(str, moments), "--data", str(data), "--out", str(out), "--device", "cpu"]


def test_weights_are_the_mean_statistics_are_measured(moments: list[Path], few_birds: Path, tmp_path: Path) -> None:
    assert main(_use(moments, few_birds, tmp_path / "mean")) == 0
    a, b, mean = (load_checkpoint(folder).weights for folder in (*moments, tmp_path / "mean"))
    measured = {name for name in mean if "running_" in name}
    for name in mean.keys() - measured:
        if mean[name].is_floating_point():
            torch.testing.assert_close(mean[name], (a[name] + b[name]) / 2)
    assert measured and any(not torch.allclose(mean[name], (a[name] + b[name]) / 2) for name in measured)
    facts = load_checkpoint(tmp_path / "mean").facts
    assert [moment.images for moment in facts.averaged] == [16, 32] and facts.trained.images == 32
    StackGANPipeline.from_pretrained(tmp_path / "mean", device="cpu")(["a red bird"], seeds=[0])


def test_a_checkpoint_averaged_with_itself_is_itself(moments: list[Path], few_birds: Path, tmp_path: Path) -> None:
    assert main(_use([moments[0], moments[0]], few_birds, tmp_path / "same")) == 0
    a, same = load_checkpoint(moments[0]).weights, load_checkpoint(tmp_path / "same").weights
    assert all(torch.equal(a[name], same[name]) for name in a if "running_" not in name and "batches" not in name)


def test_what_cannot_be_averaged_is_said(
    moments: list[Path], few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, fitted = (shutil.copytree(moments[1], tmp_path / name) for name in ("other", "fitted"))
    change_header(other, lambda header: header["config"]["text"].update(reword=0.5))
    change_header(fitted, lambda header: header.update(fitted_prior={}))
    for checkpoints, words in (
        (moments[:1], "needs two or more"),
        ([moments[0], other], "only checkpoints of one run"),
        ([moments[0], fitted], "average first"),
        ([moments[0], tmp_path / "none"], "no such checkpoint"),
    ):
        assert main(_use(checkpoints, few_birds, tmp_path / "out")) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
