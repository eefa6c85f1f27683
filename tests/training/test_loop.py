"""Training: steps, short runs, resuming, interruption, rejected arguments."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stackgan.config import Config, preset
from stackgan.data.format import Record
from stackgan.data.writer import PreparedWriter
from stackgan.io.run_state import load_state, save_state
from stackgan.latent.flows import FAMILIES
from stackgan.model import has_posterior
from stackgan.pipeline import StackGANPipeline
from stackgan.training.loop import train
from stackgan.training.state import Run
from stackgan.training.step import train_step
from tests.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]


def _config(*overrides: str, name: str = "quickstart") -> Config:
    return preset(name, [*TINY, *overrides])


# --- steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["loss.mismatch=photo", "loss.adversarial=bce", "augment.policy=brightness,translation,cutout"],
        ["discriminator.condition=code", "optim.precision=fp32", "loss.penalty_power=6"],
        ["discriminator.unconditional=false"],
        ["tree.stages=2", "loss.colour=5.0"],
        ["loss.adversarial=relativistic", "loss.penalty_fakes=true", "loss.penalty_every=1"],
        ["loss.adversarial=relativistic", "text.encoder=none", "optim.accumulate=2"],
        ["discriminator.match=1.0"],
        ["discriminator.match=1.0", "loss.mismatch=photo", "tree.stages=2"],
        ["text.encoder=none"],
        ["latent.c=flow", "loss.diversity=1.0"],
        ["latent.z=vae", "latent.warm_up=0", "tree.stages=2"],
        ["latent.z=vae", "latent.warm_up=0", "latent.prior=learned", "text.encoder=none"],
        *(["latent.z=flow", "latent.warm_up=0", "latent.steps=2", f"latent.family={name}"] for name in FAMILIES),
    ],
    ids=lambda o: ",".join(o) or "quickstart",
)
def test_a_step_moves_everything_that_learns(overrides: list[str]) -> None:
    _check_step(_config("text.dim=12", *overrides))


def test_a_legacy_step_moves_everything_that_learns() -> None:
    _check_step(_config("text.dim=12", "tree.stages=2", "generator.width=8", name="legacy"))


def _check_step(config: Config) -> None:
    from stackgan.data.sampler import Batch

    torch.manual_seed(0)
    run = Run.start(config, torch.device("cpu"))
    size, count = config.tree.sizes[-1], config.optim.batch_size

    def pictures() -> torch.Tensor:
        return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)

    text = config.text.conditional
    batch = Batch(
        pictures(),
        torch.randn(count, 12) if text else None,
        wrong=pictures() if text and config.loss.mismatch == "photo" else None,
        wrong_embedding=torch.randn(count, 12) if text and config.loss.mismatch == "caption" else None,
    )
    before = {f"m.{k}": v.clone() for k, v in run.model.named_parameters()}
    before |= {f"d.{k}": v.clone() for k, v in run.discriminators.named_parameters()}
    for _ in range(2):  # networks whose last layer is initialised to zero change from the second step on
        scalars = train_step(run, batch)
    assert all(torch.isfinite(value) for value in scalars.values())
    if config.loss.penalty:
        assert any(name.endswith("penalty") for name in scalars)
    assert has_posterior(config) == ("vae/active_units" in scalars)
    after = {f"m.{k}": v for k, v in run.model.named_parameters()}
    after |= {f"d.{k}": v for k, v in run.discriminators.named_parameters()}
    # within the margins, the gradients of hinge with respect to a logit's bias cancel
    still = [name for name in before if torch.equal(before[name], after[name]) and "logit.bias" not in name]
    assert not still, f"did not move: {still}"
    assert all(p.requires_grad for p in run.discriminators.parameters())
    moved = [
        n for (n, a), b in zip(run.ema.named_parameters(), run.model.parameters(), strict=True) if torch.equal(a, b)
    ]
    assert len(moved) < len(before), "the average is a module of its own"


# --- runs ---------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_it_promises_and_resumes(
    few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackgan.captions.word_statistics.FEWEST", 100)
    monkeypatch.setattr("stackgan.captions.word_statistics.FRAGMENTS", 50)
    run = tmp_path / "run"
    assert train(few_birds, run, _config("train.images=16"), device="cpu") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[: printed.index("\n}\n") + 2])["text"]["dim"] == 12, "the resolved config is printed"
    assert json.loads((run / "config.json").read_text())["optim"]["batch_size"] == 4
    sheet = Image.open(run / "samples" / "0000000016.png")
    assert np.asarray(sheet).std() > 5
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 4] and "eval/diversity" in lines[-1]
    assert "d64/loss" in lines[0] and "g/kl" in lines[0]
    assert any(run.glob("tensorboard/events*"))
    pipe = StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    assert pipe(["a red bird"], seeds=[1]).images[0].size == (64, 64)
    assert len(pipe.examples) == 6
    assert pipe.statistics is not None and pipe.statistics.captions == 160

    assert train(few_birds, run, _config("train.images=32"), device="cpu") == 0
    assert "resuming at step 4" in capsys.readouterr().out
    state = load_state(run / "state.pt")
    assert state["progress"]["step"] == 8 and state["progress"]["images"] == 32


def test_a_resumed_run_equals_one_that_ran_through(few_birds: Path, tmp_path: Path) -> None:
    halves, whole = tmp_path / "halves", tmp_path / "whole"
    config = ["optim.precision=fp32", "augment.policy=translation"]
    train(few_birds, halves, _config("train.images=12", *config), device="cpu")
    train(few_birds, halves, _config("train.images=24", *config), device="cpu")
    train(few_birds, whole, _config("train.images=24", *config), device="cpu")
    one, two = load_state(halves / "state.pt"), load_state(whole / "state.pt")
    for part in ("model", "average", "discriminators"):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, two[part][name]), f"{part}.{name}"


def test_a_run_that_writes_after_every_step_equals_one_that_does_not(few_birds: Path, tmp_path: Path) -> None:
    """Sheets, states, checkpoints and evaluations do not change the state of the random generators."""
    config = ["optim.precision=fp32", "augment.policy=translation", "train.images=12"]
    always = [
        "train.save_minutes=0.0000001",
        "train.sample_minutes=0.0000001",
        "eval.every=0.0000001",
        "eval.count=10",
    ]
    train(few_birds, tmp_path / "quiet", _config(*config), device="cpu")
    train(few_birds, tmp_path / "writing", _config(*config, *always), device="cpu")
    assert len(list((tmp_path / "writing" / "samples").iterdir())) == 3
    quiet, writing = (load_state(tmp_path / name / "state.pt") for name in ("quiet", "writing"))
    assert torch.equal(quiet["rng"], writing["rng"])
    for part in ("model", "discriminators"):
        assert all(torch.equal(tensor, writing[part][name]) for name, tensor in quiet[part].items())


def test_a_state_of_other_networks_is_refused_in_words(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(few_birds, run, _config("train.images=4"), device="cpu")
    state = load_state(run / "state.pt")
    name = next(iter(state["discriminators"]))
    state["discriminators"]["another.weight"] = state["discriminators"].pop(name)
    save_state(run / "state.pt", state)
    with pytest.raises(ValueError, match=r"state\.pt: what was saved as 'discriminators' .* --start-from"):
        train(few_birds, run, _config("train.images=8"), device="cpu")


def test_contrast_encodes_generated_images(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(few_birds, run, _config("train.images=8", "loss.contrast=1.0"), device="cpu") == 0
    assert "g/contrast" in json.loads((run / "log.jsonl").read_text().splitlines()[0])
    with pytest.raises(ValueError, match=r"loss\.contrast is 1\.0 and text\.encoder 'none'"):
        train(few_birds, tmp_path / "other", _config("loss.contrast=1.0", "text.encoder=none"), device="cpu")


def test_small_evaluations_are_logged_and_the_best_average_is_kept(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([3.0, 2.0, 5.0, 4.0])
    monkeypatch.setattr(
        "stackgan.training.outputs.quick_figures", lambda *_: {"pyramid_distance": next(found), "diversity": 0.5}
    )
    run = tmp_path / "run"
    keys = ["eval.every=0.0000001", "train.log_steps=1"]
    assert train(few_birds, run, _config("train.images=12", *keys), device="cpu") == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    told = [(line["step"], line["eval/pyramid_distance"]) for line in lines if "eval/pyramid_distance" in line]
    assert told == [(1, 3.0), (2, 2.0), (3, 5.0)]
    assert json.loads((run / "best" / "config.json").read_text())["trained"]["steps"] == 2
    assert json.loads((run / "checkpoint" / "config.json").read_text())["trained"]["steps"] == 3
    train(few_birds, run, _config("train.images=16", *keys), device="cpu")  # resumed: 4.0 is not below 2.0
    assert json.loads((run / "best" / "config.json").read_text())["trained"]["steps"] == 2


def test_a_small_evaluation_measures_the_average(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    keys = ["train.images=8", "eval.every=0.0000001", "eval.count=10"]
    assert train(few_birds, run, _config(*keys), device="cpu") == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum("eval/pyramid_distance" in line and line["eval/pyramid_distance"] > 0 for line in lines) == 2


def test_a_complete_run_is_measured_for_its_card(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(few_birds, run, _config("train.images=16"), device="cpu", stop_after=0) == 3
    assert "## Measured\n\nNothing was measured." in (run / "checkpoint" / "README.md").read_text("utf-8")
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "images": 8, "eval/pyr\n')  # cut by an interruption
    assert train(few_birds, run, _config("train.images=16"), device="cpu") == 0
    line = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    pipe = StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    (measured,) = pipe.facts.measured
    assert measured.figures["pyramid distance"] == f"{line['eval/pyramid_distance']:.3f}"
    assert measured.figures.keys() == {"pyramid distance", "diversity", "caption agreement"}
    assert "after 16 images" in measured.protocol
    assert f"| pyramid distance | {measured.figures['pyramid distance']} |" in pipe.card
    assert not (run / "best").exists(), "with eval.every alone"


def test_rates_fall_with_images_and_towards_the_end() -> None:
    keys = ["text.dim=12", "optim.decay_images=100", "optim.decay_from=0.5", "train.images=1000"]
    run = Run.start(_config(*keys), torch.device("cpu"))
    rates = []
    for images in (100, 400, 750, 1000):
        run.progress.images = images
        run.set_learning_rates()
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in run.optimizers.values()])
    g, d = run.config.optim.lr_generator, run.config.optim.lr_discriminator
    shares = [1, 0.5, (1 - 0.95 / 2) * (100 / 750) ** 0.5, 0.05 * 0.1**0.5]
    assert rates == [[pytest.approx(share * g), pytest.approx(share * d)] for share in shares]


def test_unconditional_training_is_the_same_loop(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(few_birds, run, _config("train.images=8", "text.encoder=none"), device="cpu") == 0
    pipe = StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    assert not pipe.conditional and len(pipe(seeds=range(3)).images) == 3
    with pytest.raises(ValueError, match="without text"):
        pipe(["a bird"], seeds=[0])


def test_dry_run_prints_and_writes_nothing(
    few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(few_birds, tmp_path / "run", _config(), dry_run=True) == 0
    assert json.loads(capsys.readouterr().out)["preset"] == "quickstart"
    assert not (tmp_path / "run").exists()


def test_a_run_refuses_other_settings_and_other_sizes(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(few_birds, run, _config("train.images=4"), device="cpu")
    with pytest.raises(ValueError, match=r"optim\.lr_generator=0\.0004, now it is 0\.001"):
        train(few_birds, run, _config("train.images=8", "optim.lr_generator=0.001"), device="cpu")
    with pytest.raises(ValueError, match="prepared for 64 px, the finest stage is 128 px"):
        train(few_birds, tmp_path / "other", _config("tree.stages=2"), device="cpu")
    assert not (tmp_path / "other").exists()


def test_a_run_continues_under_newer_keys_and_in_other_ways_of_the_same_step(few_birds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(few_birds, run, _config("train.images=4"), device="cpu")
    before = json.loads((run / "config.json").read_text())
    for key in ("accumulate", "checkpointing", "compile"):
        del before["optim"][key]
    (run / "config.json").write_text(json.dumps(before))
    assert train(few_birds, run, _config("train.images=8", "optim.checkpointing=true"), device="cpu") == 0
    with pytest.raises(ValueError, match=r"optim\.accumulate=1, now it is 2"):
        train(few_birds, run, _config("train.images=12", "optim.accumulate=2"), device="cpu")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_continues(
    few_birds: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "stackgan", "train", "--data", str(few_birds), "--run", str(run)]
    keys = [*TINY, "text.encoder=none"]
    command += ["--preset", "quickstart", "--device", "cpu", *keys, "train.images=100000000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stderr is not None
        while b"D=" not in process.stderr.read1():  # the progress bar shows a loss: the loop is running
            assert process.poll() is None
        process.send_signal(number)
        process.stderr.read()
        assert process.wait() == 130
    before = load_state(run / "state.pt")["progress"]
    assert before["step"] > 0
    StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    config = preset("quickstart", [*keys, f"train.images={before['images'] + 8}"])
    assert train(few_birds, run, config, device="cpu") == 0
    assert load_state(run / "state.pt")["progress"]["step"] == before["step"] + 2


def test_not_a_number_stops_with_words_and_keeps_the_state(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(few_birds, run, _config("train.images=8"), device="cpu")
    good = (run / "state.pt").read_bytes()
    monkeypatch.setattr(
        "stackgan.training.step.discriminator_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(ValueError, match=r"step 4: .* became nan"):
        train(few_birds, run, _config("train.images=80"), device="cpu")
    assert (run / "state.pt").read_bytes() == good


def test_training_learns_the_colour_of_a_caption(tmp_path: Path) -> None:
    """A short training on uniform red and blue images; the EMA generates the colour of the caption."""
    folder = tmp_path / "plain"
    rng = np.random.default_rng(0)
    with PreparedWriter(folder, kind="folder", size=64, crop="none", source={}) as writer:
        for i in range(64):
            red = i % 2 == 0
            image = np.full((76, 76, 3), (200, 30, 30) if red else (30, 30, 200), np.uint8)
            image = (image + rng.integers(-20, 20, (1, 1, 3))).clip(0, 255).astype(np.uint8)
            writer.add("train", image, Record(f"{i}", ("a red picture" if red else "a blue picture",), "rb"[i % 2]))
    run = tmp_path / "run"
    config = _config(
        "train.images=640", "compact.steps=20", "compact.batch_size=16", "optim.precision=fp32",
        "optim.lr_generator=4e-3", "optim.lr_discriminator=4e-3", "optim.average=0.9", "train.log_steps=20",
    )  # fmt: skip
    train(folder, run, config, device="cpu")
    pipe = StackGANPipeline.from_pretrained(run / "checkpoint", device="cpu")
    for caption, channel in (("a red picture", 0), ("a blue picture", 2)):
        colours = np.stack([np.asarray(i).mean((0, 1)) for i in pipe([caption], seeds=range(4)).images])
        assert (colours[:, channel] > colours[:, 2 - channel] + 60).all(), (caption, colours)
