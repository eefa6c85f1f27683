"""A prior tilted toward the images' scores: known densities, an unchanged generator, later commands, refusals."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stackgan.checkpoint import load_checkpoint
from stackgan.cli.main import main
from stackgan.config import LatentConfig
from stackgan.latent.priors import FlowPrior
from stackgan.networks.realism import RealismNetwork
from stackgan.pipeline import StackGANPipeline
from stackgan.training import tilt_prior as module
from stackgan.training.tilt_prior import Scores, _asymmetry, fit_tilted_flow, fit_value_network, mirror_axis
from tests.tiny import CAPTIONS, TINY, save_tiny_checkpoint

# --- in miniature: densities that are known ---


@pytest.mark.parametrize("family", ["realnvp", "glow"])
def test_a_linear_score_moves_the_mean(family: str) -> None:
    """V(z, c) = c₀ z₀: the tilted density is N((β c₀, 0, …), I), with a divergence of (β c₀)² / 2."""
    torch.manual_seed(0)
    prior = FlowPrior(4, 2, LatentConfig(dim=4, family=family, steps=3, hidden=32))

    def codes(count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 2), torch.ones(count, 1)

    fitted = fit_tilted_flow(prior, lambda z, c: c[:, 0] * z[:, 0], codes, strength=0.8, steps=500)
    for c0 in (-1.5, 0.5, 1.0):
        c = torch.tensor([[c0, 0.3]]).expand(4000, -1)
        distribution = fitted(c)
        z = distribution.sample()
        wanted = torch.tensor([0.8 * c0, 0, 0, 0])
        assert (z.mean(0) - wanted).abs().max() < 0.12 and (z.std(0) - 1).abs().max() < 0.12
        standard = -0.5 * (z.square().sum(1) + 4 * torch.log(torch.tensor(2 * torch.pi)))
        divergence = float((distribution.log_prob(z) - standard).mean())
        assert abs(divergence - (0.8 * c0) ** 2 / 2) < 0.06


def test_truncated_noise_is_tilted_from_its_own_density() -> None:
    """With ψ alone in the fit, V = z₀ moves N(0, ψ² I) by ψ² β."""
    torch.manual_seed(1)
    prior = FlowPrior(2, 1, LatentConfig(dim=2, family="realnvp", steps=2, hidden=16))

    def codes(count: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, 1), torch.full((count, 1), 0.5)

    fitted = fit_tilted_flow(prior, lambda z, c: z[:, 0], codes, strength=2.0, steps=400)
    z = fitted(torch.zeros(4000, 1)).sample(noise=0.5 * torch.randn(4000, 2))
    assert (z.mean(0) - torch.tensor([0.5, 0.0])).abs().max() < 0.05
    assert (z.std(0) - 0.5).abs().max() < 0.05


def test_both_sides_of_a_mirror_stay() -> None:
    """V = |z₀| + z₀ / 5 is nearly as good on both sides: the flow prefers one, with the axis the mean stays 0."""

    def codes(count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 1), torch.ones(count, 1)

    means = []
    for axis in (None, torch.tensor([1.0, 0, 0])):
        torch.manual_seed(0)
        prior = FlowPrior(3, 1, LatentConfig(dim=3, family="glow", steps=3, hidden=32))
        fitted = fit_tilted_flow(
            prior, lambda z, c: z[:, 0].abs() + z[:, 0] / 5, codes, strength=3.0, steps=400, axis=axis
        )
        z = fitted(torch.randn(4000, 1)).sample()
        means.append(float(z[:, 0].mean().abs()))
        assert z[:, 0].abs().mean() > 1.2, "of N(0, 1): 0.8"
    assert means[0] > 0.8 and means[1] < 0.15


def test_the_mirror_axis_is_the_direction_of_z_that_moves_the_object() -> None:
    """Images of a dark column whose place is z₁: its asymmetry changes sign with the mirror, and finds z₁."""
    torch.manual_seed(0)
    z = torch.randn(2000, 4)
    columns = torch.arange(32)
    distance = columns - (15.5 + 6 * z[:, 1:2].clamp(-2, 2))
    images = (1 - 2 * torch.exp(-((distance / 3) ** 2)))[:, None, None, :].expand(-1, 3, 32, -1)
    assert torch.allclose(_asymmetry(images.flip(3)), -_asymmetry(images), atol=1e-6)
    empty = torch.zeros(2000, 1)
    axis = mirror_axis(Scores(z, empty, empty[:, 0], z, _asymmetry(images)))
    assert abs(float(axis.norm()) - 1) < 1e-5 and axis[1].abs() > 0.97


def test_the_value_network_learns_values_and_gradients() -> None:
    def value(z: Tensor, c: Tensor) -> Tensor:
        return 3 + torch.sin(2 * z[:, 0]) * c[:, 1] + z[:, 1]

    torch.manual_seed(0)
    z, c = torch.randn(2000, 3, requires_grad=True), torch.randn(2000, 2)
    found = value(z, c)
    (gradient,) = torch.autograd.grad(found.sum(), z)
    network, correlation = fit_value_network(
        Scores(z.detach(), c, found.detach(), gradient, torch.zeros(2000, 2)), epochs=25
    )
    assert correlation > 0.95
    new_z, new_c = torch.randn(400, 3, requires_grad=True), torch.randn(400, 2)
    guess = network(new_z, new_c)
    assert (guess - value(new_z, new_c)).abs().mean() < 0.25
    (slope,) = torch.autograd.grad(guess.sum(), new_z)
    (true,) = torch.autograd.grad(value(new_z, new_c).sum(), new_z)
    assert torch.cosine_similarity(slope, true, dim=1).mean() > 0.9


# --- the command ---


@pytest.fixture(scope="module")
def chosen(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run's checkpoint with a realism network that is not fitted."""
    folder = tmp_path_factory.mktemp("chosen") / "checkpoint"
    pipe = StackGANPipeline.from_pretrained(finished_run / "checkpoint", device="cpu")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        pipe.realism = RealismNetwork(8).eval().requires_grad_(False)
    pipe.realism.head.weight.mul_(5)
    pipe.realism.agreement.fill_(1.0)
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tilted(chosen: Path, few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tilted") / "checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FLOW_STEPS", 150)
        patch.setattr(module, "EPOCHS", 30)
        assert main(arguments(chosen, few_birds, out)) == 0
    return out


def arguments(checkpoint: Path, data: Path, out: Path) -> list[str]:
    words = ["tilt-prior", "--checkpoint", str(checkpoint), "--data", str(data), "--out", str(out)]
    return [*words, "--images", "400", "--strength", "1", "--device", "cpu"]


def test_scores_rise_and_the_generator_is_kept(chosen: Path, tilted: Path) -> None:
    before, after = load_checkpoint(chosen), load_checkpoint(tilted)
    assert (after.config.latent.z, after.config.latent.context) == ("tilted", "caption")
    facts = after.facts.tilted_prior
    assert facts is not None and facts.score > facts.score_gaussian and facts.kl > 0
    assert "## Tilted prior" in (tilted / "README.md").read_text("utf-8")
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())
    assert {name.split(".")[0] for name in after.weights.keys() - before.weights.keys()} == {"prior"}


