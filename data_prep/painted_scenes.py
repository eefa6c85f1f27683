"""Backgrounds of painted birds: sky and wire, woods and branch, water, meadow and grass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data_prep.painted_canvas import Array, Canvas, Point, mix, ribbon, shade, spline

__all__ = [
    "paint_blades",
    "paint_branch",
    "paint_meadow",
    "paint_sky",
    "paint_water",
    "paint_wire",
    "paint_woods",
]


def _gradient(canvas: Canvas, top: Sequence[float], bottom: Sequence[float], power: float = 1.0) -> None:
    t = (canvas.y**power)[..., None]
    a, b = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
    canvas.pixels[:] = a + (b - a) * t


def _blob(canvas: Canvas, x: float, y: float, rx: float, ry: float) -> Array:
    """A soft round patch."""
    blob: Array = np.exp(-(((canvas.x - x) / rx) ** 2) - ((canvas.y - y) / ry) ** 2)
    return blob


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    skies = (
        ((86, 150, 214), (196, 224, 242)), ((112, 168, 220), (224, 234, 240)),
        ((126, 152, 196), (244, 214, 190)), ((146, 180, 206), (222, 232, 234)),
    )  # fmt: skip
    i, t = rng.integers(len(skies)), rng.random()
    j = rng.integers(len(skies))
    _gradient(canvas, mix(skies[i][0], skies[j][0], t), mix(skies[i][1], skies[j][1], t), 0.9)
    for _ in range(rng.integers(1, 4)):
        x, y, w = rng.uniform(0.0, 1.0), rng.uniform(0.08, 0.75), rng.uniform(0.12, 0.22)
        cloud = np.zeros_like(canvas.pixels[..., 0])
        for _ in range(4):
            cloud += _blob(canvas, x + rng.normal(0, 0.6) * w, y + rng.normal(0, 0.12) * w,
                           w * rng.uniform(0.4, 0.8), w * rng.uniform(0.2, 0.34))  # fmt: skip
        canvas.paint(1.0 - np.exp(-1.4 * cloud), (250, 250, 252), rng.uniform(0.45, 0.8))


def paint_woods(canvas: Canvas, rng: np.random.Generator) -> None:
    greens = ((156, 192, 116), (112, 164, 96), (190, 208, 136), (92, 150, 112))
    i, j = rng.integers(len(greens)), rng.integers(len(greens))
    top = mix(greens[i], greens[j], rng.random())
    _gradient(canvas, shade(top, rng.uniform(1.1, 1.3)), shade(top, rng.uniform(0.72, 0.88)))
    for _ in range(7):
        tone = shade(top, rng.uniform(0.72, 1.45))
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.08, 0.24)
        canvas.paint(_blob(canvas, x, y, r, r), tone, rng.uniform(0.25, 0.6))
    for _ in range(4):  # blurred spots of light
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 0.8), rng.uniform(0.03, 0.07)
        disc = canvas.inside(np.hypot(canvas.x - x, canvas.y - y) - r, 0.03)
        canvas.paint(disc, (242, 246, 214), rng.uniform(0.12, 0.3))


def paint_water(canvas: Canvas, rng: np.random.Generator, line: float) -> None:
    far = mix((176, 206, 220), (216, 218, 206), rng.random())
    near = mix((58, 116, 150), (70, 128, 134), rng.random())
    shore = min(rng.uniform(0.16, 0.30), line - 0.25)
    _gradient(canvas, shade(far, 1.4), shade(far, 1.15))
    bank = mix((112, 142, 106), (136, 148, 128), rng.random())
    hills = shore - 0.05 - 0.02 * np.sin(canvas.x * rng.uniform(5, 11) + rng.uniform(0, 6))
    canvas.paint(canvas.inside(hills - canvas.y, 0.02), bank)
    depth = np.clip((canvas.y - shore) / (1.0 - shore), 0.0, 1.0)
    colour = np.asarray(far, np.float32) + (np.asarray(near, np.float32) - far) * (depth**0.7)[..., None]
    # Waves are stripes in perspective: narrow at the shore, wide in front.
    phase = 26.0 * np.log(depth + 0.25)
    wave = np.sin(phase + 2.2 * np.sin(canvas.x * rng.uniform(6, 10) + phase * 0.31 + rng.uniform(0, 6)))
    wave += 0.6 * np.sin(phase * 1.7 + 1.5 * np.sin(canvas.x * rng.uniform(9, 15) + rng.uniform(0, 6)))
    colour = colour + (8.0 + 12.0 * depth)[..., None] * wave[..., None]
    canvas.paint(canvas.inside(shore - canvas.y, 0.008), colour)


def paint_meadow(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    haze = mix((188, 216, 232), (240, 226, 190), rng.random())
    green = mix((122, 160, 78), (150, 166, 92), rng.random())
    horizon = min(rng.uniform(0.42, 0.62), ground - 0.12)
    _gradient(canvas, shade(haze, 0.9), shade(haze, 1.2), 0.8)
    for _ in range(4):
        x, r = rng.uniform(0, 1), rng.uniform(0.1, 0.22)
        canvas.paint(_blob(canvas, x, horizon - 0.02, r, r * 0.6), mix((122, 150, 112), haze, 0.35), 0.7)
    depth = np.clip((canvas.y - horizon) / (1.0 - horizon), 0.0, 1.0)[..., None]
    far, near = np.asarray(shade(green, 1.22), np.float32), np.asarray(shade(green, 0.78))
    field = far * (1 - depth) + near * depth
    canvas.paint(canvas.inside(horizon - canvas.y, 0.05), field)
    for _ in range(6):
        x, y, r = rng.uniform(0, 1), rng.uniform(horizon + 0.08, 1.0), rng.uniform(0.06, 0.16)
        canvas.paint(_blob(canvas, x, y, r, r * 0.3), shade(green, rng.uniform(0.75, 1.3)), 0.4)


def paint_blades(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """Grass in front of the feet."""
    green = mix((96, 142, 58), (126, 148, 68), rng.random())
    for i in range(16):
        x = (i + rng.uniform(0.1, 0.9)) / 16
        base = ground + rng.uniform(0.03, 0.09)
        lean, height, w = rng.normal(0, 0.03), rng.uniform(0.05, 0.12), rng.uniform(0.006, 0.011)
        blade = [(x - w, base), (x + lean * 0.4 - w * 0.6, base - height * 0.55), (x + lean, base - height),
                 (x + lean * 0.4 + w * 0.6, base - height * 0.5), (x + w, base)]  # fmt: skip
        canvas.paint(canvas.polygon(blade), shade(green, rng.uniform(0.75, 1.2)), 0.9)


def _leaf(canvas: Canvas, x: float, y: float, angle: float, length: float, rgb: Sequence[float]) -> None:
    c, s = math.cos(angle), math.sin(angle)

    def out(u: float, v: float) -> Point:
        return x + length * (u * c - v * s), y + length * (u * s + v * c)

    upper = [out(u, v) for u, v in ((0, 0), (0.25, 0.20), (0.55, 0.22), (0.85, 0.10), (1.0, 0.0))]
    lower = [out(u, v) for u, v in ((1.0, 0.0), (0.85, -0.10), (0.55, -0.22), (0.25, -0.20), (0, 0))]
    canvas.paint(canvas.polygon(spline(upper + lower[1:-1], True, 4)), rgb)
    canvas.paint(canvas.polygon(spline(upper, False, 4)), shade(rgb, 0.82 if c > 0 else 1.12))


def paint_branch(canvas: Canvas, rng: np.random.Generator, x: float, y: float, scale: float) -> None:
    """A branch through (x, y), where the feet are."""
    slope, bend = rng.uniform(-0.14, 0.14), rng.uniform(-0.10, 0.10)
    bark = mix((112, 84, 60), (92, 74, 62), rng.random())
    flip = 1.0 if rng.random() < 0.5 else -1.0
    half = rng.uniform(0.020, 0.030)
    top = [(t, y + half * 0.8 + slope * (t - x) + bend * (t - x) ** 2) for t in np.linspace(-0.1, 1.1, 9)]
    if flip < 0:
        top = top[::-1]
    for _ in range(rng.integers(3, 6)):
        t = rng.uniform(0.0, 1.0)
        if abs(t - x) < 0.9 * scale:  # no leaves in front of the feet
            t = x + math.copysign(0.9 * scale + 0.1, t - x)
        base = y + half * 0.8 + slope * (t - x) + bend * (t - x) ** 2
        angle = rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.2) + (0.0 if rng.random() < 0.5 else math.pi)
        green = mix((74, 126, 58), (128, 160, 72), rng.random())
        _leaf(canvas, t, base, angle, rng.uniform(0.10, 0.17), green)
    canvas.paint(canvas.polygon(ribbon(spline(top, False, 4), half, half * 0.6)), bark)
    light = [(u, v - half * 0.35) for u, v in top]
    sunny = ribbon(spline(light, False, 4), half * 0.35, half * 0.2)
    canvas.paint(canvas.polygon(sunny), shade(bark, 1.25))


def paint_wire(canvas: Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    slope = rng.uniform(-0.05, 0.05)
    line = [(t, y + 0.008 + slope * (t - x) + 0.06 * (t - x) ** 2) for t in np.linspace(-0.1, 1.1, 9)]
    canvas.paint(canvas.polygon(ribbon(line, 0.0085, 0.0085)), (62, 62, 70))


# --- the bird -------------------------------------------------------------------------------------
