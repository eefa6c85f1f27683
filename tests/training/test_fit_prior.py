"""Flow priors fitted to a finished checkpoint: unchanged generator, higher likelihood, rejected arguments."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stackgan.checkpoint import load_checkpoint
from stackgan.cli.main import main
from stackgan.config import preset
from stackgan.latent.flows import FAMILIES
from stackgan.pipeline import StackGANPipeline
from stackgan.training.fit_prior import _new_config
from stackgan.training.loop import train
from tests.tiny import TINY

CAPTIONS = ["a red bird with black wings", "a small yellow bird"]


@pytest.fixture(scope="module")
def checkpoint(few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a short training run with a posterior."""
    run = tmp_path_factory.mktemp("vae") / "run"
    config = preset("quickstart", [*TINY, "latent.z=vae", "train.images=16"])
    assert train(few_birds, run, config, device="cpu") == 0
    return run / "checkpoint"


@pytest.mark.parametrize("family", FAMILIES)
def test_fitting_a_prior_keeps_the_generator(checkpoint: Path, few_birds: Path, tmp_path: Path, family: str) -> None:
    out = tmp_path / "fitted"
    arguments = ["fit-prior", "--checkpoint", str(checkpoint), "--data", str(few_birds)]
    arguments += ["--out", str(out), "--steps", "30", "--device", "cpu", f"latent.family={family}", "latent.steps=2"]
    assert main(arguments) == 0
    before, after = load_checkpoint(checkpoint), load_checkpoint(out)
    assert after.config.latent.z == after.config.latent.c == "flow" and after.config.latent.family == family
    shared = [name for name in before.weights if not name.startswith(("prior.", "code_prior."))]
    assert any(name.startswith("generator.") for name in shared)
    assert all(torch.equal(before.weights[name], after.weights[name]) for name in shared)
    figures = after.facts.fitted_prior
    for slot in (figures.z, figures.c):
        assert slot.nats_per_dimension_flow < slot.nats_per_dimension_gaussian + 0.05
    pipe = StackGANPipeline.from_pretrained(out, device="cpu")
    assert len(pipe(CAPTIONS, seeds=[1, 2]).images) == 2 and pipe.caption_log_prob(CAPTIONS)[0].share is not None
    assert "Fitted priors" in (out / "README.md").read_text()


def test_a_checkpoint_of_recorded_steps_takes_a_flow_too() -> None:
    """Training with CUDA graphs rejects latent.c=flow; fitting afterwards is possible."""
    fitted = _new_config(preset("modern", ["optim.cuda_graphs=true"]), [])
    assert fitted.latent.c == "flow" and not fitted.optim.cuda_graphs


def test_a_fitted_flow_finds_the_density_of_styles() -> None:
    """Styles that depend nonlinearly on the code: the flow's likelihood is far above N(0, I), near the true one."""
    from stackgan.latent.distributions import DiagonalGaussian
    from stackgan.latent.flows import flow
    from stackgan.training.fit_prior import _fit

    torch.manual_seed(0)
    c = torch.randn(4000, 2)
    mu = torch.stack((c[:, 0] + 2, torch.sin(2 * c[:, 0]) + c[:, 1]), 1)
    q = DiagonalGaussian(mu, torch.full_like(mu, -3.0))
    report = _fit(flow("glow", 2, 2, steps=4, hidden=32), q, c, 800, "test")
    exact = 0.5 * (1 + np.log(2 * np.pi) - 3.0)
    assert report["nats_per_dimension_flow"] < exact + 0.15
    assert report["nats_per_dimension_gaussian"] > exact + 1


def test_refusals_of_fit_prior(
    checkpoint: Path, few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["fit-prior", "--data", str(few_birds), "--device", "cpu", "--steps", "2"]
    full = [*base, "--checkpoint", str(checkpoint), "--out", str(tmp_path / "x")]
    cases = [
        (base, "the following arguments are required: --checkpoint, --out"),
        ([*full, "--stop-after", "9"], "unrecognized arguments: --stop-after"),
        ([*full, "generator.width=9"], "only latent.* may be changed"),
        ([*full, "latent.dim=9"], "cannot be changed"),
        ([*full, "latent.family=nsd"], "latent.family"),
        (["train", "--data", str(few_birds)], "--run is missing"),
        (["train", "--data", str(few_birds), "--run", "r", "--out", "x"], "unrecognized arguments: --out"),
    ]
    for arguments, message in cases:
        try:
            code: object = main(arguments)
        except SystemExit as stop:  # refused by the parser
            code = stop.code
        assert code == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
