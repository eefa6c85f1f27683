"""Sets of images in shards: resuming, reuse, and invalidation of outdated shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import stackgan.evaluation.image_sets as image_sets
from data_prep.painted import (
    prepare_painted,
)
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.cache import evaluation_cache
from stackgan.evaluation.caption_choice import caption_rows
from stackgan.evaluation.features import FeatureNetwork
from stackgan.evaluation.image_sets import (
    GeneratedImages,
    Photos,
    clear_others,
    images_of_captions,
)
from stackgan.evaluation.image_source import ImageSource, embeddings_of
from tests.tiny import tiny_pipeline


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(image_sets, "SHARD", 8)
    monkeypatch.setattr(image_sets, "BATCH", 3)
    yield


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=2, seed=1, test_count=11, workers=1)
    return PreparedFolder.open(folder).splits["test"]


class GeneratorForward:
    """Images whose levels encode their index; records the generated ones, stops at ``stop_at``."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.painted: list[int] = []
        self.stop_at = stop_at

    def __call__(self, start: int, stop: int) -> Tensor:
        if start >= self.stop_at:
            raise KeyboardInterrupt
        self.painted += range(start, stop)
        levels = torch.arange(start, stop).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
        return levels / 127.5 - 1

    def set(self, count: int, folder: Path | None, model: str = "a") -> GeneratedImages:
        return GeneratedImages("test", count, 4, self, lambda start, stop: [model, start, stop], folder)


def network(name: str = "mean", calls: list[int] | None = None) -> FeatureNetwork:
    def net(levels: Tensor) -> Tensor:
        if calls is not None:
            calls.append(len(levels))
        return levels.float().mean((2, 3)) if name == "mean" else levels.float().flatten(1)[:, :5]

    return FeatureNetwork(net, name, identity=f"{name}-1", preprocessing="none")


