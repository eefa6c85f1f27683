"""The loader: crops and flips pixel by pixel, the batch made ahead, stages as means."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stackgan.data.prepared import PreparedFolder, PreparedSplit, PreparedWriter, Record
from stackgan.data.sampler import Batch, Sampler, to_stages


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    """14 pictures of noise, 76 x 76, of seven species, with two captions each."""
    folder = tmp_path_factory.mktemp("data") / "p"
    rng = np.random.default_rng(0)
    with PreparedWriter(folder, kind="folder", size=64, crop="none", source={}) as writer:
        for i in range(14):
            image = rng.integers(0, 256, (76, 76, 3), dtype=np.uint8)
            writer.add("train", image, Record(f"{i}", (f"bird {i}", f"a bird, {i}"), f"species {i % 7}"))
    return PreparedFolder.open(folder).splits["train"]


def _rows(split: PreparedSplit) -> Any:
    return np.arange(len(split.captions), dtype=np.float32)[:, None]


def test_every_crop_is_a_window_of_its_picture_or_its_mirror_image(split: PreparedSplit) -> None:
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


def test_the_batch_made_ahead_is_the_one_asked_for(split: PreparedSplit) -> None:
    """In any order of steps, and as a resumed run asks for them."""
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


def test_what_goes_wrong_ahead_is_told_by_the_step_that_needs_it(
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


def test_stages_are_the_means_of_the_finest() -> None:
    images = torch.randint(0, 256, (3, 256, 256, 3), dtype=torch.uint8)
    stages = to_stages(images, (64, 128, 256), torch.device("cpu"))
    exact = images.permute(0, 3, 1, 2).double() / 127.5 - 1
    for stage, size in zip(stages, (64, 128, 256), strict=True):
        assert stage.dtype == torch.float32 and stage.shape == (3, 3, size, size)
        torch.testing.assert_close(stage.double(), F.avg_pool2d(exact, 256 // size), rtol=0, atol=3e-7)
    assert images.max() == 255, "the bytes are left as they were"


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
