"""`stackgan publish`: a run's result as a checkpoint for distribution, for generation and further training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stackgan.checkpoint import load_checkpoint
from stackgan.cli.main import main
from stackgan.io.run_state import load_state
from stackgan.pipeline import StackGANPipeline
from tests.evaluation.conftest import untrained_networks  # noqa: F401 (a fixture)


def test_half_the_size_and_the_same_images(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red bird\na blue bird\n", "utf-8")
    out = tmp_path / "released"
    use = ["publish", str(finished_run / "checkpoint"), str(out), "--truncation", "0.6", "--captions", str(captions)]
    assert main(use) == 0
    assert capsys.readouterr().out.startswith(f"checkpoint in {out}, ")
    assert {t.dtype for t in load_file(out / "model.safetensors").values() if t.is_floating_point()} == {torch.half}
    assert not (out / "discriminators.safetensors").exists()

    before, after = (StackGANPipeline.from_pretrained(folder) for folder in (finished_run / "checkpoint", out))
    assert (before.truncation, after.truncation) == (1, 0.6)
    assert after.examples == ["a red bird", "a blue bird"]
    assert after.facts.trained == before.facts.trained
    painted = [np.stack(pipe(["a red bird"] * 4, seeds=range(4)).images).astype(float) for pipe in (before, after)]
    assert np.abs(painted[0] - painted[1]).mean() < 1


def test_values_beyond_half_precision_stay_in_float32(finished_run: Path, tmp_path: Path) -> None:
    """Variances of features grow in a long run: cast to infinity, they made images colourless."""
    pipe = StackGANPipeline.from_pretrained(finished_run / "checkpoint")
    name = next(name for name in pipe.model.state_dict() if name.endswith("heads.0.norm.norm.running_var"))
    pipe.model.state_dict()[name].fill_(1e6)
    pipe.save_pretrained(tmp_path / "full")
    assert main(["publish", str(tmp_path / "full"), str(tmp_path / "half")]) == 0
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {key for key, t in stored.items() if t.dtype == torch.float32} == {name}
    assert stored[name].eq(1e6).all()


def test_a_card_and_its_images_stay(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "released"
    assert main(["publish", str(finished_run / "checkpoint"), str(out)]) == 0
    assert (out / "README.md").read_text("utf-8") == (finished_run / "checkpoint" / "README.md").read_text("utf-8")
    (out / "README.md").write_text("# my birds\n", "utf-8")
    (out / "samples.png").write_bytes(b"a picture")
    (out / "more").mkdir()
    (out / "more" / "sheet.png").write_bytes(b"another")
    (out / "discriminators.safetensors").write_bytes(b"of another run")
    assert main(["publish", str(finished_run / "checkpoint"), str(out), "--full"]) == 0
    assert (out / "README.md").read_text("utf-8") == "# my birds\n"
    assert (out / "samples.png").read_bytes() == b"a picture"
    assert (out / "more" / "sheet.png").read_bytes() == b"another"
    assert not (out / "discriminators.safetensors").exists()
    ours, theirs = load_checkpoint(out).weights, load_checkpoint(finished_run / "checkpoint").weights
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_others_train_on_from_it(
    finished_run: Path, few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The discriminators are included, also with a fitted prior, and initialise a new run."""
    out, fitted, further = tmp_path / "released", tmp_path / "fitted", tmp_path / "further"
    assert main(["publish", str(finished_run / "checkpoint"), str(out), "--discriminators", str(finished_run)]) == 0
    fit = ["fit-prior", "--checkpoint", str(out), "--data", str(few_birds), "--out", str(fitted)]
    assert main([*fit, "--steps", "2"]) == 0
    capsys.readouterr()
    still = ["optim.lr_generator=1e-30", "optim.lr_discriminator=1e-30", "train.images=8", "latent.c=gaussian"]
    use = ["train", "--data", str(few_birds), "--run", str(further), "--start-from", str(fitted), *still]
    assert main([*use, "--device", "cpu"]) == 0
    assert "newly initialised: nothing" in capsys.readouterr().out
    given, taken = load_state(finished_run / "state.pt"), load_state(further / "state.pt")
    for name, tensor in given["discriminators"].items():
        torch.testing.assert_close(taken["discriminators"][name], tensor, atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("untrained_networks")
def test_the_figures_of_a_report_go_into_the_card(
    finished_run: Path,
    few_birds: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, report, out = finished_run / "checkpoint", tmp_path / "report", tmp_path / "out"
    assert (
        main(
            [
                "evaluate",
                "--checkpoint",
                str(checkpoint),
                "--data",
                str(few_birds),
                "--num",
                "12",
                "--out",
                str(report),
            ]
        )
        == 0
    )
    assert main(["publish", str(checkpoint), str(out), "--report", str(report)]) == 0
    during, after = load_checkpoint(out).facts.measured
    assert during.protocol.startswith("Measured during training, after 16 images")
    assert after.protocol.startswith("By `stackgan evaluate` (stackgan ") and ": 12 images of 64 px" in after.protocol
    assert after.figures == json.loads((report / "report.json").read_text("utf-8"))["headlines"] != {}
    card = (out / "README.md").read_text("utf-8")
    assert all(f"| {name} | {value} |" in card for name, value in (*during.figures.items(), *after.figures.items()))
    (out / "README.md").write_text("# my birds\n", "utf-8")
    assert main(["publish", str(checkpoint), str(out), "--report", str(report)]) == 0
    assert (out / "README.md").read_text("utf-8").startswith("# my birds\n\n## Measured\n\nMeasured during")
    capsys.readouterr()
    cases = [
        (out, report, "is about the checkpoint"),
        (checkpoint, tmp_path / "none", "no such report; `stackgan evaluate --out"),
        (checkpoint, tmp_path, "cannot be read as a report"),
    ]
    (tmp_path / "report.json").write_text("{}", "utf-8")
    for about, folder, message in cases:
        assert main(["publish", str(about), str(tmp_path / "other"), "--report", str(folder)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_published_is_reported(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", "utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not lose me", "utf-8")
    checkpoint, out = finished_run / "checkpoint", tmp_path / "out"
    cases = [
        ((tmp_path / "none", out), "no checkpoint found"),
        ((finished_run, out), "not a checkpoint"),
        ((checkpoint, tmp_path / "mine"), "not a checkpoint, so it is not replaced"),
        ((checkpoint, out, "--truncation", "3"), "out of range"),
        ((checkpoint, out, "--captions", empty), "holds no captions"),
        ((checkpoint, out, "--captions", tmp_path / "none.txt"), "none.txt"),
        ((checkpoint, out, "--discriminators", checkpoint), "name the run folder"),
    ]
    for arguments, message in cases:
        assert main(["publish", *map(str, arguments)]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert not out.exists() and (tmp_path / "mine" / "thesis.txt").is_file()
