"""Uses of latent modules: editing photos, sampling without text, interpolation, densities of captions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stackgan.cli.main import main
from stackgan.config import preset
from stackgan.images.pixels import to_tensor
from stackgan.latent.sampling import slerp
from stackgan.model import StackGAN
from stackgan.pipeline import StackGANPipeline
from stackgan.training.loop import train
from tests.tiny import TINY

LATENTS = {
    "gaussian": [],
    "vae": ["latent.z=vae"],
    "learned": ["latent.z=vae", "latent.prior=learned"],
    "flow": ["latent.z=flow", "latent.c=flow", "latent.steps=2"],
    "caption": ["latent.z=flow", "latent.context=caption", "latent.steps=2"],
}
CAPTIONS = ["a red bird with black wings", "a small yellow bird"]


@pytest.fixture(scope="module")
def checkpoints(few_birds: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Short training runs with each latent module."""
    made = {}
    for name, overrides in LATENTS.items():
        run = tmp_path_factory.mktemp(name) / "run"
        config = preset("quickstart", [*TINY, *overrides, "train.images=16"])
        assert train(few_birds, run, config, device="cpu") == 0
        made[name] = run / "checkpoint"
    return made


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photo") / "photo.jpg"
    ramp = np.linspace(0, 255, 90 * 70 * 3).reshape(70, 90, 3).astype(np.uint8)
    Image.fromarray(ramp).save(file)
    return file


# --- the pipeline -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LATENTS)
def test_every_kind_generates_and_truncates_the_same_way(checkpoints: dict[str, Path], name: str) -> None:
    pipe = StackGANPipeline.from_pretrained(checkpoints[name], device="cpu")
    e = pipe.encode(CAPTIONS)
    one, two = pipe.generate(e, [1, 2])[-1], pipe.generate(e, [1, 2])[-1]
    assert torch.equal(one, two) and not torch.equal(one, pipe.generate(e, [3, 4])[-1])
    torch.testing.assert_close(one[1:], pipe.generate(e[1:], [2])[-1], rtol=1e-4, atol=1e-5)
    # Truncation scales the base space: 0 is independent of the seed and equals latent="mean".
    still = pipe.generate(e, [1, 2], 0.0)[-1]
    assert torch.equal(still, pipe.generate(e, [8, 9], 0.0)[-1])
    mean = pipe(CAPTIONS, seeds=[5, 6], latent="mean").images
    assert np.array_equal(np.asarray(mean[0]), np.asarray(pipe(CAPTIONS, seeds=[1, 2], truncation=0).images[0]))
    c, noise = pipe.model.condition(e).mu, torch.randn(2, pipe.config.latent.dim)
    p = pipe.model.prior(c)
    torch.testing.assert_close(p.sample(noise=0 * noise), p.mode)


@pytest.mark.parametrize("name", ["vae", "learned", "flow", "caption"])
def test_styles_are_read_and_carried_over(checkpoints: dict[str, Path], photo: Path, name: str) -> None:
    pipe = StackGANPipeline.from_pretrained(checkpoints[name], device="cpu")
    image = Image.open(photo)
    noise = pipe.encode_style(image, CAPTIONS[0])
    assert noise.shape == (1, pipe.config.latent.dim) and noise.isfinite().all()
    # Reconstruction is exactly G of the posterior's mean.
    c = pipe.model.condition(pipe.encode(CAPTIONS[:1])).mu
    assert pipe.model.posterior is not None
    z = pipe.model.posterior(to_tensor(image, 64)[None], c).mode
    expected = pipe.generator(z, c)[-1]
    again = pipe.generator(pipe.model.prior(c).sample(noise=noise), c)[-1]
    torch.testing.assert_close(again, expected, rtol=1e-3, atol=1e-3)
    rebuilt = pipe.reconstruct(image, CAPTIONS[0]).images
    edited = pipe.edit(image, CAPTIONS[0], [CAPTIONS[0], CAPTIONS[1]]).images
    assert len(rebuilt) == 1 and len(edited) == 2 and rebuilt[0].size == (64, 64)
    assert np.abs(np.asarray(rebuilt[0], int) - np.asarray(edited[0], int)).max() <= 1
    assert not np.array_equal(np.asarray(edited[0]), np.asarray(edited[1]))
    many = pipe.edit([image, image], CAPTIONS, CAPTIONS[::-1])
    assert len(many.images) == 2


def test_what_cannot_be_done_is_reported(checkpoints: dict[str, Path], photo: Path) -> None:
    image = Image.open(photo)
    plain = StackGANPipeline.from_pretrained(checkpoints["gaussian"], device="cpu")
    with pytest.raises(ValueError, match="no posterior"):
        plain.reconstruct(image, CAPTIONS[0])
    pipe = StackGANPipeline.from_pretrained(checkpoints["vae"], device="cpu")
    with pytest.raises(ValueError, match="1 photos and 2 captions do not match"):
        pipe.reconstruct(image, CAPTIONS)
    with pytest.raises(ValueError, match="2 photos and 3 new captions"):
        pipe.edit([image, image], CAPTIONS, ["a", "b", "c"])
    with pytest.raises(ValueError, match="frames is 1"):
        pipe.interpolate((CAPTIONS[0], CAPTIONS[1]), (0, 1), frames=1)
    with pytest.raises(ValueError, match=r"positions are .*from 0 to 1"):
        pipe.interpolate((CAPTIONS[0], CAPTIONS[1]), (0, 1), positions=[0.5, 1.5])


