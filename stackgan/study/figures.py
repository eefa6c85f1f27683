"""Functions shared by the studies: optional packages, style of figures, atomic files, printed tables."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stackgan.io.files import write_atomic
from stackgan.latent.flows import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DIGIT_COLOURS",
    "GRID",
    "INK",
    "Clock",
    "blank",
    "colour_of",
    "dress",
    "new_figure",
    "optional",
    "print_table",
    "save_figure",
    "tiles",
    "write_numbers",
]

INK, GRID = "#22313F", "#E4E8EC"
COLOURS = {
    "data": "#22313F",
    "gaussian": "#98A2AD",
    "vae": "#5C6B7A",
    "ae": "#DD6E42",
    "p": "#3B6FB6",
    "q": "#DD6E42",
    "other": "#3E9C78",
}
FAMILY_COLOURS = (  # of flow families, in the order of their table
    "#D9A62E", "#DD6E42", "#3E9C78", "#8A5FA8", "#C2628F", "#3B6FB6", "#8C6248", "#3BB3C2", "#B5B12C", "#7A828A",
)  # fmt: skip
DIGIT_COLOURS = (
    "#3B6FB6", "#DD6E42", "#3E9C78", "#C0444E", "#8A5FA8", "#8C6248", "#D678B0", "#7A828A", "#B5B12C", "#3BB3C2",
)  # fmt: skip


def colour_of(model: str) -> str:
    """Colour of a model in all figures: by name from :data:`COLOURS`, for flow families by position in the table."""
    if model in FAMILIES:
        return FAMILY_COLOURS[list(FAMILIES).index(model) % len(FAMILY_COLOURS)]
    return COLOURS.get(model, COLOURS["other"])


def optional(module: str) -> Any:
    """Import a module of the ``study`` extra.

    Raises:
        ValueError: the module is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        package = {"sklearn": "scikit-learn"}.get(module.split(".")[0], module.split(".")[0])
        raise ValueError(f'studies need {package}, which is not installed: pip install "stackgan[study]"') from None


def new_figure(
    rows: int, columns: int, size: tuple[float, float], title: str = "", **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """Create a figure of ``size`` inches and its axes (rows, columns), without pyplot's global state.

    Args:
        options: passed to ``Figure.subplots`` (``sharex``, ``width_ratios``, …).
    """
    figure: Figure = optional("matplotlib.figure").Figure(figsize=size, dpi=110, layout="constrained")
    axes: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **options)
    if title:
        figure.suptitle(title, fontsize=13, color=INK, fontweight="bold")
    return figure, axes


def dress(axes: Axes, title: str = "", x: str = "", y: str = "", *, grid: str = "y") -> Axes:
    """Set title and labels in the studies' style; ``grid`` is ``x``, ``y``, ``both``, or empty for none."""
    axes.set_title(title, fontsize=10.5, color=INK)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#A9B2BB")
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    return axes


def blank(axes: Axes, title: str = "") -> Axes:
    """Axes for an image: without ticks and frame."""
    dress(axes, title, "", "", grid="")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def tiles(images: Tensor, columns: int) -> NDArray[np.float32]:
    """Images (N, H, W) in [0, 1] -> one sheet with margins of 1 pixel; N is a multiple of ``columns``."""
    count, height, width = images.shape
    padded = np.full((count, height + 1, width + 1), 0.12, np.float32)
    padded[:, :height, :width] = images.detach().clamp(0, 1).numpy()
    sheet = padded.reshape(count // columns, columns, height + 1, width + 1).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(sheet.reshape(count // columns * (height + 1), columns * (width + 1))[:-1, :-1])


def save_figure(figure: Figure, file: Path) -> None:
    """Write a PNG atomically; creates its folder."""
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor="white", metadata={"Software": None})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, content.getvalue())


def write_numbers(out: Path, numbers: Mapping[str, Any]) -> None:
    """Write ``numbers.json`` to ``out`` atomically.

    Raises:
        ValueError: a number is infinite or not a number.
    """
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "numbers.json", text.encode())


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
    """Print a table with right-aligned numbers.

    >>> print_table("lengths", ["what", "m"], [["rope", 2.5], ["ladder", 10.0]])
    lengths
      what         m
      rope     2.500
      ladder  10.000
    """
    cells = [list(header)] + [
        [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(title)
    for row in cells:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  " + "  ".join([row[0].ljust(widths[0]), *rest]).rstrip())


class Clock:
    """Measures the seconds since its creation."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self.start, 1)
