"""Drawing of birds from parameters: anti-aliased, lit from above, the same image at every resolution.

Lengths are fractions of the image's side, or, in the bird's own frame (x forward, y up), fractions of half the bird's
body length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.painted_canvas import Array, Canvas, Point, ellipse, lit, ribbon, shade, smooth_union, spline
from data_prep.painted_parameters import BEAK_LENGTHS, TAIL_LENGTHS, BirdParameters
from data_prep.painted_scenes import (
    paint_blades,
    paint_branch,
    paint_meadow,
    paint_sky,
    paint_water,
    paint_wire,
    paint_woods,
)

__all__ = ["draw"]


class _Frame:
    """Transforms coordinates of a body or head to image coordinates and back."""

    def __init__(self, x: float, y: float, scale: float, angle: float, mirrored: bool) -> None:
        self.origin, self.scale, self.flip = (x, y), scale, -1.0 if mirrored else 1.0
        self.cos, self.sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def out(self, x: float, y: float) -> Point:
        across, up = x * self.cos - y * self.sin, x * self.sin + y * self.cos
        return self.origin[0] + self.flip * self.scale * across, self.origin[1] - self.scale * up

    def outs(self, points: Sequence[Point]) -> list[Point]:
        return [self.out(x, y) for x, y in points]

    def back(self, x: Array, y: Array) -> tuple[Array, Array]:
        across = (x - np.float32(self.origin[0])) * np.float32(self.flip / self.scale)
        up = (y - np.float32(self.origin[1])) * np.float32(-1.0 / self.scale)
        return across * self.cos + up * self.sin, up * self.cos - across * self.sin


@dataclass(frozen=True)
class _Layout:
    """Position of the bird: its frames, its feet, and the height of the ground or water."""

    body: _Frame
    head: _Frame
    scale: float
    height: float  # half the body's height, in the body's frame
    feet: tuple[Point, Point]
    hips: tuple[Point, Point]
    ground: float
    waterline: float | None


def _layout(p: BirdParameters) -> _Layout:
    """Place the bird so that beak, head, feet and most of the tail are centred on (x, y)."""
    mirrored = p.facing == "left"

    def place(x: float, y: float) -> _Layout:
        body = _Frame(x, y, p.scale, p.tilt, mirrored)
        # The head is high, except for pecking birds, whose head is low and forward.
        hx, hy = {"pecking": (0.98, 0.30), "swimming": (0.80, 0.66)}.get(p.pose, (0.76, 0.62))
        head = _Frame(*body.out(hx, hy), p.scale * p.head, p.head_tilt, mirrored)
        tilt = math.radians(p.tilt)
        drop = math.hypot(math.sin(tilt), p.plumpness * math.cos(tilt))
        legs = {"swimming": 0.0, "wading": 0.62}.get(p.pose, 0.34)
        ground = y + p.scale * (drop + legs)
        hips = (body.out(-0.12, -0.72 * p.plumpness), body.out(0.16, -0.72 * p.plumpness))
        flip = -1.0 if mirrored else 1.0
        middle = 0.5 * (hips[0][0] + hips[1][0]) + flip * 0.03 * p.scale
        feet = ((middle - 0.17 * p.scale, ground), (middle + 0.15 * p.scale, ground))
        if mirrored:
            feet = (feet[1], feet[0])
        water = {"swimming": y + p.scale * 0.76 * drop, "wading": ground - 0.16 * p.scale}.get(p.pose)
        return _Layout(body, head, p.scale, p.plumpness, feet, hips, ground, water)

    trial = place(0.0, 0.0)
    beak = trial.head.out(0.9 + BEAK_LENGTHS[p.beak_shape] * p.beak_length / p.head * 0.9, 0.0)
    tail = trial.body.out(-0.85 - 0.75 * TAIL_LENGTHS[p.tail_shape] * p.tail_length, 0.0)
    crown = trial.head.out(0.0, 1.0)
    low = trial.waterline if p.pose == "swimming" and trial.waterline is not None else trial.ground
    xs = (beak[0], tail[0])
    return place(p.x - 0.5 * (min(xs) + max(xs)), p.y - 0.5 * (crown[1] + max(low, tail[1])))


# --- backgrounds ----------------------------------------------------------------------------------


def _draw_tail(canvas: Canvas, p: BirdParameters, at: _Layout) -> None:
    rgb, n = p.tail.rgb, TAIL_LENGTHS[p.tail_shape] * p.tail_length
    root = -0.72
    end = root - 0.2 - n

    def shape(points: Sequence[Point]) -> Array:
        return canvas.polygon(at.body.outs(points))

    if p.tail_shape == "forked":
        feathers = [
            [(root, 0.24), (end * 0.62 - 0.3, 0.19), (end, 0.34), (end * 0.75 - 0.1, 0.04), (root, -0.02)],
            [(root, 0.04), (end * 0.75 - 0.1, 0.02), (end, -0.28), (end * 0.62 - 0.3, -0.14), (root, -0.2)],
        ]
        notch = end * 0.72 - 0.1
        centre = [(root, 0.2), (notch, 0.12), (end * 0.66, 0.03), (notch, -0.07), (root, -0.16)]
        canvas.paint(shape(centre), shade(rgb, 0.82))
    elif p.tail_shape == "fan":
        feathers = []
        for k in range(5):
            a = (k - 2) * 0.21
            c, s = math.cos(a), math.sin(a)
            r = n + 0.2
            blade = [(0.0, -0.06), (-0.6 * r, -0.12), (-0.95 * r, -0.10), (-1.03 * r, 0.0), (-0.95 * r, 0.10),
                     (-0.6 * r, 0.12), (0.0, 0.06)]  # fmt: skip
            feathers.append([(root + u * c - v * s, 0.03 + u * s + v * c) for u, v in blade])
    else:
        w = 0.17 if p.tail_shape == "long" else 0.21
        feathers = [
            [(root, 0.0), (root - 0.5 * n, -w), (end + 0.12, -w * 0.95), (end + 0.06, -0.02), (root, 0.1)],
            [(root, 0.24), (root - 0.5 * n, w + 0.03), (end + 0.08, w * 0.9), (end, w * 0.45),
             (end + 0.04, -0.04), (root - 0.5 * n, -0.07), (root, -0.04)],
        ]  # fmt: skip
    for k, feather in enumerate(feathers):
        mask = shape(feather)
        canvas.paint(mask, shade(rgb, 0.90 + 0.12 * (k % 2)))
        tip = end + 0.3 * n
        x, y = feather[len(feather) // 2]
        quill = at.body.outs([(root, 0.03), (0.5 * (root + x), 0.03 + 0.5 * (y - 0.03)), (x, y)])
        dark = 0.74 if sum(rgb) > 180 else 1.12
        if tip < root:
            canvas.paint(mask * canvas.polygon(ribbon(quill, 0.004, 0.002)), shade(rgb, dark), 0.7)


def _draw_legs(canvas: Canvas, p: BirdParameters, at: _Layout) -> None:
    w = 0.036 * at.scale
    flip = -1.0 if p.facing == "left" else 1.0
    for k, (hip, foot) in enumerate(zip(at.hips, at.feet, strict=True)):
        rgb = shade(p.legs.rgb, 0.85 if k == 0 else 1.05)
        mask = canvas.inside(canvas.capsule(hip, foot, w * 1.3, w))
        for reach in (0.20, -0.12):
            toe = (foot[0] + flip * reach * at.scale, foot[1] + 0.025 * at.scale)
            mask = np.maximum(mask, canvas.inside(canvas.capsule(foot, toe, w, w * 0.7)))
        canvas.paint(mask, rgb)


def _draw_beak(canvas: Canvas, p: BirdParameters, at: _Layout) -> None:
    n = BEAK_LENGTHS[p.beak_shape] * p.beak_length / p.head  # in head radii
    rgb, b = p.beak.rgb, 0.72
    t = b + 0.2 + n
    over: list[Point] = []
    if p.beak_shape == "conical":
        upper = [(b, 0.36), (b + 0.3, 0.30), (t - 0.12, 0.04), (t, -0.10), (b, -0.12)]
        lower = [(b, -0.05), (t - 0.03, -0.10), (t - 0.3, -0.32), (b, -0.46)]
    elif p.beak_shape.endswith("hooked"):
        over = [(b, 0.25), (b + 0.5 * (t - b), 0.25), (t - 0.10, 0.10), (t, -0.16), (t - 0.02, -0.40)]
        upper = [*spline(over, False, 5), (t - 0.11, -0.22), (t - 0.24, -0.10), (b, -0.12)]
        lower = [(b, -0.08), (t - 0.20, -0.08), (t - 0.30, -0.22), (b, -0.32)]
    elif p.beak_shape == "curved":
        over = [(b, 0.22), (b + 0.4 * n, 0.20), (b + 0.8 * n, -0.06), (t, -0.56)]
        middle = [(t, -0.56), (b + 0.72 * n, -0.19), (b + 0.38 * n, -0.03), (b, -0.08)]
        under = [(t, -0.56), (b + 0.66 * n, -0.32), (b + 0.33 * n, -0.21), (b, -0.30)]
        upper = spline(over, False, 5) + spline(middle, False, 5)
        lower = spline(middle[::-1], False, 5) + spline(under, False, 5)
    else:
        upper = [(b, 0.22), (b + 0.4 * n, 0.15), (t, -0.07), (b, -0.10)]
        lower = [(b, -0.05), (t - 0.05, -0.08), (b + 0.35 * n, -0.22), (b, -0.32)]
    canvas.paint(canvas.polygon(at.head.outs(lower)), shade(rgb, 0.74))
    mask = canvas.polygon(at.head.outs(upper))
    canvas.paint(mask, rgb)
    top = upper[: len(over) * 5 - 4] if over else upper[:3]  # light along the ridge
    ridge = [(u, v + 0.09) for u, v in top] + [(u, v - 0.08) for u, v in top[::-1]]
    canvas.paint(mask * canvas.polygon(at.head.outs(ridge)), shade(rgb, 1.28), 0.8)


_WING = ((0.42, 0.06), (0.27, 0.38), (-0.14, 0.53), (-0.64, 0.43), (-1.10, 0.17), (-1.38, -0.05),
         (-1.04, -0.16), (-0.62, -0.30), (-0.16, -0.40), (0.22, -0.27))  # fmt: skip
_COVERTS = ((-0.08, -0.47), (0.06, -0.30), (-0.02, -0.16), (0.02, -0.02), (-0.10, 0.12), (-0.08, 0.28),
            (-0.24, 0.46))  # fmt: skip


def _draw_wing(canvas: Canvas, p: BirdParameters, at: _Layout, inside_body: Array, light: Array) -> None:
    rgb = p.wing.rgb
    lift = at.height / 0.76

    def outline(dx: float, dy: float) -> list[Point]:
        return at.body.outs(spline([(x + dx, y * lift + dy) for x, y in _WING], True))

    def stroke(points: Sequence[Point], start: float, end: float) -> Array:
        curve = spline([(x, y * lift) for x, y in points], False, 5)
        return mask * canvas.polygon(ribbon(at.body.outs(curve), start, end))

    canvas.paint(canvas.polygon(outline(0.02, -0.07)) * inside_body, (20, 16, 24), 0.22)  # its shadow
    mask = canvas.polygon(outline(0.0, 0.0))
    canvas.paint(mask, lit(rgb, light))
    line_tone = shade(rgb, 0.62) if sum(rgb) > 180 else shade(rgb, 1.22)
    for k in range(4):  # flight feathers: long lines that meet at the tip
        start = -0.34 + 0.15 * k
        quill = [(-0.02 - 0.05 * k, start), (-0.55, start * 0.78 + 0.02),
                 (-1.0 - 0.03 * k, -0.12 + 0.10 * k * 0.6), (-1.28, -0.06 + 0.02 * k)]  # fmt: skip
        canvas.paint(stroke(quill, 0.0042, 0.0022), line_tone, 0.75)
    canvas.paint(stroke(_COVERTS, 0.0048, 0.0036), line_tone, 0.7)
    if p.wing_bars:
        bar_tone = shade(rgb, 1.55) if sum(rgb) < 640 else shade(rgb, 0.80)
        for dx in (0.02, 0.20):
            bar = [(dx - 0.02, -0.38), (dx + 0.05, -0.16), (dx + 0.04, 0.08), (dx - 0.06, 0.34)]
            canvas.paint(stroke(bar, 0.0085, 0.0065), bar_tone, 0.8)


def _draw_eye(canvas: Canvas, p: BirdParameters, at: _Layout) -> None:
    x, y = at.head.out(0.38, 0.02)
    r = 0.078 * at.scale
    gap = np.hypot(canvas.x - x, canvas.y - y)
    reach, strength = (1.55, 0.9) if p.eye_ring else (1.22, 0.45)  # a faint ring for contrast with a dark head
    canvas.paint(canvas.inside(gap - r * reach), (246, 240, 226), strength)
    canvas.paint(canvas.inside(gap - r), (22, 18, 20))
    hx, hy = at.head.out(0.42, 0.07)
    canvas.paint(canvas.inside(np.hypot(canvas.x - hx, canvas.y - hy) - 0.34 * r), (255, 255, 255), 0.95)


_CREST = ((0.45, 0.80), (-0.20, 1.18), (-1.25, 1.36), (-0.92, 0.86), (-0.80, 0.30), (0.0, 0.5))


def _draw_bird(canvas: Canvas, p: BirdParameters, at: _Layout) -> None:
    bx, by = at.body.back(canvas.x, canvas.y)
    hx, hy = at.head.back(canvas.x, canvas.y)
    head = (np.hypot(hx, hy) - 1.0) * p.head
    trunk = smooth_union(ellipse(bx, by, 1.0, at.height), np.hypot(bx + 0.78, by - 0.03) - 0.30, 0.30)
    outline = smooth_union(trunk, head, 0.34)
    body = canvas.inside(outline * at.scale)

    _draw_tail(canvas, p, at)
    if p.pose != "swimming":
        _draw_legs(canvas, p, at)
    _draw_beak(canvas, p, at)

    # Light from above: depends on the height of a point on the sphere, with a darker rim.
    on_head = np.clip(0.5 + (trunk - head) / 0.5, 0.0, 1.0)
    up_head = (at.head.origin[1] - canvas.y) / (at.scale * p.head)
    up_body = (at.body.origin[1] - canvas.y) / (at.scale * 0.9)
    up = np.clip(up_body + (up_head - up_body) * on_head, -1.0, 1.0)
    rim = np.exp(np.minimum(outline, 0.0) / 0.07)
    light = 1.0 + 0.13 * up - 0.16 * rim
    downy = 0.018 * np.sin(19.0 * bx + 3.0 * np.sin(9.0 * by)) * np.sin(23.0 * by + 2.0 * np.sin(8.0 * bx))

    canvas.paint(body, lit(p.body.rgb, light))

    breast = np.maximum(ellipse(bx - 0.44, by + 0.40, 1.06, 0.86), -(hy + 0.30) * -p.head)
    breast = np.maximum(breast, (hy + 0.34) * p.head)
    canvas.paint(body * canvas.inside(breast * at.scale, 0.012), lit(p.breast.rgb, light + downy))

    # The cap extends from the beak over the eye to the nape.
    cap = np.maximum(0.20 - hy + 0.30 * np.minimum(hx, 0.2) - 0.03, -1.25 - hx) * p.head
    cap = np.maximum(cap, head - 0.10)
    crown = body * canvas.inside(cap * at.scale, 0.010)
    if p.crown_shape == "crested":
        crown = np.maximum(crown, canvas.polygon(at.head.outs(spline(_CREST, True, 6))))
    canvas.paint(crown, lit(p.crown.rgb, np.maximum(light, 0.86)))

    wing_light = 1.0 + 0.13 * np.clip(by / 0.5, -1.0, 1.0) - 0.05 * np.clip(-bx - 0.1, 0.0, 1.0)
    _draw_wing(canvas, p, at, body, wing_light)
    _draw_eye(canvas, p, at)


def _draw_waterline(
    canvas: Canvas, p: BirdParameters, at: _Layout, level: float, water: Array, rng: np.random.Generator
) -> None:
    """Draw the water over everything below its surface, with a reflection and ripples."""
    line = level + 0.006 * np.sin(canvas.x * 34.0 + rng.uniform(0, 6))
    under = canvas.inside(line - canvas.y)
    mirror = np.clip(((2.0 * level - canvas.y) * canvas.side - 0.5), 0, canvas.side - 1)
    rows = np.rint(mirror[:, 0]).astype(np.intp)
    fade = np.clip(1.0 - (canvas.y - level) / (1.4 * at.scale), 0.0, 1.0)
    reflected = canvas.pixels[rows]
    surface = water + (reflected - water) * (0.34 * fade)[..., None] * under[..., None]
    canvas.paint(under, surface)
    x = at.body.origin[0] if p.pose == "swimming" else 0.5 * (at.feet[0][0] + at.feet[1][0])
    reach = 1.15 if p.pose == "swimming" else 0.55
    for k, (wide, drop) in enumerate(((1.0, 0.012), (1.3, 0.045), (1.0, 0.085))):
        ring = ellipse(canvas.x - x, canvas.y - level - drop, reach * wide * at.scale, 0.012)
        canvas.paint(canvas.inside(np.abs(ring + 0.004) - 0.004, 0.010), (236, 244, 246), (0.75, 0.4, 0.3)[k])


def draw(bird: BirdParameters, side: int) -> Array:
    """Draw the bird as (side, side, 3) uint8; the image is the same at every resolution.

    Args:
        bird: the bird; the same bird gives the same bytes.
        side: pixels, 16 or more.

    Raises:
        ValueError: the side is below 16.
    """
    if side < 16:
        raise ValueError(f"side is {side}; a painted bird needs 16 pixels or more")
    canvas = Canvas(side)
    at = _layout(bird)
    rng = np.random.default_rng(bird.scene_seed)
    middle = 0.5 * (at.feet[0][0] + at.feet[1][0])
    if bird.background == "sky":
        paint_sky(canvas, rng)
        paint_wire(canvas, rng, middle, at.ground)
    elif bird.background == "branch":
        paint_woods(canvas, rng)
        paint_branch(canvas, rng, middle, at.ground, at.scale)
    elif bird.background == "water":
        paint_water(canvas, rng, at.waterline if at.waterline is not None else at.ground)
    else:
        paint_meadow(canvas, rng, at.ground)
    behind = canvas.pixels.copy()
    _draw_bird(canvas, bird, at)
    if at.waterline is not None:
        _draw_waterline(canvas, bird, at, at.waterline, behind, rng)
    if bird.background == "grass":
        paint_blades(canvas, rng, at.ground)
    return np.rint(np.clip(canvas.pixels, 0.0, 255.0)).astype(np.uint8)
