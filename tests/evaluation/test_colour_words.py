"""The colour-word test: which words are changed, and what its measure sees where the truth is known."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_prep.painted import COLOURS, PALETTE, Part, draw, random_painting
from stackgan.evaluation.colour_words import (
    BASIC,
    SHADES,
    colour_pairs,
    colour_share,
    colour_word_figures,
    colours_in,
    foreground,
    measure_pairs,
    pair_figures,
    photos_told_apart,
    to_lab,
)
from stackgan.images.pixels import centre_crops
from tests.tiny import tiny_pipeline

TEXTS = [
    f"a {size} {one} bird with {two} wings"
    for size in ("small", "large")
    for one in ("red", "gray", "orange", "blue", "violet")
    for two in ("black", "white", "brown")
]


def discs(names: list[str], seed: int) -> Tensor:
    """A disc of each colour in a random place and size on a random background, (N, 3, 64, 64)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    out = []
    for name in names:
        ground = rng.uniform(0, 255, 3) + rng.normal(0, 8, (64, 64, 3))
        shade = rng.dirichlet((1, 1, 1)) @ np.array(PALETTE[name], float)
        (cy, cx), radius = rng.uniform(24, 40, 2), rng.uniform(7, 18)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        out.append(np.where(inside[..., None], shade, ground).clip(0, 255))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 127.5 - 1


# --- captions -----------------------------------------------------------------------------------------------


def test_pairs_differ_in_one_colour_word() -> None:
    pairs = colour_pairs(TEXTS, 150, seed=3)
    assert len(pairs) == 150 == len({(p.caption, p.new_caption) for p in pairs})
    for pair in pairs:
        old, new = (
            text.replace(" an ", " a ").replace("an ", "a ", 1).split() for text in (pair.caption, pair.new_caption)
        )
        changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        assert [b for _, b in changed] == [pair.word] and colours_in(changed[0][0]) == {pair.old}
        assert pair.new not in colours_in(pair.caption.replace(" ", "-"))
    assert colour_pairs(TEXTS, 150, seed=3) == pairs != colour_pairs(TEXTS, 150, seed=4)


def test_every_ordered_pair_of_colours_comes_as_often() -> None:
    times = Counter((p.old, p.new) for p in colour_pairs(TEXTS, 8 * 7 * 2, seed=0))  # eight colours are named
    assert len(times) == 56 and set(times.values()) == {2}


@pytest.mark.parametrize(
    "caption",
    [
        "a bird with a red bill",
        "the eyes of this bird are red",
        "a bird with red and pointy feet",
        "a red-winged bird",
        "a reddish red bird",
        "a dark red bird",
        "an olive green bird",
        "a red blue bird",
        "a red bird with red wings",
        "a bird",
    ],
)
def test_words_that_are_left_alone(caption: str) -> None:
    with pytest.raises(ValueError, match="1 captions name 0 basic colours"):
        colour_pairs([caption], 4, seed=0)


def test_articles_follow_the_word() -> None:
    texts = ["an orange bird", "a green bird", "this one has a yellow head and a long bill"]
    new = {pair.new_caption for pair in colour_pairs(texts, 100, seed=0)}
    assert new == {
        "a green bird",
        "a yellow bird",
        "an orange bird",
        "this one has an orange head and a long bill",
        "this one has a green head and a long bill",
    }


def test_synonyms_are_words_that_training_never_had() -> None:
    training = ["a crimson bird", "an Azure-headed bird", *("charcoal " + word for word in SHADES["white"])]
    pairs = colour_pairs(TEXTS, 120, seed=1, synonyms=True, training_captions=training)
    words = {pair.word for pair in pairs}
    assert not words & {"crimson", "azure", "charcoal"} and "scarlet" in words and "pewter" in words
    for pair in pairs:
        assert pair.word in SHADES[pair.new] and pair.word in pair.new_caption and pair.new != "white"
    with pytest.raises(ValueError, match="synonyms need training_captions"):
        colour_pairs(TEXTS, 10, seed=0, synonyms=True)
    with pytest.raises(ValueError, match="to words that no training caption holds"):
        colour_pairs(TEXTS, 10, 0, True, [" ".join(word for shades in SHADES.values() for word in shades)])
    with pytest.raises(ValueError, match="count is 0"):
        colour_pairs(TEXTS, 0, seed=0)


