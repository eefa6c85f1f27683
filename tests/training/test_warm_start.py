"""Initialisation from another run's weights: copied weights, new weights, rejected configurations."""

from pathlib import Path

import pytest
import torch

from stackgan.checkpoint import load_checkpoint
from stackgan.cli.main import main
from stackgan.io.run_state import load_state
from stackgan.training.state import Run


def _start(few_birds: Path, run: Path, source: Path, *more: str) -> int:
    use = ["train", "--data", str(few_birds), "--run", str(run), "--start-from", str(source), "--device", "cpu"]
    return main([*use, *more])


def test_a_run_takes_over_what_fits_and_adds_a_latent_module(
    few_birds: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    # Learning rate 0: copied weights stay unchanged.
    still = ["optim.lr_generator=1e-30", "optim.lr_discriminator=1e-30", "train.images=8"]
    assert _start(few_birds, run, finished_run, "latent.z=flow", *still) == 0
    assert "newly initialised: posterior, prior" in capsys.readouterr().out
    before, after = load_state(finished_run / "state.pt"), load_state(run / "state.pt")
    for ours, theirs in (("model", "average"), ("average", "average"), ("discriminators", "discriminators")):
        for name, tensor in before[theirs].items():
            if "running_" not in name and "batches" not in name:  # statistics change with every batch
                torch.testing.assert_close(after[ours][name], tensor)
    assert {name.split(".")[0] for name in after["model"].keys() - before["model"].keys()} == {"posterior", "prior"}
    own, given = (folder / "text" / "model.safetensors" for folder in (run, finished_run))
    assert own.read_bytes() == given.read_bytes()
    checkpoint = load_checkpoint(run / "checkpoint")
    assert checkpoint.config.latent.z == "flow" and checkpoint.facts.started_from.images == 16

    still[-1] = "train.images=16"
    assert _start(few_birds, run, finished_run, "latent.z=flow", *still) == 0  # the same command resumes
    assert "resuming at step 2" in capsys.readouterr().out


def test_a_checkpoint_is_a_start_too(
    few_birds: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _start(few_birds, tmp_path / "run", finished_run / "checkpoint", "train.images=8") == 0
    said = capsys.readouterr().out
    assert "newly initialised: discriminators" in said and "try optim.discriminator_first" in said
    assert load_checkpoint(tmp_path / "run" / "checkpoint").facts.started_from.images == 16


def test_new_discriminators_are_trained_first(few_birds: Path, finished_run: Path, tmp_path: Path) -> None:
    """G is unchanged for the configured number of images while D is trained; then both are trained."""
    run, alone = tmp_path / "run", "optim.discriminator_first=16"
    assert _start(few_birds, run, finished_run / "checkpoint", alone, "train.images=16") == 0
    weights, state = load_checkpoint(finished_run / "checkpoint").weights, load_state(run / "state.pt")
    for copy in ("model", "average"):
        for name, tensor in weights.items():
            if "running_" not in name and "batches" not in name:
                assert torch.equal(state[copy][name], tensor), (copy, name)
    fresh = Run.start(load_checkpoint(run / "checkpoint").config, torch.device("cpu")).discriminators.state_dict()
    moved = [name for name, tensor in fresh.items() if not torch.equal(state["discriminators"][name], tensor)]
    assert any(name.endswith("weight") for name in moved)

    assert _start(few_birds, run, finished_run / "checkpoint", alone, "train.images=24") == 0
    after = load_state(run / "state.pt")
    for copy in ("model", "average"):
        assert not torch.equal(after[copy]["ca_net.linear.weight"], state[copy]["ca_net.linear.weight"])


def test_what_does_not_fit_is_reported(
    few_birds: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        ((finished_run, "generator.width=8"), "keep the widths"),
        ((finished_run, "--preset", "quickstart"), "not --preset"),
        ((tmp_path / "none",), "none"),
        ((finished_run, "nosuch.key=1"), "unknown config key"),
    ]
    for i, (arguments, message) in enumerate(cases):
        assert _start(few_birds, tmp_path / f"run{i}", *arguments) == 2, arguments  # type: ignore[arg-type]
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "state.pt").write_bytes(b"no")
    (tmp_path / "bad" / "config.json").write_text("{")
    assert _start(few_birds, tmp_path / "run", tmp_path / "bad") == 2
    assert "not valid JSON" in capsys.readouterr().err