def test_what_was_stopped_continues(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        GeneratorForward(stop_at=16).set(30, tmp_path).generate_all()
    again = GeneratorForward()
    pictures = again.set(30, tmp_path)
    pictures.generate_all()
    assert again.painted == list(range(16, 30))  # the first two shards existed
    assert pictures.rows([29, 0, 17])[:, 0, 0, 0].tolist() == [29, 0, 17]
    whole = torch.cat([pictures.shard(*span) for span in pictures.spans()])
    assert whole.shape == (30, 3, 4, 4) and whole[:, 0, 0, 0].tolist() == list(range(30))
    assert again.painted == list(range(16, 30))  # reading them generates nothing

    more = GeneratorForward().set(40, tmp_path)  # more images of the same set
    more.generate_all()
    assert more.generate.painted == list(range(24, 40))  # type: ignore[attr-defined]


def test_damaged_and_foreign_shards_are_generated_again(tmp_path: Path) -> None:
    GeneratorForward().set(16, tmp_path).generate_all()
    first, second = sorted(tmp_path.glob("*.npy"))
    first.write_bytes(first.read_bytes()[:50])
    np.save(second, np.zeros((8, 2, 2, 3), np.uint8))
    again = GeneratorForward()
    assert again.set(16, tmp_path).rows([3, 12])[:, 0, 0, 0].tolist() == [3, 12]
    assert again.painted == list(range(16))
    other = GeneratorForward()
    other.set(16, tmp_path, model="b").generate_all()  # another checkpoint, the same folder
    assert other.painted == list(range(16)) and len(list(tmp_path.glob("*.npy"))) == 4


def test_features_are_cached_by_network_and_mirroring(tmp_path: Path) -> None:
    calls: list[int] = []
    pictures = GeneratorForward().set(20, tmp_path)
    found = pictures.features(network(calls=calls)).features
    assert torch.equal(found[:, 0], torch.arange(20.0)) and calls == [8, 8, 4]
    assert torch.equal(pictures.features(network(calls=calls)).features, found) and calls == [8, 8, 4]
    assert pictures.features(network("other")).features.shape == (20, 5)
    pictures.features(network(calls=calls), mirrored=True)
    assert calls == [8, 8, 4] * 2
    damaged = next(tmp_path.glob("mean-1-000000-*.safetensors"))
    damaged.write_bytes(b"half")
    assert torch.equal(pictures.features(network(calls=calls)).features, found) and calls[-1] == 8


def test_stale_shards_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    old, new = GeneratorForward().set(16, tmp_path, model="old"), GeneratorForward().set(16, tmp_path, model="new")
    for pictures in (old, new):
        pictures.features(network())
    (tmp_path / "my-notes.npy").write_bytes(b"mine")
    assert len(list(tmp_path.iterdir())) == 9
    clear_others(tmp_path, [new])
    left = {file.name for file in tmp_path.iterdir()}
    assert "my-notes.npy" in left and len(left) == 5
    again = GeneratorForward()
    again.set(16, tmp_path, model="new").generate_all()
    assert not again.painted


def test_photos_are_centre_crops_and_their_features_stay_in_the_prepared_folder(split: PreparedSplit) -> None:
    photos = Photos(split, 64)
    levels = torch.cat([photos.shard(*span) for span in photos.spans()])
    assert levels.shape == (11, 3, 64, 64) and levels.dtype == torch.uint8
    assert np.array_equal(photos.rows([10])[0], split.images[10, 6:70, 6:70])
    assert np.array_equal(levels[10].permute(1, 2, 0).numpy(), split.images[10, 6:70, 6:70])
    calls: list[int] = []
    net = network(calls=calls)
    plain, mirrored = photos.features(net).features, photos.features(net, mirrored=True).features
    assert torch.allclose(plain, mirrored, atol=1e-3) and calls == [8, 3, 8, 3]  # means are invariant to mirroring
    Photos(split, 64).features(net)
    kept = evaluation_cache(split.path.parent) / "features" / "test"
    assert calls == [8, 3, 8, 3] and len(list(kept.glob("mean-1-*.safetensors"))) == 4
    Photos(split, 32).features(net)  # another crop gives other images
    assert len(calls) == 6


def test_pixels_are_means_of_areas(split: PreparedSplit) -> None:
    small = Photos(split, 64).small(32)
    expected = split.images[4, 6:70, 6:70].astype(np.float64).reshape(32, 2, 32, 2, 3).mean((1, 3)) / 127.5 - 1
    assert small.shape == (11, 3072)
    assert np.allclose(small[4].view(3, 32, 32).permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_generated_images_are_those_of_the_pipeline(split: PreparedSplit, tmp_path: Path) -> None:
    pipe = tiny_pipeline(stages=1)
    rows = caption_rows(split, 10).tolist()
    pictures = images_of_captions(ImageSource(pipe), split, rows, seed=5, folder=tmp_path)
    expected = pipe([split.captions[row] for row in rows], seeds=range(5, 15)).images
    found = pictures.rows(range(10))
    worst = max(np.abs(a.astype(int) - np.asarray(b).astype(int)).max() for a, b in zip(found, expected, strict=True))
    assert worst <= 1  # rounding depends on the batch size
    keys = {pictures.key(0, 8), images_of_captions(ImageSource(pipe), split, rows, 6, None).key(0, 8)}
    pipe.fingerprint = "another"
    assert len(keys | {images_of_captions(ImageSource(pipe), split, rows, 5, None).key(0, 8)}) == 3


def test_precomputed_embeddings_come_from_the_split(split: PreparedSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_pipeline(stages=1)
    assert pipe.text_encoder is not None
    stored = np.random.default_rng(0).normal(size=(len(split.captions), pipe.text_encoder.dim)).astype(np.float32)
    split.store_embeddings("mine", stored)

    text: Any = dataclasses.replace(pipe.config.text, encoder="precomputed:mine")
    pipe.config = dataclasses.replace(pipe.config, text=text)
    pipe.text_encoder = None
    e = embeddings_of(pipe, split, [3, 0])
    assert e is not None and np.array_equal(e.numpy(), stored[[3, 0]])
    assert images_of_captions(ImageSource(pipe), split, [3, 0], 0, None).rows([1]).shape == (1, 64, 64, 3)