# --- the measure --------------------------------------------------------------------------------------------


def test_lab_of_known_colours() -> None:
    """Values of the sRGB primaries under D65, to the precision at which they are published."""
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    rgb = torch.tensor(list(known)).float() / 127.5 - 1
    torch.testing.assert_close(
        to_lab(rgb[:, :, None, None])[..., 0, 0], torch.tensor(list(known.values())), atol=0.02, rtol=0
    )
    with pytest.raises(ValueError, match="give"):
        to_lab(torch.zeros(3, 8, 8))


def test_the_foreground_is_the_disc() -> None:
    images = torch.full((1, 3, 64, 64), 0.8)
    images[:, :, 20:44, 24:48] = torch.tensor([0.7, -0.8, -0.7])[:, None, None]
    weights = foreground(images)[0]
    assert weights.shape == (32, 32) and float(weights.sum()) == pytest.approx(1)
    assert float(weights[9:23, 11:25].sum()) > 0.95  # a pixel more at each side: the border colours are blurred
    share = colour_share(images)
    assert share.shape == (1, 11) and BASIC[int(share.argmax())] == "red" and float(share.max()) > 0.7
    assert float(share.sum()) == pytest.approx(1)
    plain = colour_share(torch.full((1, 3, 16, 16), 1.0))  # nothing but border: still an answer
    assert BASIC[int(plain.argmax())] == "white"


def test_discs_move_to_their_colour_and_not_to_others() -> None:
    rng = np.random.default_rng(0)
    names = [tuple(rng.choice(COLOURS, 2, replace=False).tolist()) for _ in range(200)]
    measure = measure_pairs(discs([a for a, _ in names], 1), discs([b for _, b in names], 1))
    figures = pair_figures(measure, names)
    assert figures["moved"] > 0.98 and figures["whole_foreground"] > 0.95
    assert 0.44 < figures["shuffled_control"] < 0.56
    assert figures["pairs"] == 200 and set(figures["to"]) == set(figures["from"]) == set(COLOURS)
    assert figures["gained_over_others"] > 0.95
    backwards = pair_figures(measure, [(b, a) for a, b in names])
    assert backwards["moved"] == pytest.approx(1 - figures["moved"])


def test_a_word_that_only_takes_the_old_colour_away_gains_nothing() -> None:
    """The margin moves, since the old colour goes; the new colour gains no more than any other does."""
    rng = np.random.default_rng(4)
    names = [tuple(rng.choice(COLOURS, 2, replace=False).tolist()) for _ in range(200)]
    anything = [str(rng.choice([c for c in COLOURS if c != a])) for a, _ in names]
    figures = pair_figures(measure_pairs(discs([a for a, _ in names], 1), discs(anything, 1)), names)
    assert figures["moved"] > 0.8 and 0.4 < figures["gained_over_others"] < 0.6
    assert 0.4 < figures["shuffled_control"] < 0.6


def test_pictures_that_do_not_change_give_one_half() -> None:
    names = [("red", "blue"), ("white", "black"), ("brown", "pink")]
    images = discs([a for a, _ in names], 2)
    figures = pair_figures(measure_pairs(images, images), names)
    assert figures["moved"] == figures["shuffled_control"] == figures["whole_foreground"] == 0.5
    assert figures["gained_over_others"] == 0.5
    with pytest.raises(ValueError, match="one shape"):
        measure_pairs(images, images[:2])
    with pytest.raises(ValueError, match="give one a pair"):
        pair_figures(measure_pairs(images, images), names[:1])


