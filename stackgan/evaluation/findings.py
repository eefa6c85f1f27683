"""What a section of the report consists of: figures for programs; tables, sheets and words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

__all__ = ["Card", "Findings", "NotMeasured", "Sheet", "Table", "percent"]


class NotMeasured(Exception):
    """Raised by a section that cannot be measured here; the message gives the reason and what to do about it."""


@dataclass(frozen=True)
class Table:
    """``header``: the first cell names the rows; ``rows``: a label, then a cell for each further column."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""


@dataclass(frozen=True)
class Sheet:
    """An image of many images; written as ``name``.png and, where ``shown``, put on the page."""

    name: str
    title: str
    image: Image.Image
    shown: bool = True


@dataclass(frozen=True)
class Card:
    """One image with its caption as text."""

    image: Image.Image
    caption: str


@dataclass(frozen=True)
class Findings:
    """What one section found.

    Attributes:
        figures: all of it, as JSON.
        protocol: how it was measured, in words.
        tables, verdict, headlines: the figures for people; headlines (label, value) stand at the top of the page.
        sheets, cards, drawings: images; drawings are SVG.
    """

    figures: Mapping[str, Any]
    protocol: str
    tables: Sequence[Table] = ()
    verdict: str = ""
    headlines: Sequence[tuple[str, str]] = ()
    sheets: Sequence[Sheet] = ()
    cards: Sequence[Card] = ()
    drawings: Sequence[str] = ()


def percent(value: float | None, digits: int = 1) -> str:
    """A share (0–1) for a table.

    >>> percent(0.1234), percent(0.1234, 0), percent(None)
    ('12.3 %', '12 %', '–')
    """
    return "–" if value is None else f"{100 * value:.{digits}f} %"
