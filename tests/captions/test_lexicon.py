"""The lexicon: consistency of its tables, and colours in captions."""

from data_prep.painted_parameters import COLOURS
from stackgan.captions.lexicon import BASIC_COLOURS, HELD_OUT, MEANINGS, SHADES, SPELLINGS, colours_in
from tests.synonyms import basic_colours


def test_tables_hold_together() -> None:
    assert set(MEANINGS) >= HELD_OUT
    colours = [word for word, meaning in MEANINGS.items() if meaning.split()[-1] in BASIC_COLOURS]
    assert {MEANINGS[word].split()[-1] for word in colours} == set(BASIC_COLOURS)
    assert {MEANINGS[word].split()[-1] for word in colours if word in HELD_OUT} == set(BASIC_COLOURS)
    # Meanings use no word that has an entry itself, and no basic colour is a synonym of another.
    assert not {part for meaning in MEANINGS.values() for part in meaning.split()} & set(MEANINGS)
    assert all(word == word.lower() and word.isascii() for word in MEANINGS)


def test_every_basic_colour_has_six_shades_of_its_meaning() -> None:
    assert set(SHADES) == set(BASIC_COLOURS) and {len(words) for words in SHADES.values()} == {6}
    for colour, words in SHADES.items():
        assert all(MEANINGS[word].split()[-1] == colour and colours_in(word) <= {colour} for word in words)
    assert SHADES["red"] == ("crimson", "scarlet", "ruby", "vermilion", "carmine", "garnet")


def test_painted_birds_have_the_basic_colours() -> None:
    assert set(COLOURS) == set(BASIC_COLOURS) == {*SPELLINGS.values()}


def test_basic_colours_of_a_caption() -> None:
    assert [colour for colour, _ in basic_colours("Gray and WHITE, whitest; a red-eyed bird")] == [
        "grey",
        "white",
        "red",
    ]
