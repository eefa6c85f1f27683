"""`stackgan publish`: a run's result as a checkpoint to pass on, which others can paint with and train on from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_prep.painted import prepare_painted
from stackgan.checkpoint import load_published, load_state
from stackgan.cli import main
from stackgan.config import preset
from stackgan.pipeline import StackGANPipeline
from stackgan.train import train
from tests.test_train import TINY  # the same small networks


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "painted"
    prepare_painted(folder, count=24, seed=5, test_count=12, workers=1)
    return folder


@pytest.fixture(scope="module")
def run(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "run"
    assert train(painted, folder, preset("quickstart", [*TINY, "train.images=16"]), device="cpu") == 0
    return folder


def test_half_the_size_and_the_same_pictures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red bird\na blue bird\n", "utf-8")
    out = tmp_path / "released"
    use = ["publish", str(run / "checkpoint"), str(out), "--truncation", "0.6", "--captions", str(captions)]
    assert main(use) == 0
    assert capsys.readouterr().out.startswith(f"checkpoint in {out}, ")
    assert {t.dtype for t in load_file(out / "model.safetensors").values() if t.is_floating_point()} == {torch.half}
    assert not (out / "discriminators.safetensors").exists()

    before, after = (StackGANPipeline.from_pretrained(folder) for folder in (run / "checkpoint", out))
    assert (before.truncation, after.truncation) == (1, 0.6)
    assert after.facts["examples"] == ["a red bird", "a blue bird"]
    assert after.facts["trained"] == before.facts["trained"]
    painted = [np.stack(pipe(["a red bird"] * 4, seeds=range(4)).images).astype(float) for pipe in (before, after)]
    assert np.abs(painted[0] - painted[1]).mean() < 1


def test_a_card_and_its_pictures_stay(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "released"
    assert main(["publish", str(run / "checkpoint"), str(out)]) == 0
    assert (out / "README.md").read_text("utf-8") == (run / "checkpoint" / "README.md").read_text("utf-8")
    (out / "README.md").write_text("# my birds\n", "utf-8")
    (out / "samples.png").write_bytes(b"a picture")
    (out / "more").mkdir()
    (out / "more" / "sheet.png").write_bytes(b"another")
    (out / "discriminators.safetensors").write_bytes(b"of another run")
    assert main(["publish", str(run / "checkpoint"), str(out), "--full"]) == 0
    assert (out / "README.md").read_text("utf-8") == "# my birds\n"
    assert (out / "samples.png").read_bytes() == b"a picture"
    assert (out / "more" / "sheet.png").read_bytes() == b"another"
    assert not (out / "discriminators.safetensors").exists()
    ours, theirs = load_published(out).weights, load_published(run / "checkpoint").weights
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_others_train_on_from_it(
    run: Path, painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The discriminators come along, through a fitted prior too, and a new run begins with them."""
    out, fitted, further = tmp_path / "released", tmp_path / "fitted", tmp_path / "further"
    assert main(["publish", str(run / "checkpoint"), str(out), "--discriminators", str(run)]) == 0
    fit = ["train", "--fit-prior", "--checkpoint", str(out), "--data", str(painted), "--out", str(fitted)]
    assert main([*fit, "--steps", "2"]) == 0
    capsys.readouterr()
    still = ["optim.lr_generator=1e-30", "optim.lr_discriminator=1e-30", "train.images=8", "latent.c=gaussian"]
    use = ["train", "--data", str(painted), "--run", str(further), "--start-from", str(fitted), *still]
    assert main([*use, "--device", "cpu"]) == 0
    assert "new here: nothing" in capsys.readouterr().out
    given, taken = load_state(run / "state.pt"), load_state(further / "state.pt")
    for name, tensor in given["discriminators"].items():
        torch.testing.assert_close(taken["discriminators"][name], tensor, atol=1e-3, rtol=1e-3)


def test_what_cannot_be_published_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", "utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not lose me", "utf-8")
    checkpoint, out = run / "checkpoint", tmp_path / "out"
    cases = [
        ((tmp_path / "none", out), "no such checkpoint"),
        ((run, out), "not a published checkpoint"),
        ((checkpoint, tmp_path / "mine"), "not a checkpoint, so it is left alone"),
        ((checkpoint, out, "--truncation", "3"), "out of range"),
        ((checkpoint, out, "--captions", empty), "holds no caption"),
        ((checkpoint, out, "--captions", tmp_path / "none.txt"), "none.txt"),
        ((checkpoint, out, "--discriminators", checkpoint), "name the run folder"),
    ]
    for arguments, message in cases:
        assert main(["publish", *map(str, arguments)]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert not out.exists() and (tmp_path / "mine" / "thesis.txt").is_file()
