"""The pipeline and the checkpoint folder: dependence on caption and seed, and errors of damaged folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import stackgan
from stackgan.checkpoint import load_checkpoint
from stackgan.pipeline import StackGANPipeline
from tests.exactness import need_exact_batches
from tests.tiny import CAPTIONS, change_header, save_tiny_checkpoint, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def pipe(checkpoint: Path) -> StackGANPipeline:
    return StackGANPipeline.from_pretrained(checkpoint, device="cpu")


def _levels(pipe: StackGANPipeline, *args, **kwargs) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    return [np.asarray(image).astype(int) for image in pipe(*args, **kwargs).images]


def test_every_stage_comes_out(pipe: StackGANPipeline) -> None:
    out = pipe(CAPTIONS[:3], seeds=[5])
    assert pipe.sizes == (64, 128)
    assert [[image.size for image in stage] for stage in out.stages] == [[(64, 64)] * 3, [(128, 128)] * 3]
    assert out.images is out.stages[-1] and out.seeds == [5, 5, 5]


def test_caption_and_seed_decide_and_nothing_else(pipe: StackGANPipeline) -> None:
    alone = _levels(pipe, CAPTIONS[1], seeds=7)[0]
    among = _levels(pipe, list(CAPTIONS), seeds=[3, 7, 5, 1], batch_size=3)[1]
    assert abs(alone - among).max() <= 1
    other_seed = _levels(pipe, CAPTIONS[1], seeds=8)[0]
    other_caption = _levels(pipe, CAPTIONS[2], seeds=7)[0]
    assert abs(alone - other_seed).max() > 5 and abs(alone - other_caption).max() > 5


@pytest.mark.parametrize("name", ["birds-64", "painted-64"])  # a Gaussian and a flow prior
def test_an_image_is_the_same_to_the_bit_alone_and_in_any_batch(name: str) -> None:
    need_exact_batches()
    pipe = StackGANPipeline.from_pretrained(ROOT / "checkpoints" / name, device="cpu")
    captions = ["a red bird", "a small yellow bird with grey wings and a black crown", "a blue bird", "a white bird"]
    alone = [pipe(caption, seeds=seed, output_type="pt").images for seed, caption in enumerate(captions)]
    for batch_size in (2, 3, 4):
        order = [2, 0, 3, 1]
        out = pipe([captions[i] for i in order], seeds=order, batch_size=batch_size, output_type="pt")
        assert torch.equal(out.images, torch.cat([alone[i] for i in order]))


def test_one_caption_meets_all_seeds(pipe: StackGANPipeline) -> None:
    many = _levels(pipe, CAPTIONS[0], seeds=range(4))
    assert len(many) == 4
    assert abs(many[2] - _levels(pipe, [CAPTIONS[0]], seeds=[2])[0]).max() <= 1


def test_embeddings_in_place_of_captions(pipe: StackGANPipeline) -> None:
    e = pipe.encode(CAPTIONS[:2])
    for a, b in zip(
        _levels(pipe, embeddings=e, seeds=[1, 2]), _levels(pipe, CAPTIONS[:2], seeds=[1, 2]), strict=True
    ):
        assert abs(a - b).max() <= 1


def test_truncation_scales_the_noise(pipe: StackGANPipeline) -> None:
    mean = _levels(pipe, CAPTIONS[0], seeds=[1, 2], latent="mean")
    assert (mean[0] == mean[1]).all(), "the mean does not look at the seed"
    assert abs(mean[0] - _levels(pipe, CAPTIONS[0], seeds=1, truncation=0.0)[0]).max() <= 1
    distance = [
        np.abs(_levels(pipe, CAPTIONS[0], seeds=1, truncation=t)[0] - mean[0]).mean() for t in (0.25, 0.5, 1.0)
    ]
    assert distance == sorted(distance) and distance[0] > 0


def test_the_bare_generator(pipe: StackGANPipeline) -> None:
    with torch.inference_mode():
        images = pipe.generator(torch.zeros(2, pipe.config.latent.dim), torch.zeros(2, pipe.config.text.code_dim))
    assert [tuple(i.shape) for i in images] == [(2, 3, 64, 64), (2, 3, 128, 128)]


def test_unknown_words_are_noticed(pipe: StackGANPipeline) -> None:
    notices = pipe([CAPTIONS[0], "a crimson bird"], seeds=[0]).warnings
    assert [n.index for n in notices] == [1] and "crimson" in notices[0].message


def test_unconditional_checkpoints_take_seeds_only(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "plain", text=False)
    pipe = StackGANPipeline.from_pretrained(folder, device="cpu")
    assert len(pipe(seeds=[1, 2]).images) == 2
    with pytest.raises(ValueError, match="trained without text"):
        pipe("a bird", seeds=[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"captions": [], "seeds": [0]}, "no caption"),
        ({"captions": ["a", "b"], "seeds": [1, 2, 3]}, "do not match"),
        ({"captions": ["  "], "seeds": [1]}, "caption 1 is empty"),
        ({"captions": ["a"], "seeds": []}, "no seed"),
        ({"captions": ["a"], "seeds": [-1]}, "seed -1"),
        ({"captions": ["a"], "seeds": [0], "truncation": 3}, "truncation 3"),
        ({"captions": ["a"], "seeds": [0], "latent": "median"}, "latent 'median'"),
        ({"captions": ["a"], "seeds": [0], "batch_size": 0}, "batch_size 0"),
        ({"seeds": [0]}, "pass captions"),
        ({"captions": ["a"], "embeddings": torch.zeros(1, 12), "seeds": [0]}, "not both"),
        ({"embeddings": torch.zeros(1, 5), "seeds": [0]}, r"takes \(B, 12\)"),
    ],
)
def test_wrong_calls_say_what_to_do(pipe: StackGANPipeline, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe(**arguments)  # type: ignore[arg-type]


def test_saved_again_it_generates_the_same(pipe: StackGANPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "copy")
    copy = StackGANPipeline.from_pretrained(tmp_path / "copy", device="cpu")
    assert (_levels(copy, CAPTIONS[0], seeds=3)[0] == _levels(pipe, CAPTIONS[0], seeds=3)[0]).all()
    pipe.save_pretrained(tmp_path / "half", dtype=torch.float16)
    half = StackGANPipeline.from_pretrained(tmp_path / "half", device="cpu")
    assert abs(_levels(half, CAPTIONS[0], seeds=3)[0] - _levels(pipe, CAPTIONS[0], seeds=3)[0]).max() <= 2
    smaller = (tmp_path / "half" / "model.safetensors").stat().st_size
    assert smaller < 0.6 * (tmp_path / "copy" / "model.safetensors").stat().st_size


def test_the_fingerprint_depends_on_all_that_determines_images(checkpoint: Path, tmp_path: Path) -> None:
    before = load_checkpoint(checkpoint).fingerprint
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    (copy / "README.md").write_text("another card")
    assert load_checkpoint(copy).fingerprint == before
    save_tiny_checkpoint(tmp_path / "other", seed=1)
    assert load_checkpoint(tmp_path / "other").fingerprint != before


def test_a_checkpoint_written_again_names_the_version_that_wrote_it(checkpoint: Path, tmp_path: Path) -> None:
    old = shutil.copytree(checkpoint, tmp_path / "old")
    change_header(old, lambda header: header.update(stackgan="0.0.1", examples=["a red bird"]))
    StackGANPipeline.from_pretrained(old, device="cpu").save_pretrained(tmp_path / "new")
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    assert written["stackgan"] == stackgan.__version__ != "0.0.1"
    assert written["examples"] == ["a red bird"]


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda f: shutil.rmtree(f), FileNotFoundError, "no checkpoint found"),
        (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "model.safetensors is missing"),
        (lambda f: (f / "config.json").write_text("{"), ValueError, "not valid JSON"),
        (lambda f: change_header(f, lambda v: v.update(format=99)), ValueError, "format 99"),
        (lambda f: change_header(f, lambda v: v.pop("format")), ValueError, "no 'format' key"),
        (
            lambda f: change_header(f, lambda v: v["config"]["generator"].update(width=8)),
            ValueError,
            "config.json requires",
        ),
        (lambda f: change_header(f, lambda v: v["config"]["tree"].update(stages=3)), ValueError, "has no generator"),
        (
            lambda f: change_header(f, lambda v: v["config"]["tree"].update(stages=1)),
            ValueError,
            "is not part of the model",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
            ValueError,
            "damaged",
        ),
    ],
)
def test_damaged_folders_are_named(checkpoint: Path, tmp_path: Path, damage, error, words: str) -> None:  # type: ignore[no-untyped-def]
    folder = shutil.copytree(checkpoint, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(error, match=words) as caught:
        StackGANPipeline.from_pretrained(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_its_encoder_takes_embeddings(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "mute")
    shutil.rmtree(folder / "text")
    pipe = StackGANPipeline.from_pretrained(folder, device="cpu")
    assert pipe(embeddings=torch.zeros(1, 12), seeds=[0]).images
    with pytest.raises(ValueError, match="has no text encoder"):
        pipe("a bird", seeds=[0])


def test_no_folder_of_this_machine_is_published(tmp_path: Path) -> None:
    here = [f"eval.features={tmp_path / 'net'}", f"text.encoder={tmp_path / 'bert'}", f"compact.teacher={tmp_path}"]
    tiny_pipeline(stages=1, latent=here).save_pretrained(tmp_path / "out")
    text = (tmp_path / "out" / "config.json").read_text("utf-8")
    assert str(tmp_path) not in text and '"encoder": "bert"' in text
    assert StackGANPipeline.from_pretrained(tmp_path / "out", device="cpu")(CAPTIONS[:1], seeds=[1]).images


def test_publishing_never_overwrites_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="not replaced"):
        tiny_pipeline().save_pretrained(tmp_path / "mine")
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["photo.jpg"]
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "caption", ["a \udce9 bird", "half a bird \ud83d", b"caf\xe9".decode("utf-8", "surrogateescape")]
)
def test_captions_that_are_not_utf_8_are_rejected(pipe: StackGANPipeline, caption: str) -> None:
    with pytest.raises(ValueError, match="caption 2 contains bytes that are not UTF-8"):
        pipe(["a red bird", caption], seeds=[0])
