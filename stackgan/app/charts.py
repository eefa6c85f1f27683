"""Plots as inline SVG, coloured by ``page.css``; their labels are HTML, so that they stay legible on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["bars", "intervals"]

HEIGHT = 100.0


def bars(values: Sequence[float], name: str, title: str, description: str) -> str:
    """Bars of non-negative values, from left to right.

    Args:
        name: unique on the page, for the ids of the title and the description.

    Raises:
        ValueError: no values.
    """
    top = _checked(max(values, default=0.0), values)
    shapes = [
        f'<rect class="bar" x="{place + 0.1:g}" width="0.8" y="{HEIGHT * (1 - value / top):.2f}" '
        f'height="{HEIGHT * value / top:.2f}"/>'
        for place, value in enumerate(values)
    ]
    return _plot(shapes, len(values), (f"{top:.2g}", "0"), name, title, description)


def intervals(centres: Sequence[float], radii: Sequence[float], name: str, title: str, description: str) -> str:
    """An interval centre ± radius for each place, over the band ±1 of the standard normal distribution.

    Raises:
        ValueError: no values.
    """
    reach = max((abs(centre) + radius for centre, radius in zip(centres, radii, strict=True)), default=0.0)
    top = _checked(max(reach, 1.25), centres)

    def y(value: float) -> float:
        return HEIGHT / 2 * (1 - value / top)

    shapes = [f'<rect class="band" x="0" width="{len(centres)}" y="{y(1):.2f}" height="{y(-1) - y(1):.2f}"/>']
    for place, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        low, high = y(centre - radius), y(centre + radius)
        shapes.append(
            f'<rect class="range" x="{place + 0.15:g}" width="0.7" y="{high:.2f}" height="{low - high:.2f}"/>'
            f'<path class="centre" d="M{place:g} {y(centre):.2f}h1"/>'
        )
    return _plot(shapes, len(centres), (f"{top:.2g}", "0", f"−{top:.2g}"), name, title, description)


def _checked(top: float, values: Sequence[float]) -> float:
    if not values:
        raise ValueError("nothing to plot: no values were given")
    return top or 1.0


def _plot(shapes: Sequence[str], width: int, marks: Sequence[str], name: str, title: str, description: str) -> str:
    scale = "".join(f"<span>{mark}</span>" for mark in marks)
    return (
        f'<div class="plot"><div class="scale" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 0 {width} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{"".join(shapes)}</svg></div>'
    )
