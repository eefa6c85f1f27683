"""Sequences whose items are made when they are asked for."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

__all__ = ["LazySequence"]

_T = TypeVar("_T")


class LazySequence(Sequence[_T]):
    """A sequence of ``item(0)``, ``item(1)``, …; subclasses define :meth:`item` and ``__len__``.

    A slice is a list.

    >>> class Squares(LazySequence[int]):
    ...     def __len__(self):
    ...         return 4
    ...
    ...     def item(self, number):
    ...         return number**2
    >>> squares = Squares()
    >>> squares[-1], squares[1:3], list(squares)
    (9, [1, 4], [0, 1, 4, 9])
    """

    @abstractmethod
    def item(self, number: int) -> _T:
        """Item 0 ≤ number < length."""

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> list[_T]: ...
    def __getitem__(self, place: int | slice) -> _T | list[_T]:
        if isinstance(place, slice):
            return [self.item(number) for number in range(*place.indices(len(self)))]
        number, length = operator.index(place), len(self)
        if not -length <= number < length:
            raise IndexError(f"row {number} of {length}")
        return self.item(number % length)

    def __iter__(self) -> Iterator[_T]:
        return map(self.item, range(len(self)))
