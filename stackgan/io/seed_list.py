"""Lists of seeds as text."""

from __future__ import annotations

__all__ = ["parse_seeds"]


def parse_seeds(text: str, most: int) -> list[int]:
    """Parse ``0-7`` or ``1,5,9`` or a combination, in order.

    Raises:
        ValueError: a part is neither a seed nor a range, or a range has more than ``most`` seeds.

    >>> parse_seeds("0-2, 7", most=100)
    [0, 1, 2, 7]
    >>> parse_seeds("-1", most=100)
    Traceback (most recent call last):
        ...
    ValueError: seeds are integers from 0, such as 0-7 or 1,5,9
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError("seeds are integers from 0, such as 0-7 or 1,5,9")
        if int(last or first) - int(first) >= most:
            raise ValueError(f"more than {most} seeds")
        seeds.extend(range(int(first), int(last or first) + 1))
    return seeds
