"""The loader: crops and flips pixel by pixel, wrong pairs, prefetching."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.sampler import AugmentedCaptions, Batch, Sampler, WrongPairs
from stackgan.data.writer import PreparedWriter


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    """14 images of noise, 76 x 76, of seven species, with two captions each."""
    folder = tmp_path_factory.mktemp("data") / "p"
    rng = np.random.default_rng(0)
    with PreparedWriter(folder, kind="folder", size=64, crop="none", source={}) as writer:
        for i in range(14):
            image = rng.integers(0, 256, (76, 76, 3), dtype=np.uint8)
            writer.add("train", image, Record(f"{i}", (f"bird {i}", f"a bird, {i}"), f"species {i % 7}"))
    return PreparedFolder.open(folder).splits["train"]


def _rows(split: PreparedSplit) -> Any:
    return np.arange(len(split.captions), dtype=np.float32)[:, None]


def test_every_crop_is_a_window_of_its_image_or_its_mirror_image(split: PreparedSplit) -> None:
    sampler = Sampler(split, _rows(split), size=64, batch_size=7, seed=1)
    corners, mirrored = set(), 0
    for step in range(20):
        batch = sampler.batch(step)
        assert batch.real.dtype == torch.uint8 and batch.real.is_contiguous() and batch.embedding is not None
        for crop, row in zip(batch.real.numpy(), batch.embedding[:, 0].int().tolist(), strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(split.images[row // 2], (64, 64), (0, 1))
            windows = windows.transpose(0, 1, 3, 4, 2)
            plain = np.argwhere((windows == crop).all((2, 3, 4)))
            flipped = np.argwhere((windows == crop[:, ::-1]).all((2, 3, 4)))
            assert len(plain) + len(flipped) == 1
            mirrored += len(flipped)
            corners.add(tuple(np.concatenate((plain, flipped))[0]))
    assert 45 < mirrored < 95  # of 140
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(13)), "both edges are reached"


def test_the_batch_made_ahead_is_the_one_requested(split: PreparedSplit) -> None:
    """In any order of steps, also after resuming."""
    steps = [0, 1, 2, 5, 6, 6, 3, 0]
    ahead = Sampler(split, _rows(split), size=64, batch_size=7, seed=1)
    for step, batch in [(step, ahead.batch(step)) for step in steps]:
        fresh = Sampler(split, _rows(split), size=64, batch_size=7, seed=1).batch(step)
        for name, value in vars(fresh).items():
            other = getattr(batch, name)
            assert (value is None and other is None) or torch.equal(value, other)


def test_the_next_batch_is_made_while_a_step_runs(split: PreparedSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[int, str] = {}
    done = {step: threading.Event() for step in range(10)}
    draw = Sampler._draw

    def spy(self: Sampler, step: int) -> Batch:
        batch = draw(self, step)
        made[step] = threading.current_thread().name
        done[step].set()
        return batch

    monkeypatch.setattr(Sampler, "_draw", spy)
    sampler = Sampler(split, None, size=64, batch_size=4, seed=0)
    for step in range(3):
        sampler.batch(step)
        assert done[step + 1].wait(30), "before it is asked for"
    assert set(made) == {0, 1, 2, 3}, "one ahead, no further"
    assert made[0] == threading.main_thread().name
    assert made[1].startswith("data")


def test_what_goes_wrong_ahead_is_reported_by_the_step_that_needs_it(
    split: PreparedSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Sampler._draw

    def broken(self: Sampler, step: int) -> Batch:
        if step == 2:
            raise OSError("disk")
        return draw(self, step)

    monkeypatch.setattr(Sampler, "_draw", broken)
    sampler = Sampler(split, None, size=64, batch_size=4, seed=0)
    sampler.batch(0)
    sampler.batch(1)
    with pytest.raises(OSError, match="disk"):
        sampler.batch(2)


def test_an_epochs_order_is_drawn_once(split: PreparedSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    permutation = Sampler._permutation

    def spy(self: Sampler, epoch: int) -> Any:
        drawn.append(epoch)
        return permutation(self, epoch)

    monkeypatch.setattr(Sampler, "_permutation", spy)
    sampler = Sampler(split, None, size=64, batch_size=4, seed=0)
    for step in range(21):
        sampler.batch(step)
    assert drawn == list(range(max(drawn) + 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_sent_to_the_device_unchanged(split: PreparedSplit) -> None:
    device = torch.device("cuda")
    here = Sampler(split, _rows(split), size=64, batch_size=7, seed=1)
    there = Sampler(split, _rows(split), size=64, batch_size=7, seed=1, device=device)
    for step in range(3):
        for name, value in vars(there.batch(step)).items():
            if value is not None:
                assert value.device.type == "cuda"
                assert torch.equal(value.cpu(), getattr(here.batch(step), name))


def _write(folder: Path, species: list[str | None], captions: int = 2, size: int = 64) -> PreparedFolder:
    rng = np.random.default_rng(0)
    side = size * 76 // 64
    with PreparedWriter(folder, kind="folder", size=size, crop="none", source={}) as writer:
        for i, name in enumerate(species):
            lines = tuple(f"bird {i} caption {k}" for k in range(captions))
            image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            image[..., 2] = i  # identifies the image of a crop
            writer.add("train", image, Record(f"{i}.jpg", lines, name))
    return PreparedFolder.open(folder)


@pytest.mark.parametrize("mismatch", ["photo", "caption"])
def test_wrong_pairs_are_never_of_the_same_species(tmp_path: Path, mismatch: str) -> None:
    species: list[str | None] = ["a"] * 12 + ["b", "c", None, None]
    split = _write(tmp_path / "p", species).splits["train"]
    rows = np.repeat(np.arange(16), 2)[:, None].astype(np.float32)  # each embedding is the index of its image
    sampler = Sampler(split, rows, size=64, batch_size=8, seed=0, wrong=WrongPairs(mismatch))
    for step in range(40):
        batch = sampler.batch(step)
        assert batch.embedding is not None
        own = batch.real[:, 0, 0, 2].numpy()
        assert (batch.embedding[:, 0].numpy() == own).all(), "captions belong to their images"
        if mismatch == "photo":
            assert batch.wrong is not None and batch.wrong_embedding is None
            other = batch.wrong[:, 0, 0, 2].numpy()
        else:
            assert batch.wrong is None and batch.wrong_embedding is not None
            other = batch.wrong_embedding[:, 0].numpy().astype(int)
        for i, j in zip(own, other, strict=True):
            assert i != j and (species[i] is None or species[i] != species[j])


def test_hard_wrong_captions_use_the_same_words(tmp_path: Path) -> None:
    """The wrong caption of a red bird with black wings is a black bird with red wings, never a green one."""
    captions = ["a red bird with black wings", "a black bird with red wings", "a green bird", "a white duck in water"]
    with PreparedWriter(tmp_path / "p", kind="folder", size=64, crop="none", source={}) as writer:
        for i in range(16):
            writer.add("train", np.zeros((76, 76, 3), np.uint8), Record(f"{i}", (captions[i % 4],), captions[i % 4]))
    split = PreparedFolder.open(tmp_path / "p").splits["train"]
    rows = np.arange(16, dtype=np.float32)[:, None]
    sampler = Sampler(split, rows, size=64, batch_size=8, seed=0, wrong=WrongPairs(hard=1.0))
    sampler.near = [near[:1] for near in sampler.near]  # the closest only
    for step in range(10):
        batch = sampler.batch(step)
        assert batch.embedding is not None and batch.wrong_embedding is not None
        for own, other in zip(batch.embedding[:, 0].int(), batch.wrong_embedding[:, 0].int(), strict=True):
            if own % 4 in (0, 1):
                assert other % 4 == 1 - own % 4


def test_half_of_the_hard_wrong_captions_are_swapped_ones(tmp_path: Path) -> None:
    split = _write(tmp_path / "p", [None] * 16).splits["train"]
    rows = np.arange(len(split.captions), dtype=np.float32)[:, None]
    swapped = np.where(rows % 4 == 0, rows, rows + 1000)  # every fourth caption has no swap
    sampler = Sampler(split, rows, size=64, batch_size=8, seed=0, wrong=WrongPairs(hard=1.0, swapped=swapped))
    own, other = [], []
    for step in range(50):
        batch = sampler.batch(step)
        assert batch.embedding is not None and batch.wrong_embedding is not None
        own.append(batch.embedding[:, 0])
        other.append(batch.wrong_embedding[:, 0])
    have, given = torch.cat(own), torch.cat(other)
    used = given >= 1000
    assert torch.equal(given[used], have[used] + 1000)  # the swap of its own caption
    assert not used[have % 4 == 0].any() and not (given == have).any()
    assert 0.4 < used[have % 4 != 0].float().mean() < 0.6


def test_rewordings_take_the_place_of_a_share_of_captions(tmp_path: Path) -> None:
    """Of matching and wrong captions, except wrong ones whose augmented form would match the image."""
    split = _write(tmp_path / "p", [None] * 16).splits["train"]
    rows = np.arange(len(split.captions), dtype=np.float32)[:, None]
    words = ["new" if row % 4 else "" for row in range(len(rows))]  # words that no caption has, or none
    augmented = AugmentedCaptions(rows + 1000, words, 0.5)
    sampler = Sampler(split, rows, size=64, batch_size=8, seed=0, augmented=augmented)
    plain = Sampler(split, rows, size=64, batch_size=8, seed=0)
    own, wrong = [], []
    for step in range(50):
        batch, without = sampler.batch(step), plain.batch(step)
        assert batch.embedding is not None and batch.wrong_embedding is not None and without.embedding is not None
        assert torch.equal(batch.embedding % 1000, without.embedding), "the same captions are drawn"
        own.append(batch.embedding[:, 0])
        wrong.append(batch.wrong_embedding[:, 0])
    for drawn in (torch.cat(own), torch.cat(wrong)[torch.cat(wrong) % 4 != 0]):
        assert 0.4 < (drawn >= 1000).float().mean() < 0.6
    assert not (torch.cat(wrong)[torch.cat(wrong) % 4 == 0] >= 1000).any()


def test_every_epoch_shows_every_image_once(tmp_path: Path) -> None:
    split = _write(tmp_path / "p", [None] * 15).splits["train"]
    sampler = Sampler(split, None, size=64, batch_size=6, seed=3)
    seen = np.concatenate([sampler.batch(step).real[:, 0, 0, 2].numpy() for step in range(5)])
    assert sorted(seen[:15]) == sorted(seen[15:]) == list(range(15))
    assert seen[:15].tolist() != seen[15:].tolist()


def test_a_batch_depends_on_its_step_only(tmp_path: Path) -> None:
    split = _write(tmp_path / "p", [None] * 15).splits["train"]
    one, two = (Sampler(split, None, size=64, batch_size=6, seed=3) for _ in range(2))
    for step in range(4):
        one.batch(step)
    assert torch.equal(one.batch(9).real, two.batch(9).real)
    assert not torch.equal(one.batch(9).real, one.batch(10).real)


def test_all_of_one_species_and_missing_captions_are_refused(tmp_path: Path) -> None:
    same = _write(tmp_path / "same", ["a"] * 8).splits["train"]
    with pytest.raises(ValueError, match="no wrong pair"):
        Sampler(same, np.zeros((16, 3), np.float32), size=64, batch_size=4, seed=0)
    bare = _write(tmp_path / "bare", [None] * 8, captions=0).splits["train"]
    with pytest.raises(ValueError, match="no caption"):
        Sampler(bare, np.zeros((0, 3), np.float32), size=64, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="fewer than"):
        Sampler(bare, None, size=64, batch_size=9, seed=0)