def test_images_are_the_same_alone_and_in_a_batch(tilted: Path, chosen: Path) -> None:
    pipe = StackGANPipeline.from_pretrained(tilted, device="cpu")
    batch = pipe(CAPTIONS[0], seeds=5, count=3, output_type="pt").images
    alone = [pipe(CAPTIONS[0], seeds=seed, output_type="pt").images[0] for seed in (5, 6, 7)]
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(batch, alone, strict=True))
    plain = StackGANPipeline.from_pretrained(chosen, device="cpu")(CAPTIONS[0], seeds=5, output_type="pt")
    assert not torch.equal(plain.images[0], batch[0])
    assert pipe.sample(3).images and pipe(CAPTIONS[0], seeds=1, best_of=4).seeds[0] in range(4, 8)


def test_later_commands(tilted: Path, few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit-prior", "--checkpoint", str(tilted), "--data", str(few_birds), "--steps", "2", "--device", "cpu"]
    assert main([*fit, "--out", str(tmp_path / "fitted")]) == 0
    kept, old = (load_checkpoint(folder).weights for folder in (tmp_path / "fitted", tilted))
    names = [name for name in old if name.startswith("prior.")]
    assert names and all(torch.equal(kept[name], old[name]) for name in names)
    capsys.readouterr()
    assert main([*fit, "--out", str(tmp_path / "other"), "latent.family=nsf"]) == 2
    assert "then use tilt-prior" in capsys.readouterr().err

    train = ["train", "--data", str(few_birds), "--run", str(tmp_path / "run"), "--device", "cpu", "train.images=8"]
    assert main([*train[:-1], "--start-from", str(tilted), train[-1]]) == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config.latent.z == "gaussian"
    anew = ["train", "--data", str(few_birds), "--run", str(tmp_path / "anew"), "--device", "cpu"]
    capsys.readouterr()
    assert main([*anew, "--preset", "quickstart", *TINY, "latent.z=tilted"]) == 2
    error = capsys.readouterr().err
    assert "stackgan tilt-prior" in error and "latent.z=gaussian" in error


def test_a_tilted_prior_is_replaced(
    tilted: Path, few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "FLOW_STEPS", 2)
    monkeypatch.setattr(module, "EPOCHS", 1)
    capsys.readouterr()
    assert main([*arguments(tilted, few_birds, tmp_path / "again"), "--strength", "2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    facts = load_checkpoint(tilted).facts.tilted_prior
    assert facts is not None and figures["score_gaussian"] == facts.score_gaussian, "against N(0, I) again"
    text = (tmp_path / "again" / "README.md").read_text("utf-8")
    assert text.count("## Tilted prior") == 1 and "β = 2 " in text


def test_unusable_checkpoints_and_arguments_are_refused(
    chosen: Path, few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae = save_tiny_checkpoint(tmp_path / "vae", latent=["latent.z=vae"])
    cases = [
        ([*arguments(chosen, few_birds, tmp_path / "x"), "--images", "3"], "16 images or more"),
        ([*arguments(chosen, few_birds, tmp_path / "x"), "--strength", "0"], "more than 0"),
        ([*arguments(chosen, few_birds, tmp_path / "x"), "--strength", "nan"], "more than 0"),
        (arguments(vae, few_birds, tmp_path / "x"), "has a posterior"),
        (arguments(save_tiny_checkpoint(tmp_path / "plain"), few_birds, tmp_path / "x"), "stackgan fit-realism"),
        (arguments(save_tiny_checkpoint(tmp_path / "no", text=False), few_birds, tmp_path / "x"), "a text encoder"),
        (arguments(chosen, tmp_path / "nowhere", tmp_path / "x"), "nowhere"),
    ]
    for words, message in cases:
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "x").exists()


def test_it_cannot_be_averaged(
    tilted: Path, few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["average", str(tilted), str(tilted), "--data", str(few_birds), "--out", str(tmp_path / "mean")]
    assert main(words) == 2 and "average first" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_is_refused_before_the_work(
    chosen: Path,
    finished_run: Path,
    few_birds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run has a config.json, too: it is not replaced by a checkpoint, by any command that writes one."""
    monkeypatch.setattr(StackGANPipeline, "from_pretrained", None)  # not reached
    notes, file = tmp_path / "notes", tmp_path / "file"
    notes.mkdir()
    (notes / "note.txt").write_text("mine")
    file.write_text("mine")
    data = ["--data", str(few_birds)]
    for out in (finished_run, notes, file, file / "below"):
        for words in (
            ["tilt-prior", "--checkpoint", str(chosen), *data, "--out", str(out)],
            ["fit-prior", "--checkpoint", str(chosen), *data, "--out", str(out)],
            ["fit-realism", "--checkpoint", str(chosen), *data, "--out", str(out)],
            ["average", str(chosen), str(chosen), *data, "--out", str(out)],
            ["publish", str(chosen), str(out)],
        ):
            assert main(words) == 2
            error = capsys.readouterr().err
            assert ("is not replaced" in error or "cannot be created" in error) and error.count("\n") == 1, error
    assert (finished_run / "state.pt").is_file() and (notes / "note.txt").is_file() and file.read_text() == "mine"