@pytest.mark.parametrize("name", LATENTS)
def test_images_without_text(checkpoints: dict[str, Path], name: str) -> None:
    pipe = StackGANPipeline.from_pretrained(checkpoints[name], device="cpu")
    images = pipe.sample(range(20)).images
    assert len(images) == 20 and not np.array_equal(np.asarray(images[0]), np.asarray(images[1]))
    alone = pipe.sample(7).images[0]
    assert np.abs(np.asarray(alone, int) - np.asarray(images[7], int)).max() <= 1
    still = pipe.sample([3, 4], truncation=0).images
    assert np.array_equal(np.asarray(still[0]), np.asarray(still[1]))


@pytest.mark.parametrize("name", LATENTS)
def test_an_interpolation_begins_and_ends_where_the_pipeline_generates(
    checkpoints: dict[str, Path], name: str
) -> None:
    pipe = StackGANPipeline.from_pretrained(checkpoints[name], device="cpu")
    frames = pipe.interpolate((CAPTIONS[0], CAPTIONS[1]), (3, 8), frames=5).images
    ends = pipe(CAPTIONS, seeds=[3, 8]).images
    assert len(frames) == 5
    for ours, theirs in zip((frames[0], frames[-1]), ends, strict=True):
        assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1
    alone = pipe.interpolate((CAPTIONS[0], CAPTIONS[1]), (3, 8), positions=[0.25]).images[0]
    assert np.abs(np.asarray(alone, int) - np.asarray(frames[1], int)).max() <= 1
    steps = [np.abs(np.asarray(a, int) - np.asarray(b, int)).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert max(steps) < np.abs(np.asarray(ends[0], int) - np.asarray(ends[1], int)).mean() + 1


def test_slerp_keeps_to_the_sphere() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 100, generator=generator)
    for t in (0.0, 0.25, 0.5, 1.0):
        between = float(slerp(a, b, t).norm())
        assert min(a.norm(), b.norm()) - 1e-3 <= between <= max(a.norm(), b.norm()) + 1e-3
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    for other in (a, -a, torch.zeros(100)):  # antipodal or equal ends: finite, with exact ends
        assert slerp(a, other, 0.3).isfinite().all()
        torch.testing.assert_close(slerp(a, other, 1.0), other)


def test_density_of_captions(checkpoints: dict[str, Path], few_birds: Path) -> None:
    pipe = StackGANPipeline.from_pretrained(checkpoints["flow"], device="cpu")
    quantiles = pipe.model.code_quantiles
    assert (quantiles.diff() >= 0).all() and quantiles[0] < quantiles[-1]
    known = pipe.caption_log_prob(CAPTIONS)
    assert all(density.share is not None and np.isfinite(density.log_prob) for density in known)
    pipe.model.code_quantiles = quantiles + 1e6  # as if training captions had a much higher density
    warned = pipe.caption_log_prob(CAPTIONS[0])[0]
    assert warned.share == 0
    plain = StackGANPipeline.from_pretrained(checkpoints["vae"], device="cpu").caption_log_prob(CAPTIONS[0])[0]
    assert plain.share is None


# --- the command line ---------------------------------------------------------------------------------------


def test_commands_write_their_images(checkpoints: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    use = ["--checkpoint", str(checkpoints["flow"]), "--device", "cpu"]
    out = tmp_path / "out"
    assert main(["edit", str(photo), CAPTIONS[0], CAPTIONS[1], "--out", str(out), *use]) == 0
    assert {file.name for file in out.iterdir()} == {"reconstruction.png", "edit-01_a-small-yellow-bird.png"}
    assert Image.open(out / "edit-01_a-small-yellow-bird.png").text["caption"] == CAPTIONS[1]
    assert main(["sample", "--seeds", "0-2", "--out", str(tmp_path / "free"), *use]) == 0
    assert len(list((tmp_path / "free").iterdir())) == 3
    video = tmp_path / "walk.gif"
    assert main(["walk", *CAPTIONS, "--seeds", "1,2", "--frames", "6", "--out", str(video), *use]) == 0
    with Image.open(video) as shown:
        assert shown.n_frames == 10 and shown.width >= 256  # there and back
    assert Image.open(video.with_suffix(".png")).height == 64


def test_command_errors_are_one_line(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, plain = str(checkpoints["flow"]), str(checkpoints["gaussian"])
    text = tmp_path / "not-a-picture.png"
    text.write_text("hello")
    cases = [
        (["edit", str(text), "a bird", "--checkpoint", flow], "not an image"),
        (["edit", str(tmp_path / "none.png"), "a bird", "--checkpoint", flow], "none.png"),
        (["edit", str(photo), " ", "--checkpoint", flow], "is empty"),
        (["edit", str(photo), "a bird", "--checkpoint", plain], "no posterior"),
        (["walk", "a", "b", "--checkpoint", flow, "--out", "x.avi"], "a video is a .gif, .webp or .mp4"),
        (["walk", "a", "b", "--checkpoint", flow, "--seeds", "1-3"], "between two seeds"),
        (["sample", "--checkpoint", flow, "--truncation", "3"], "truncation"),
    ]
    for arguments, message in cases:
        assert main([*arguments, "--device", "cpu"]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_old_checkpoints_load_as_before() -> None:
    """A configuration from before latent modules gives the same model."""
    values = preset("quickstart", ["text.dim=8", "generator.width=4"]).to_dict()
    values["latent"] = {"z": "gaussian", "dim": 100}
    from stackgan.config import Config

    names = set(StackGAN(Config.from_dict(json.loads(json.dumps(values)))).state_dict())
    assert not any(name.startswith(("prior", "posterior", "code_")) for name in names)
