"""Lists of seeds as text."""

import pytest

from stackgan.io.seed_list import parse_seeds


def test_seeds_are_read_in_order() -> None:
    assert parse_seeds("3,0-2, 7 - 8", 3) == [3, 0, 1, 2, 7, 8]


@pytest.mark.parametrize("text", ["", "1,", "a", "-1", "3-2", "1-", "1.5"])
def test_what_is_no_list_of_seeds(text: str) -> None:
    with pytest.raises(ValueError, match="such as 0-7 or 1,5,9"):
        parse_seeds(text, 10)


def test_a_range_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="more than 10 seeds"):
        parse_seeds("0-10", 10)
