"""Pairs of captions that differ in one colour word."""

from __future__ import annotations

from collections import Counter

import pytest

from stackgan.captions.lexicon import SHADES, colours_in
from stackgan.evaluation.colour_pairs import colour_pairs

TEXTS = [
    f"a {size} {one} bird with {two} wings"
    for size in ("small", "large")
    for one in ("red", "gray", "orange", "blue", "violet")
    for two in ("black", "white", "brown")
]


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


def test_every_ordered_pair_of_colours_occurs_equally_often() -> None:
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
def test_words_that_are_kept(caption: str) -> None:
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
    with pytest.raises(ValueError, match="to words that occur in no training caption"):
        colour_pairs(TEXTS, 10, 0, True, [" ".join(word for shades in SHADES.values() for word in shades)])
    with pytest.raises(ValueError, match="count is 0"):
        colour_pairs(TEXTS, 0, seed=0)
