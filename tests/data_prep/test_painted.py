"""Painted birds: measured appearance, correct captions, and the same bytes for the same seed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.painted import (
    COLOURS,
    HELD_OUT,
    PALETTE,
    BirdParameters,
    Part,
    bird_with_captions,
    caption_colours,
    draw,
    held_out_combinations,
    prepare_painted,
    random_bird,
)
from data_prep.painted_parameters import BACKGROUND_POSES, BEAK_SHAPES, CROWN_SHAPES, SIZES, TAIL_SHAPES
from stackgan.data.prepared import PreparedFolder
from stackgan.images.crops import load_side

PARTS = ("crown", "breast", "wing")
DARK, RED = Part("black", (30, 30, 30)), Part("red", (230, 30, 30))


def colours(bird: BirdParameters) -> dict[str, str]:
    return {part: getattr(bird, part).colour for part in PARTS}


def visible(bird: BirdParameters, part: str, side: int = 64) -> np.ndarray:
    """Mask of a part: the pixels that turn red if only this part of a dark bird is red."""
    dark = dataclasses.replace(bird, body=DARK, crown=DARK, breast=DARK, wing=DARK, tail=DARK)
    before = draw(dark, side).astype(int)
    after = draw(dataclasses.replace(dark, **{part: RED}), side).astype(int)
    return (after - before)[..., 0] > 100


def folder_bytes(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    report = prepare_painted(tmp_path / "a", count=70, test_count=5, seed=4, size=32, workers=1)
    assert report.counts == {"train": 70, "test": 5}
    prepare_painted(tmp_path / "b", count=70, test_count=5, seed=4, size=32, workers=2)
    prepare_painted(tmp_path / "c", count=70, test_count=5, seed=5, size=32, workers=1)
    first, second, other = (folder_bytes(tmp_path / name) for name in "abc")
    assert first == second
    assert first.keys() == other.keys() and all(first[name] != other[name] for name in first)


def test_a_bird_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    prepare_painted(tmp_path / "few", count=3, test_count=1, seed=4, size=32, workers=1)
    prepare_painted(tmp_path / "more", count=9, test_count=2, seed=4, size=32, workers=1)
    few, more = (PreparedFolder.open(tmp_path / name).splits for name in ("few", "more"))
    for split in ("train", "test"):
        n = len(few[split].records)
        assert np.array_equal(few[split].images, more[split].images[:n])
        assert list(few[split].records) == more[split].records[:n]


def test_prepared_folder_holds_the_birds_and_their_truth(tmp_path: Path) -> None:
    prepare_painted(tmp_path / "birds", count=4, seed=11, size=64, workers=1)
    folder = PreparedFolder.open(tmp_path / "birds")
    folder.verify()
    assert (folder.kind, folder.size, folder.load_side) == ("painted", 64, load_side(64))
    assert {name: len(split) for name, split in folder.splits.items()} == {"train": 4, "test": 1}
    split = folder.splits["train"]
    bird, lines = bird_with_captions(11, "train", 2)
    assert np.array_equal(split.images[2], draw(bird, 76))
    assert split.records[2].captions == lines
    assert split.records[2].parameters == json.loads(json.dumps(dataclasses.asdict(bird)))
    stored = {tuple(tuple(part) for part in pair) for pair in folder.meta["source"]["held_out"]}
    assert stored == HELD_OUT


@pytest.mark.parametrize("wrong", [{"count": 0}, {"seed": -1}, {"test_count": 0}, {"size": 8}, {"workers": 0}])
def test_senseless_numbers_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    name, value = next(iter(wrong.items()))
    settings: dict[str, int] = {"count": 2, "seed": 0} | wrong
    with pytest.raises(ValueError, match=rf"{name.replace('_', ' ')} is {value}") as error:
        prepare_painted(tmp_path / "out", **settings)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_kept_by_default(tmp_path: Path) -> None:
    prepare_painted(tmp_path / "out", count=1, seed=0, size=32, workers=1)
    before = folder_bytes(tmp_path / "out")
    with pytest.raises(FileExistsError, match="overwrite"):
        prepare_painted(tmp_path / "out", count=2, seed=0, size=32, workers=1)
    assert folder_bytes(tmp_path / "out") == before
    prepare_painted(tmp_path / "out", count=2, seed=0, size=32, workers=1, overwrite=True)
    assert len(PreparedFolder.open(tmp_path / "out").splits["train"]) == 2


def test_held_out_combinations_are_never_in_train_and_always_in_test() -> None:
    single: dict[str, set[tuple[str, str]]] = {"train": set(), "test": set()}
    paired: dict[str, set[frozenset[tuple[str, str]]]] = {"train": set(), "test": set()}
    for split in single:
        for i in range(3000):
            found = colours(random_bird(np.random.default_rng([8, i]), held_out=split == "test"))
            assert bool(held_out_combinations(found)) == (split == "test")
            single[split] |= set(found.items())
            paired[split] |= {frozenset(pair) for pair in itertools.combinations(found.items(), 2)}
    everything = {(part, colour) for part in PARTS for colour in COLOURS}
    assert single["train"] == single["test"] == everything, "every part is seen in every colour"
    assert paired["test"] >= {frozenset(pair) for pair in HELD_OUT}
    assert not paired["train"] & {frozenset(pair) for pair in HELD_OUT}
    assert len(HELD_OUT) == 33 and all(one != other for (_, one), (_, other) in HELD_OUT)


def test_captions_are_true_varied_and_mostly_complete() -> None:
    everything: set[str] = set()
    birds = 400
    for split in ("train", "test"):
        for i in range(birds):
            bird, lines = bird_with_captions(2, split, i)
            truth = colours(bird)
            assert len(set(lines)) == 10
            named = [caption_colours(line) for line in lines]
            for line, found in zip(lines, named, strict=True):
                assert all(truth[part] == colour for part, colour in found.items()), (line, truth)
                told = re.sub(r"small (pointed|hooked)", "", line)  # the beak
                assert all(size == bird.size or size not in told for size in SIZES), (line, bird)
                assert line == line.lower().strip() and "  " not in line and "None" not in line
                assert "swimming" not in line or bird.pose == "swimming"
                assert "branch" not in line or bird.background == "branch"
            assert sum(len(found) == 3 for found in named) >= 5
            everything.update(lines)
    assert len(everything) > 0.95 * 2 * birds * 10


def test_the_caption_that_users_type_is_in_the_data() -> None:
    birds = [bird_with_captions(6, "train", i) for i in range(600)]
    plain = [lines for p, lines in birds if p.body.colour == p.crown.colour == p.breast.colour]
    assert 0.18 < len(plain) / len(birds) < 0.35
    assert sum(any(f"{c} bird with" in line for line in lines for c in COLOURS) for lines in plain) > len(plain) / 2
    assert any("all red" in line or "all blue" in line for _, lines in birds for line in lines)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a small red bird with black wings", {"crown": "red", "breast": "red", "wing": "black"}),
        ("A small RED bird  with black wings.", {"crown": "red", "breast": "red", "wing": "black"}),
        ("this bird is all violet", {"crown": "purple", "breast": "purple", "wing": "purple"}),
        ("this bird is red all over and has a bill", {"crown": "red", "breast": "red", "wing": "red"}),
        ("bird with a red cap and chest and gray wings", {"crown": "red", "breast": "red", "wing": "grey"}),
        ("a brown bird with a pink cap and a white belly", {"crown": "pink", "breast": "white"}),
        ("the top of the head is orange and its wing feathers are red", {"crown": "orange", "wing": "red"}),
        ("the belly of this bird is red, and it has a short black beak", {"breast": "red"}),
        ("a large bird with a long hooked orange beak and a yellow tail", {}),
    ],
)  # fmt: skip
def test_colours_are_read_from_a_caption(caption: str, expected: dict[str, str]) -> None:
    assert caption_colours(caption) == expected


def test_every_part_is_large_and_apart_from_the_others() -> None:
    least = {"crown": 60, "breast": 110, "wing": 150}
    typical: dict[str, list[int]] = {part: [] for part in PARTS}
    for i in range(25):
        bird, _ = bird_with_captions(1, "train", i)
        areas = {part: visible(bird, part) for part in PARTS}
        for part, area in areas.items():
            assert area.sum() >= least[part], (i, part, int(area.sum()))
            typical[part].append(int(area.sum()))
        assert not (areas["crown"] & areas["breast"] | areas["crown"] & areas["wing"]).any()
        assert not (areas["breast"] & areas["wing"]).any()
    assert np.median(typical["crown"]) > 90
    assert np.median(typical["breast"]) > 150
    assert np.median(typical["wing"]) > 200


def test_named_colours_are_distinguishable_in_the_image() -> None:
    """Each part's median colour is nearest to a shade of its own name, under the light of the image."""
    right = total = 0
    names = [name for name in COLOURS for _ in PALETTE[name]]
    shades = np.array([rgb for name in COLOURS for rgb in PALETTE[name]], np.float64)
    for i in range(25):
        bird, _ = bird_with_captions(3, "train", i)
        picture = draw(bird, 64).astype(np.float64)
        for part, colour in colours(bird).items():
            seen = np.median(picture[visible(bird, part)], axis=0)
            right += names[int(((shades - seen) ** 2).sum(1).argmin())] == colour
            total += 1
    assert right >= 0.99 * total


@pytest.mark.parametrize("background", sorted(BACKGROUND_POSES))
def test_the_image_is_the_same_at_every_size(background: str) -> None:
    birds = (bird_with_captions(9, "train", i)[0] for i in range(200))
    bird = next(bird for bird in birds if bird.background == background)
    large = draw(bird, 256).astype(np.float64)
    shrunk = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(shrunk - draw(bird, 64)).mean() < 2.0


def test_every_shape_draws_and_shows() -> None:
    base, _ = bird_with_captions(0, "train", 0)
    for background, poses in BACKGROUND_POSES.items():
        for pose in poses:
            assert draw(dataclasses.replace(base, background=background, pose=pose), 32).shape == (32, 32, 3)
    for field, shapes in (
        ("tail_shape", TAIL_SHAPES), ("beak_shape", BEAK_SHAPES), ("crown_shape", CROWN_SHAPES),
        ("wing_bars", (False, True)), ("eye_ring", (False, True)), ("facing", ("left", "right")),
    ):  # fmt: skip
        pictures = {draw(dataclasses.replace(base, **{field: shape}), 64).tobytes() for shape in shapes}
        assert len(pictures) == len(shapes), field


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="side is 8"):
        draw(bird_with_captions(0, "train", 0)[0], 8)
