"""A grid of images on the page: captions × seeds × truncation, two of them along the axes; without Gradio.

Invalid input raises ``ValueError`` with a sentence that can be shown on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from stackgan.app.image_request import MAX_PAGE_SEED, MAX_TRUNCATION, checked_caption, checked_number
from stackgan.app.painting import OutOfDate
from stackgan.generation.image_settings import ImageSettings
from stackgan.images import png
from stackgan.images.grid import labelled_grid
from stackgan.io.seed_list import parse_seeds
from stackgan.pipeline import StackGANPipeline
from stackgan.version import __version__

__all__ = ["AXES", "MAX_CELLS", "CheckedGrid", "GridRequest", "GridRow", "generate_grid", "grid_png"]

MAX_CELLS = 64
CAPTIONS, SEEDS, TRUNCATION = AXES = ("Captions", "Seeds", "Variety")  # what can go along an axis


@dataclass(frozen=True)
class GridRequest:
    """A grid as entered: see :meth:`checked`.

    Attributes:
        captions: one on each line.
        seeds: such as ``1-4`` or ``1, 5, 9``.
        truncations: such as ``0.5, 0.8, 1``.
        x, y: which of ``AXES`` go along the rows and down the columns; the third has its first value everywhere.
    """

    captions: str
    seeds: str
    truncations: str
    x: str = SEEDS
    y: str = CAPTIONS

    def checked(self) -> CheckedGrid:
        """The values of each axis.

        Raises:
            ValueError: a list is empty or not valid, both axes are the same, or there are too many cells.
        """
        lines = [line for line in (self.captions or "").splitlines() if line.strip()]
        if not lines:
            raise ValueError("Write captions first, one on each line.")
        for axis, name in ((self.x, "across"), (self.y, "down")):
            if axis not in AXES:
                raise ValueError(f"{axis!r} cannot go {name}: choose {', '.join(AXES[:-1])} or {AXES[-1]}.")
        if self.x == self.y:
            raise ValueError(f"{self.x} go both across and down: choose two different ones.")
        grid = CheckedGrid(
            tuple(dict.fromkeys(checked_caption(line, None) for line in lines)),
            tuple(dict.fromkeys(_seeds(self.seeds))),
            tuple(dict.fromkeys(_truncations(self.truncations))),
            self.x,
            self.y,
        )
        if grid.cells > MAX_CELLS:
            raise ValueError(
                f"The grid has {len(grid.columns)} × {len(grid.rows)} = {grid.cells} images, and {MAX_CELLS} are the "
                f"most: take away some of the {self.x.lower()} or {self.y.lower()}."
            )
        return grid


@dataclass(frozen=True)
class CheckedGrid:
    """Values of each axis, without repetitions."""

    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    truncations: tuple[float, ...]
    x: str
    y: str

    @property
    def columns(self) -> list[str]:
        """Label of each column."""
        return self._labels(self.x)

    @property
    def rows(self) -> list[str]:
        """Label of each row."""
        return self._labels(self.y)

    @property
    def cells(self) -> int:
        return len(self.columns) * len(self.rows)

    @property
    def title(self) -> str:
        """What the axes are, and the value of the third."""
        (fixed,) = set(AXES) - {self.x, self.y}
        return f"{self.y} down, {self.x.lower()} across; {self._labels(fixed)[0]}"

    def values(self, row: int, column: int) -> tuple[str, int, float]:
        """Caption, seed and truncation of a cell."""
        place = {self.x: column, self.y: row}
        return (
            self.captions[place.get(CAPTIONS, 0)],
            self.seeds[place.get(SEEDS, 0)],
            self.truncations[place.get(TRUNCATION, 0)],
        )

    def settings(self, row: int, column: int, pipe: StackGANPipeline) -> ImageSettings:
        """Settings of the image in a cell."""
        return ImageSettings(*self.values(row, column), pipe.fingerprint, pipe.name)

    def _labels(self, axis: str) -> list[str]:
        if axis == CAPTIONS:
            return list(self.captions)
        if axis == SEEDS:
            return [f"seed {seed}" for seed in self.seeds]
        return [f"variety {truncation:g}" for truncation in self.truncations]


@dataclass(frozen=True)
class GridRow:
    """Images of one row, of one stage."""

    number: int
    size: int
    images: list[Image.Image]


def generate_grid(
    pipe: StackGANPipeline,
    grid: CheckedGrid,
    current: Callable[[], bool] = lambda: True,
    sizes: tuple[int, ...] | None = None,
) -> Iterator[GridRow]:
    """Rows of the coarsest stage, if the tree has several, and then those of the finest.

    Args:
        current: is called before each image.
        sizes: of the stages, instead of these.

    Raises:
        OutOfDate: ``current`` returned False.
    """
    embeddings = {caption: pipe.encode([caption]) for caption in grid.captions}
    for size in sizes or tuple(dict.fromkeys((pipe.sizes[0], pipe.sizes[-1]))):
        for row in range(len(grid.rows)):
            images = []
            for column in range(len(grid.columns)):  # one at a time, as everywhere on the page
                if not current():
                    raise OutOfDate
                caption, seed, truncation = grid.values(row, column)
                out = pipe(embeddings=embeddings[caption], seeds=seed, truncation=truncation, size=size)
                images.append(out.images[0])
            yield GridRow(row, size, images)


def grid_png(pipe: StackGANPipeline, grid: CheckedGrid) -> bytes:
    """The whole grid in the finest stage, with its labels, as a PNG; its text chunks have all values."""
    images = [row.images for row in generate_grid(pipe, grid, sizes=(pipe.sizes[-1],))]
    sheet = labelled_grid(images, grid.rows, grid.columns, grid.title)
    facts = {
        "Software": f"stackgan {__version__}",
        "grid": grid.title,
        "captions": "\n".join(grid.captions),
        "seeds": ", ".join(map(str, grid.seeds)),
        "truncation": ", ".join(f"{value:g}" for value in grid.truncations),
        "checkpoint": pipe.fingerprint,
    }
    return png.png_bytes(sheet, facts)


def _seeds(text: str) -> list[int]:
    try:
        seeds = parse_seeds((text or "").strip().rstrip(","), MAX_CELLS)
    except ValueError as error:
        raise ValueError(f"The seeds are {text!r}: {error}.") from None
    if max(seeds) > MAX_PAGE_SEED:
        raise ValueError(f"The seed is {max(seeds)}: the largest is {MAX_PAGE_SEED}.")
    return seeds


def _truncations(text: str) -> list[float]:
    parts = (text or "").strip().rstrip(",").split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"The variety is {text!r}: write numbers from 0 to 2, such as 0.5, 0.8, 1.") from None
    return [checked_number("The variety", value, 0, MAX_TRUNCATION) for value in values]
