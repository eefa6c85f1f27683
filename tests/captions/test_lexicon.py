"""Captions in other words: the tables, what is drawn from them, and what is held out."""

import re

import numpy as np
import pytest

from stackgan.captions.lexicon import (
    BASIC_COLOURS,
    HELD_OUT,
    MEANINGS,
    SHADES,
    Paraphraser,
    basic_colours,
    colours_in,
    replaced,
)

CAPTION = "A small red bird with a dark blue belly and an orange beak."


def draws(count: int, **options: object) -> list[tuple[str, str, str | None]]:
    paraphraser, random = Paraphraser(**options), np.random.default_rng(0)  # type: ignore[arg-type]
    return [drawn for _ in range(count) if (drawn := paraphraser.draw(CAPTION, random)) is not None]


def test_tables_hold_together() -> None:
    assert set(MEANINGS) >= HELD_OUT
    colours = [word for word, meaning in MEANINGS.items() if meaning.split()[-1] in BASIC_COLOURS]
    assert {MEANINGS[word].split()[-1] for word in colours} == set(BASIC_COLOURS)
    assert {MEANINGS[word].split()[-1] for word in colours if word in HELD_OUT} == set(BASIC_COLOURS)
    # Nothing is explained by words that need explaining, and no basic colour is called a synonym of another.
    assert not {part for meaning in MEANINGS.values() for part in meaning.split()} & set(MEANINGS)
    assert all(word == word.lower() and word.isascii() for word in MEANINGS)


def test_every_basic_colour_has_six_shades_of_its_meaning() -> None:
    assert set(SHADES) == set(BASIC_COLOURS) and {len(words) for words in SHADES.values()} == {6}
    for colour, words in SHADES.items():
        assert all(MEANINGS[word].split()[-1] == colour and colours_in(word) <= {colour} for word in words)
    assert SHADES["red"] == ("crimson", "scarlet", "ruby", "vermilion", "carmine", "garnet")


def test_one_word_is_said_otherwise() -> None:
    seen = set()
    for said, meant, wrong in draws(400):
        new = next(word for word in sorted(MEANINGS, key=len, reverse=True) if re.search(rf"\b{word}\b", said))
        head = MEANINGS[new].split()[-1]
        assert head in CAPTION and head in meant and MEANINGS[new] in meant
        assert said != meant and len(said.split()) <= len(meant.split())
        if wrong is not None:
            assert head not in wrong.split() or (head == "blue" and "dark blue" not in wrong)
        seen.add(head)
    assert seen == {"small", "red", "bird", "blue", "belly", "orange", "beak"}


def test_a_whole_meaning_is_replaced_at_once() -> None:
    blues = {said for said, meant, _ in draws(400) if meant == CAPTION and "dark blue" not in said}
    assert "A small red bird with a navy belly and an orange beak." in blues
    assert not any("dark" in said for said in blues)


def test_held_out_words_are_never_said() -> None:
    texts = " ".join(said for said, _, _ in draws(2000))
    assert not HELD_OUT & set(re.findall(r"[a-z]+", texts))
    everything = " ".join(said for said, _, _ in draws(2000, held_out=()))
    assert "minuscule" in everything and "vermilion" in everything


def test_nothing_to_replace() -> None:
    assert Paraphraser().draw("the thing is up there", np.random.default_rng(0)) is None


@pytest.mark.parametrize("caption", ["a red bird with white wings.", "This bird is red"])
def test_sentences_around_a_caption(caption: str) -> None:
    random = np.random.default_rng(0)
    wrapped = {Paraphraser().wrap(caption, random) for _ in range(50)}
    assert len(wrapped) > 25 and all(caption.rstrip(".") in text for text in wrapped)
    thing = any(text.startswith("i saw ") for text in wrapped)
    assert thing == caption.startswith("a ")  # "i saw this bird is red" is no sentence


def test_colours_and_articles() -> None:
    assert [colour for colour, _ in basic_colours("Gray and WHITE, whitest; a red-eyed bird")] == [
        "grey",
        "white",
        "red",
    ]
    assert replaced("a red bird", (2, 5), "azure") == "an azure bird"
    assert replaced("An orange bird", (3, 9), "teal") == "A teal bird"
    assert replaced("red wings", (0, 3), "teal") == "teal wings"
