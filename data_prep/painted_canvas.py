"""Anti-aliased canvas: masks of round shapes and polygons, blending of colours through masks, curves.

Round shapes are signed distances evaluated at the pixels; shapes with corners are polygons that Pillow fills at
several times the resolution. Lengths are fractions of the image's side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["Array", "Canvas", "Point", "ellipse", "lit", "mix", "ribbon", "shade", "smooth_union", "spline"]

Array = np.ndarray
Point = tuple[float, float]


class Canvas:
    """An image, and methods for masks and blending."""

    def __init__(self, side: int) -> None:
        self.side = side
        centres = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
        self.x: Array = np.broadcast_to(centres[None, :], (side, side))
        self.y: Array = np.broadcast_to(centres[:, None], (side, side))
        self.pixels: Array = np.zeros((side, side, 3), np.float32)
        self._oversampling = 8 if side <= 128 else 4

    def inside(self, distance: Array, softness: float = 0.0) -> Array:
        """Coverage of a signed distance (negative inside), with an edge at least one pixel wide."""
        width = max(1.0 / self.side, softness)
        return np.clip(0.5 - distance / width, 0.0, 1.0).astype(np.float32)

    def polygon(self, points: Sequence[Point]) -> Array:
        """Coverage of a polygon."""
        mask = np.zeros((self.side, self.side), np.float32)
        xs = [p[0] * self.side for p in points]
        ys = [p[1] * self.side for p in points]
        left, right = max(0, math.floor(min(xs)) - 1), min(self.side, math.ceil(max(xs)) + 1)
        top, bottom = max(0, math.floor(min(ys)) - 1), min(self.side, math.ceil(max(ys)) + 1)
        if left >= right or top >= bottom:
            return mask
        k = self._oversampling
        tile = Image.new("L", ((right - left) * k, (bottom - top) * k))
        corners = [((x - left) * k - 0.5, (y - top) * k - 0.5) for x, y in zip(xs, ys, strict=True)]
        ImageDraw.Draw(tile).polygon([(round(x), round(y)) for x, y in corners], fill=255)
        mask[top:bottom, left:right] = np.asarray(tile.reduce(k), np.float32) / np.float32(255)
        return mask

    def capsule(self, a: Point, b: Point, start: float, end: float) -> Array:
        """Signed distance to a stroke from a to b with half-width from start to end."""
        px, py = self.x - np.float32(a[0]), self.y - np.float32(a[1])
        dx, dy = b[0] - a[0], b[1] - a[1]
        along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
        return np.hypot(px - along * dx, py - along * dy) - (start + (end - start) * along)

    def paint(self, mask: Array, rgb: Array | Sequence[float], alpha: float = 1.0) -> None:
        """Blend a colour, constant or per pixel, through a mask."""
        weight = (mask * np.float32(alpha))[..., None]
        self.pixels += weight * (np.asarray(rgb, np.float32) - self.pixels)


def lit(rgb: Sequence[float], light: Array) -> Array:
    """Apply light to a colour: 1 for no change, below 1 towards black, above 1 towards white."""
    base = np.asarray(rgb, np.float32)
    dark = np.minimum(light, 1.0)[..., None].astype(np.float32)
    bright = np.maximum(light - 1.0, 0.0)[..., None].astype(np.float32)
    lit: Array = base * dark + (255.0 - base) * bright
    return lit


def shade(rgb: Sequence[float], factor: float) -> tuple[float, float, float]:
    """A colour made darker (factor below 1) or lighter (above 1)."""
    if factor <= 1.0:
        return (rgb[0] * factor, rgb[1] * factor, rgb[2] * factor)
    t = factor - 1.0
    return (rgb[0] + (255 - rgb[0]) * t, rgb[1] + (255 - rgb[1]) * t, rgb[2] + (255 - rgb[2]) * t)


def mix(a: Sequence[float], b: Sequence[float], t: float) -> tuple[float, float, float]:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def spline(points: Sequence[Point], closed: bool, steps: int = 7) -> list[Point]:
    """The Catmull-Rom curve through the points."""
    p = np.asarray(points, np.float64)
    n = len(p)
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    curve: list[Point] = []
    for i in range(n if closed else n - 1):
        if closed:
            a, b, c, d = p[i - 1], p[i], p[(i + 1) % n], p[(i + 2) % n]
        else:
            a, b, c, d = p[max(i - 1, 0)], p[i], p[i + 1], p[min(i + 2, n - 1)]
        quadratic, cubic = 2 * a - 5 * b + 4 * c - d, 3 * b - a - 3 * c + d
        segment = 0.5 * (2 * b + (c - a) * t + quadratic * t**2 + cubic * t**3)
        curve.extend((float(x), float(y)) for x, y in segment)
    if not closed:
        curve.append((float(p[-1][0]), float(p[-1][1])))
    return curve


def ribbon(points: Sequence[Point], start: float, end: float) -> list[Point]:
    """The outline of a stroke along a curve with half-width from start to end."""
    p = np.asarray(points, np.float64)
    tangent = np.gradient(p, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(tangent, axis=1)[:, None], 1e-9)
    width = np.linspace(start, end, len(p))[:, None]
    outline = np.concatenate([p + normal * width, (p - normal * width)[::-1]])
    return [(float(x), float(y)) for x, y in outline]


def smooth_union(a: Array, b: Array, k: float) -> Array:
    """Union of two signed distances with a fillet of radius about k."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0.0, 1.0)
    union: Array = b + (a - b) * h - k * h * (1.0 - h)
    return union


def ellipse(x: Array, y: Array, a: float, b: float) -> Array:
    """First-order signed distance to an axis-aligned ellipse."""
    k = np.hypot(x / a, y / b)
    slope = np.hypot(x / (a * a), y / (b * b))
    distance: Array = k * (k - 1.0) / np.maximum(slope, 1e-6)
    return distance
