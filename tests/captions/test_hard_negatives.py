"""Word classes are inferred from the captions alone; a swap exchanges two words and keeps all others."""

import re
from collections import Counter

import numpy as np
import pytest

from data_prep.painted import random_bird
from data_prep.painted_captions import captions as captions_of
from data_prep.painted_parameters import COLOURS
from stackgan.captions.hard_negatives import FUNCTION_WORDS, WordSwapper, swapped_captions


@pytest.fixture(scope="module")
def captions() -> list[str]:
    draws = np.random.default_rng(0)
    return [caption for _ in range(400) for caption in captions_of(random_bird(draws, held_out=False), draws)]


@pytest.fixture(scope="module")
def swapper(captions: list[str]) -> WordSwapper:
    return WordSwapper(captions)


def _same_class(swapper: WordSwapper, word: str) -> list[str]:
    """Words of the same class, most frequent first; none for a word that does not occur in the captions."""
    number = swapper.number.get(word)
    return [] if number is None else [swapper.words[i] for i in np.flatnonzero(swapper.close[number])]


def test_colours_are_of_one_kind_and_parts_of_another(swapper: WordSwapper) -> None:
    names = {*COLOURS, "gray", "violet"}
    assert set(_same_class(swapper, "red")) >= names - {"red"} - {"gray", "violet"}
    assert not set(_same_class(swapper, "red")) & {"crown", "wings", "breast", "small", "large"}
    parts = set(_same_class(swapper, "breast"))
    assert {"crown", "wings"} <= parts and not parts & names
    assert _same_class(swapper, "zebra") == [] and _same_class(swapper, "the") == []


def test_a_swap_exchanges_two_words_and_keeps_all_others(captions: list[str], swapper: WordSwapper) -> None:
    draws = np.random.default_rng(1)
    swapped = 0
    for caption in captions[:500]:
        other = swapper.swap(caption, draws)
        if other is None:
            continue
        swapped += 1
        before, after = (re.findall(r"\w+", text.lower()) for text in (caption, other))
        assert len(before) == len(after) and before != after
        moved = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b and {a, b} != {"a", "an"}]
        assert len(moved) == 2, (caption, other)
        first, second = moved
        assert before[first] == after[second] and before[second] == after[first]
        assert not {before[first], before[second]} & FUNCTION_WORDS
        articles = Counter(word for word in before if word in ("a", "an"))
        assert articles.total() == sum(word in ("a", "an") for word in after)
    assert swapped > 300


def test_articles_follow_their_words(swapper: WordSwapper) -> None:
    found = {swapper.swap("an orange bird with a red crown", np.random.default_rng(seed)) for seed in range(20)}
    assert "a red bird with an orange crown" in found
    assert not any(text and re.search(r"\ban (red|crown)|\ba orange", text) for text in found)


def test_nothing_is_swapped_across_a_plain_and(swapper: WordSwapper) -> None:
    assert swapper.swap("its wings and tail", np.random.default_rng(0)) is None
    assert swapper.swap("", np.random.default_rng(0)) is None
    assert swapper.swap("quite another sentence", np.random.default_rng(0)) is None


def test_equal_captions_get_equal_swaps(captions: list[str]) -> None:
    doubled = captions[:50] * 2 + captions[50:]
    one, two = list(swapped_captions(doubled, seed=3)), list(swapped_captions(doubled, seed=3))
    assert one == two and one[:50] == one[50:100]
    assert one != list(swapped_captions(doubled, seed=4))
    assert list(swapped_captions([], seed=0)) == []