@pytest.mark.parametrize("part", ["crown", "breast", "wing"])
def test_one_part_of_a_painted_bird_is_enough(part: str) -> None:
    before, after, names = [], [], []
    for i in range(30):
        rng = np.random.default_rng((7, i))
        bird = random_painting(rng, held_out=False)
        old = getattr(bird, part).colour
        new = str(rng.choice([c for c in COLOURS if c != old]))
        other = dataclasses.replace(bird, **{part: Part(new, PALETTE[new][0])})
        before.append(draw(bird, 76))
        after.append(draw(other, 76))
        names.append((old, new))
    measure = measure_pairs(centre_crops(np.stack(before)), centre_crops(np.stack(after)))
    assert pair_figures(measure, names)["moved"] > 0.95


def test_photos_are_told_apart_by_the_colours_that_captions_name() -> None:
    names = ["red", "blue", "white", "black"] * 10
    captions = [[f"a {name} bird"] * 3 for name in names]
    told = photos_told_apart(discs(names, 3), captions, count=120)
    assert told["pairs"] == 120 and told["told_apart"] > 0.95 and set(told["colours"]) == set(names)
    wrong = photos_told_apart(discs([*names[1:], names[0]], 3), captions, count=120)
    assert wrong["told_apart"] < 0.6
    assert photos_told_apart(discs(["red"], 0), [["a bird"]]) == {}


def test_real_photos_are_told_apart(shared: Path) -> None:
    """Real birds, whose named colours are small, shaded and dull: far above chance (one half)."""
    folder = shared / "cub" / "crops" / "train"
    if not folder.is_dir():
        pytest.skip("the real photos are not here")
    import json

    from PIL import Image

    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    photos = [Image.open(folder / line["file_name"]).convert("RGB").resize((64, 64)) for line in lines]
    images = torch.from_numpy(np.stack([np.asarray(p) for p in photos])).permute(0, 3, 1, 2) / 127.5 - 1
    assert photos_told_apart(images, [line["text"] for line in lines], count=2000)["told_apart"] > 0.7


# --- a pipeline ---------------------------------------------------------------------------------------------


class _Painter:
    """Stands in for a pipeline: embeds a caption as its first colour, and paints a disc of it, or of none."""

    def __init__(self, listens: bool) -> None:
        self.listens = listens

    def encode(self, captions: list[str]) -> Tensor:
        found = [next(i for i, c in enumerate(BASIC) if any(c in colours_in(w) for w in t.split())) for t in captions]
        return torch.tensor(found)[:, None]

    def paint(self, embeddings: Tensor, seeds: list[int], truncation: float) -> list[Tensor]:
        names = [BASIC[int(e)] if self.listens else "grey" for e in embeddings.flatten()]
        return [torch.cat([discs([name], seed) for name, seed in zip(names, seeds, strict=True)])]


def test_a_painter_that_listens_and_one_that_does_not() -> None:
    texts = [f"a {size} {colour} bird" for colour in BASIC for size in ("small", "large", "round")]
    for listens, share in ((True, 1.0), (False, 0.5)):
        figures, sheets = colour_word_figures(_Painter(listens), texts, count=60, seed=5, training_captions=None)  # type: ignore[arg-type]
        assert set(figures) == {"words"} and figures["words"]["pairs"] == 60
        assert figures["words"]["moved"] == pytest.approx(share, abs=0.02)
        assert 0.35 < figures["words"]["shuffled_control"] < 0.65
        assert [name for name, _ in sheets] == ["words"] and sheets[0][1].width > 700


def test_figures_of_a_checkpoint(tmp_path: Path) -> None:
    pipe = tiny_pipeline(stages=1)
    figures, sheets = colour_word_figures(pipe, TEXTS, count=26, seed=0, training_captions=TEXTS)
    assert set(figures) == {"words", "synonyms"} == {name for name, _ in sheets}
    for name in figures:
        assert figures[name]["pairs"] == 26 and 0 <= figures[name]["moved"] <= 1
    assert "crimson" in figures["synonyms"]["shades"]
    assert colour_word_figures(pipe, TEXTS, count=26, seed=0, training_captions=TEXTS)[0] == figures
    assert colour_word_figures(pipe, ["a bird"], count=26, seed=0, training_captions=TEXTS) == ({}, [])
