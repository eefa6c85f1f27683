"""Contents of a report's section: figures for JSON; tables, image sheets and text for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

__all__ = ["Card", "Findings", "NotMeasured", "Sheet", "Table", "percent"]


class NotMeasured(Exception):
    """Raised by a section that cannot be measured; the message contains the reason and what to do."""


@dataclass(frozen=True)
class Table:
    """``header``: the first cell names the rows; ``rows``: a label, then a cell for each further column."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""


@dataclass(frozen=True)
class Sheet:
    """A sheet of images; written as ``name``.png, and included in the page if ``shown``."""

    name: str
    title: str
    image: Image.Image
    shown: bool = True


@dataclass(frozen=True)
class Card:
    """An image with its caption as text."""

    image: Image.Image
    caption: str


@dataclass(frozen=True)
class Findings:
    """Results of one section.

    Attributes:
        figures: all results, as JSON.
        protocol: description of the measurement.
        tables, conclusion, headlines: the results for readers; headlines (label, value) are at the top of the page.
        sheets, cards, drawings: images; drawings are SVG.
    """

    figures: Mapping[str, Any]
    protocol: str
    tables: Sequence[Table] = ()
    conclusion: str = ""
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
