"""Data without variety either train to finite weights or are refused in one sentence before anything is trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from stackgan.checkpoint import load_checkpoint
from stackgan.config import preset
from stackgan.data.format import Record
from stackgan.data.sampler import Sampler
from stackgan.data.writer import PreparedWriter
from stackgan.latent.conditioning import Standardise
from stackgan.training.loop import train
from tests.tiny import TINY


def prepared(folder: Path, captions: Sequence[str], species: Sequence[str | None] | None = None) -> Path:
    draws = np.random.default_rng(0)
    with PreparedWriter(folder, kind="folder", size=64, crop="as drawn", source={}) as writer:
        for number, caption in enumerate(captions):
            image = draws.integers(256, size=(76, 76, 3), dtype=np.uint8)
            record = Record(f"{number}", (caption,) if caption else (), species[number] if species else None)
            writer.add("train", image, record)
    return folder


def run(data: Path, folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    config = preset("quickstart", [*TINY, "train.images=4", "optim.batch_size=2", *overrides])
    assert train(data, folder, config, device="cpu") == 0
    return load_checkpoint(folder / "checkpoint").weights


@pytest.mark.parametrize(
    "captions",
    [
        ["a bird"] * 6,
        ["bird"] * 3,
        ["x", "y"],
        ["a red bird"] * 5 + ["a blue bird"],
        ["\u9ce5"] * 2,
        ["a " * 200] * 4,
        ["!!!"] * 4,
        ["a bird", "A BIRD", "a  bird."],
    ],
    ids=[
        "one caption",
        "one word",
        "two photos",
        "one other caption",
        "unknown script",
        "one long caption",
        "no letters",
        "one caption in three spellings",
    ],
)
def test_captions_without_variety(captions: list[str], tmp_path: Path) -> None:
    weights = run(prepared(tmp_path / "data", captions), tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    if len(set(captions)) == 1:
        assert weights["standardise.scale"] == 1  # not 1e-6, which would amplify rounding and every other caption


PHOTOS = {
    "black": lambda number: np.zeros((76, 76, 3), np.uint8),
    "one photo many times": lambda number: np.indices((76, 76, 3)).sum(0).astype(np.uint8),
}


@pytest.mark.parametrize("case", PHOTOS)
def test_photos_without_variety(case: str, tmp_path: Path) -> None:
    with PreparedWriter(tmp_path / "data", kind="folder", size=64, crop="as drawn", source={}) as writer:
        for number in range(4):
            writer.add("train", PHOTOS[case](number), Record(f"{number}", (f"a bird {number}",)))
    weights = run(tmp_path / "data", tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("latent", [["latent.z=vae"], ["latent.z=flow", "latent.c=flow"]], ids=["vae", "flow"])
def test_latent_modules_of_one_caption(latent: list[str], tmp_path: Path) -> None:
    weights = run(prepared(tmp_path / "data", ["a bird"] * 4), tmp_path / "run", *latent)
    assert all(tensor.isfinite().all() for tensor in weights.values())


REFUSED = {
    "one photo": (["a bird"], None, [], "a single image, training needs two or more; add photos"),
    "one photo, no text": ([""], None, ["text.encoder=none"], "a single image, training needs two or more"),
    "one species": (["a", "b", "c"], ["wren"] * 3, [], "every image is of species 'wren', so that there is no wrong"),
    "few photos": (["a", "b"], None, ["optim.batch_size=16"], "2 images, fewer than optim.batch_size=16; add photos"),
    "no captions": (["", ""], None, [], "2 images have no caption (first: '0'); add captions or train with"),
    "some captions": (["a", "b", ""], None, [], "1 images have no caption (first: '2')"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_train_is_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    captions, species, overrides, reason = REFUSED[case]
    data = prepared(tmp_path / "data", captions, species)
    with pytest.raises(ValueError) as caught:
        run(data, tmp_path / "run", *overrides)
    assert reason in str(caught.value) and str(data / "train") in str(caught.value)
    shutil.rmtree(data)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_wrong_images_where_nearly_all_are_of_one_species(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", ["a"] * 40, ["wren"] * 39 + ["robin"])
    from stackgan.data.prepared import PreparedFolder

    split = PreparedFolder.open(data).train
    embeddings = np.arange(80, dtype=np.float32).reshape(40, 2)
    sampler = Sampler(split, embeddings, size=64, batch_size=20, seed=0)
    wrong = sampler.batch(0).wrong_embedding
    assert wrong is not None and (wrong[:, 0] == 78).sum() >= 19


def test_the_scale_of_equal_embeddings_is_one() -> None:
    for rows in (1, 5):
        module = Standardise(3)
        module.measure(torch.full((rows, 3), 0.1).numpy())
        assert module.scale == 1 and module(torch.tensor([[0.2, 0.1, 0.1]])).abs().max() < 0.2
