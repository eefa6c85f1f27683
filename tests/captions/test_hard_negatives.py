"""Words that may be swapped are found from the captions alone; a swap changes who has what and nothing else."""

import re
from collections import Counter

import numpy as np
import pytest

from data_prep.painted import random_painting
from data_prep.painted_captions import captions as captions_of
from data_prep.painted_parameters import COLOURS
from stackgan.captions.hard_negatives import FUNCTION_WORDS, WordSwaps, swapped_captions


@pytest.fixture(scope="module")
def captions() -> list[str]:
    draws = np.random.default_rng(0)
    return [caption for _ in range(400) for caption in captions_of(random_painting(draws, held_out=False), draws)]


@pytest.fixture(scope="module")
def swaps(captions: list[str]) -> WordSwaps:
    return WordSwaps(captions)


def _alike(swaps: WordSwaps, word: str) -> list[str]:
    """Words of the same class, the most frequent first; none for a word that the captions do not use."""
    number = swaps.number.get(word)
    return [] if number is None else [swaps.words[i] for i in np.flatnonzero(swaps.close[number])]


def test_colours_are_of_one_kind_and_parts_of_another(swaps: WordSwaps) -> None:
    names = {*COLOURS, "gray", "violet"}
    assert set(_alike(swaps, "red")) >= names - {"red"} - {"gray", "violet"}
    assert not set(_alike(swaps, "red")) & {"crown", "wings", "breast", "small", "large"}
    assert {"crown", "wings"} <= set(_alike(swaps, "breast")) and not set(_alike(swaps, "breast")) & names
    assert _alike(swaps, "zebra") == [] and _alike(swaps, "the") == []


def test_a_swap_exchanges_two_words_and_keeps_all_others(captions: list[str], swaps: WordSwaps) -> None:
    draws = np.random.default_rng(1)
    swapped = 0
    for caption in captions[:500]:
        other = swaps.swap(caption, draws)
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


def test_articles_follow_their_words(swaps: WordSwaps) -> None:
    found = {swaps.swap("an orange bird with a red crown", np.random.default_rng(seed)) for seed in range(20)}
    assert "a red bird with an orange crown" in found
    assert not any(text and re.search(r"\ban (red|crown)|\ba orange", text) for text in found)


def test_nothing_is_swapped_across_a_plain_and(swaps: WordSwaps) -> None:
    assert swaps.swap("its wings and tail", np.random.default_rng(0)) is None
    assert swaps.swap("", np.random.default_rng(0)) is None
    assert swaps.swap("quite another sentence", np.random.default_rng(0)) is None


def test_equal_captions_get_equal_swaps(captions: list[str]) -> None:
    doubled = captions[:50] * 2 + captions[50:]
    one, two = swapped_captions(doubled, seed=3), swapped_captions(doubled, seed=3)
    assert one == two and one[:50] == one[50:100]
    assert one != swapped_captions(doubled, seed=4)
    assert swapped_captions([], seed=0) == []
