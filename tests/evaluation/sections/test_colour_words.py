"""The colour-word test, on images whose colours are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_prep.painted import (
    COLOURS,
    PALETTE,
    Part,
    draw,
    random_bird,
)
from stackgan.captions.lexicon import colours_in
from stackgan.evaluation.colour_measure import COLOUR_ORDER, measure_pairs
from stackgan.evaluation.image_source import ImageSource
from stackgan.evaluation.sections.colour_words import colour_word_figures, pair_figures
from stackgan.images.pixels import centre_crops
from tests.evaluation.discs import discs
from tests.tiny import tiny_pipeline

TEXTS = [
    f"a {size} {one} bird with {two} wings"
    for size in ("small", "large")
    for one in ("red", "gray", "orange", "blue", "violet")
    for two in ("black", "white", "brown")
]


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
    """The margin increases because the old colour disappears; the new colour gains no more than others."""
    rng = np.random.default_rng(4)
    names = [tuple(rng.choice(COLOURS, 2, replace=False).tolist()) for _ in range(200)]
    anything = [str(rng.choice([c for c in COLOURS if c != a])) for a, _ in names]
    figures = pair_figures(measure_pairs(discs([a for a, _ in names], 1), discs(anything, 1)), names)
    assert figures["moved"] > 0.8 and 0.4 < figures["gained_over_others"] < 0.6
    assert 0.4 < figures["shuffled_control"] < 0.6


def test_images_that_do_not_change_give_one_half() -> None:
    names = [("red", "blue"), ("white", "black"), ("brown", "pink")]
    images = discs([a for a, _ in names], 2)
    figures = pair_figures(measure_pairs(images, images), names)
    assert figures["moved"] == figures["shuffled_control"] == figures["whole_foreground"] == 0.5
    assert figures["gained_over_others"] == 0.5
    with pytest.raises(ValueError, match="the same shape"):
        measure_pairs(images, images[:2])
    with pytest.raises(ValueError, match="give one per pair"):
        pair_figures(measure_pairs(images, images), names[:1])


@pytest.mark.parametrize("part", ["crown", "breast", "wing"])
def test_one_part_of_a_painted_bird_is_enough(part: str) -> None:
    before, after, names = [], [], []
    for i in range(30):
        rng = np.random.default_rng((7, i))
        bird = random_bird(rng, held_out=False)
        old = getattr(bird, part).colour
        new = str(rng.choice([c for c in COLOURS if c != old]))
        other = dataclasses.replace(bird, **{part: Part(new, PALETTE[new][0])})
        before.append(draw(bird, 76))
        after.append(draw(other, 76))
        names.append((old, new))
    measure = measure_pairs(centre_crops(np.stack(before)), centre_crops(np.stack(after)))
    assert pair_figures(measure, names)["moved"] > 0.95


class _Painter:
    """Replacement of an image source: embeds a caption as its first colour, and draws a disc of it, or of grey."""

    def __init__(self, follows: bool) -> None:
        self.follows = follows

    def encode(self, captions: list[str]) -> Tensor:
        found = [{colour for word in text.split() for colour in colours_in(word)} for text in captions]
        return torch.tensor([min(map(COLOUR_ORDER.index, colours)) for colours in found])[:, None]

    def images(self, embeddings: Tensor, seeds: list[int]) -> Tensor:
        names = [COLOUR_ORDER[int(e)] if self.follows else "grey" for e in embeddings.flatten()]
        return torch.cat([discs([name], seed) for name, seed in zip(names, seeds, strict=True)])


def test_a_generator_that_follows_colour_words_and_one_that_does_not() -> None:
    texts = [f"a {size} {colour} bird" for colour in COLOUR_ORDER for size in ("small", "large", "round")]
    for follows, share in ((True, 1.0), (False, 0.5)):
        figures, sheets = colour_word_figures(_Painter(follows), texts, count=60, seed=5, training_captions=None)  # type: ignore[arg-type]
        assert set(figures) == {"words"} and figures["words"]["pairs"] == 60
        assert figures["words"]["moved"] == pytest.approx(share, abs=0.02)
        assert 0.35 < figures["words"]["shuffled_control"] < 0.65
        assert [name for name, _ in sheets] == ["words"] and sheets[0][1].width > 700


def test_figures_of_a_checkpoint(tmp_path: Path) -> None:
    pipe = tiny_pipeline(stages=1)
    figures, sheets = colour_word_figures(ImageSource(pipe), TEXTS, count=26, seed=0, training_captions=TEXTS)
    assert set(figures) == {"words", "synonyms"} == {name for name, _ in sheets}
    for name in figures:
        assert figures[name]["pairs"] == 26 and 0 <= figures[name]["moved"] <= 1
    assert "crimson" in figures["synonyms"]["shades"]
    assert colour_word_figures(ImageSource(pipe), TEXTS, count=26, seed=0, training_captions=TEXTS)[0] == figures
    assert colour_word_figures(ImageSource(pipe), ["a bird"], count=26, seed=0, training_captions=TEXTS) == ({}, [])
