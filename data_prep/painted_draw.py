"""Draw a bird from its parameters: anti-aliased, lit from above, the same picture at every side length.

Round forms are signed distances evaluated at the pixels; outlines with corners (wing, tail, beak, leaves)
are polygons that Pillow fills at several times the resolution. Lengths are fractions of the picture's side,
or, in the bird's own frame (x forward, y up), fractions of half the bird's body length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Point = tuple[float, float]
RGB = tuple[int, int, int]

# Three shades span each named colour; a bird's shade is a random mixture of them, so it varies continuously.
PALETTE: dict[str, tuple[RGB, RGB, RGB]] = {
    "red": ((200, 26, 34), (222, 46, 44), (180, 20, 38)),
    "orange": ((242, 122, 18), (248, 142, 40), (232, 108, 24)),
    "yellow": ((250, 214, 40), (246, 204, 24), (252, 226, 86)),
    "green": ((48, 142, 60), (84, 166, 56), (30, 122, 70)),
    "blue": ((36, 92, 204), (60, 132, 226), (28, 72, 172)),
    "purple": ((118, 52, 160), (142, 80, 190), (98, 40, 136)),
    "pink": ((246, 150, 186), (242, 126, 172), (250, 176, 204)),
    "brown": ((120, 74, 40), (140, 90, 54), (100, 60, 34)),
    "black": ((26, 26, 32), (38, 37, 43), (18, 20, 28)),
    "white": ((250, 250, 248), (246, 242, 234), (240, 244, 250)),
    "grey": ((138, 142, 150), (156, 158, 162), (120, 126, 136)),
}
COLOURS: tuple[str, ...] = tuple(PALETTE)

SIZES: dict[str, tuple[float, float]] = {  # half the body's length
    "small": (0.190, 0.202),
    "medium": (0.216, 0.228),
    "large": (0.242, 0.256),
}
POSES: dict[str, tuple[float, float]] = {  # body tilt in degrees, head end up
    "perched": (22.0, 34.0),
    "upright": (42.0, 54.0),
    "level": (6.0, 16.0),
    "pecking": (-18.0, -8.0),
    "swimming": (2.0, 9.0),
    "wading": (12.0, 26.0),
}
BACKGROUND_POSES: dict[str, tuple[str, ...]] = {
    "sky": ("perched", "upright", "level"),
    "branch": ("perched", "upright", "level", "pecking"),
    "water": ("swimming", "swimming", "wading"),
    "grass": ("perched", "upright", "level", "pecking"),
}
_BEAK = {  # lengths
    "short pointed": 0.38, "long pointed": 0.80, "short hooked": 0.42, "long hooked": 0.70,
    "curved": 0.82, "conical": 0.36,
}  # fmt: skip
_TAIL = {"short": 0.55, "long": 1.20, "forked": 1.05, "fan": 0.75}
BEAK_SHAPES: tuple[str, ...] = tuple(_BEAK)
TAIL_SHAPES: tuple[str, ...] = tuple(_TAIL)
CROWN_SHAPES: tuple[str, ...] = ("round", "crested")


@dataclass(frozen=True)
class Part:
    """One part's colour: its name and the exact shade drawn."""

    colour: str
    rgb: RGB


@dataclass(frozen=True)
class Painting:
    """Everything that `draw` needs: angles in degrees, lengths as fractions of the picture's side."""

    body: Part
    crown: Part
    breast: Part
    wing: Part
    tail: Part
    beak: Part
    legs: Part
    crown_shape: str
    tail_shape: str
    beak_shape: str
    wing_bars: bool
    eye_ring: bool
    facing: str  # "left" or "right"
    pose: str
    tilt: float
    head_tilt: float
    size: str
    scale: float  # half the body's length
    plumpness: float  # body height over body length
    head: float  # head radius over half the body's length
    tail_length: float  # relative to its shape's usual length
    beak_length: float  # likewise
    x: float  # centre of the bird in the picture
    y: float
    background: str
    scene_seed: int  # clouds, leaves, waves


class _Canvas:
    """Pixels under construction, and masks to paint through."""

    def __init__(self, side: int) -> None:
        self.side = side
        centres = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
        self.x: Array = np.broadcast_to(centres[None, :], (side, side))
        self.y: Array = np.broadcast_to(centres[:, None], (side, side))
        self.pixels: Array = np.zeros((side, side, 3), np.float32)
        self._oversampling = 8 if side <= 128 else 4

    def inside(self, distance: Array, softness: float = 0.0) -> Array:
        """Coverage of a signed distance (negative inside), its edge at least one pixel wide."""
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
        """Signed distance to a stroke from a to b whose half-width goes from start to end."""
        px, py = self.x - np.float32(a[0]), self.y - np.float32(a[1])
        dx, dy = b[0] - a[0], b[1] - a[1]
        along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
        return np.hypot(px - along * dx, py - along * dy) - (start + (end - start) * along)

    def paint(self, mask: Array, rgb: Array | Sequence[float], alpha: float = 1.0) -> None:
        """Blend a colour, one for all pixels or one each, through a mask."""
        weight = (mask * np.float32(alpha))[..., None]
        self.pixels += weight * (np.asarray(rgb, np.float32) - self.pixels)


def _lit(rgb: Sequence[float], light: Array) -> Array:
    """A colour under light: 1 leaves it, less darkens towards black, more brightens towards white."""
    base = np.asarray(rgb, np.float32)
    dark = np.minimum(light, 1.0)[..., None].astype(np.float32)
    bright = np.maximum(light - 1.0, 0.0)[..., None].astype(np.float32)
    lit: Array = base * dark + (255.0 - base) * bright
    return lit


def _shade(rgb: Sequence[float], factor: float) -> tuple[float, float, float]:
    """A colour made darker (factor below 1) or lighter (above 1)."""
    if factor <= 1.0:
        return (rgb[0] * factor, rgb[1] * factor, rgb[2] * factor)
    t = factor - 1.0
    return (rgb[0] + (255 - rgb[0]) * t, rgb[1] + (255 - rgb[1]) * t, rgb[2] + (255 - rgb[2]) * t)


def _mix(a: Sequence[float], b: Sequence[float], t: float) -> tuple[float, float, float]:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _spline(points: Sequence[Point], closed: bool, steps: int = 7) -> list[Point]:
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


def _ribbon(points: Sequence[Point], start: float, end: float) -> list[Point]:
    """The outline of a stroke along a curve whose half-width goes from start to end."""
    p = np.asarray(points, np.float64)
    tangent = np.gradient(p, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(tangent, axis=1)[:, None], 1e-9)
    width = np.linspace(start, end, len(p))[:, None]
    outline = np.concatenate([p + normal * width, (p - normal * width)[::-1]])
    return [(float(x), float(y)) for x, y in outline]


def _smooth_union(a: Array, b: Array, k: float) -> Array:
    """The union of two signed distances with a fillet of radius about k."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0.0, 1.0)
    union: Array = b + (a - b) * h - k * h * (1.0 - h)
    return union


def _ellipse(x: Array, y: Array, a: float, b: float) -> Array:
    """Signed distance to an axis-aligned ellipse, to first order."""
    k = np.hypot(x / a, y / b)
    slope = np.hypot(x / (a * a), y / (b * b))
    distance: Array = k * (k - 1.0) / np.maximum(slope, 1e-6)
    return distance


class _Frame:
    """Turns the coordinates of a body or a head into the picture's, and back."""

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
    """Where the bird stands: its frames, its feet, and the height of the ground or water."""

    body: _Frame
    head: _Frame
    scale: float
    height: float  # half the body's height, in the body's frame
    feet: tuple[Point, Point]
    hips: tuple[Point, Point]
    ground: float
    waterline: float | None


def _layout(p: Painting) -> _Layout:
    """Place the bird so that beak, head, feet and most of the tail are centred on (x, y)."""
    mirrored = p.facing == "left"

    def place(x: float, y: float) -> _Layout:
        body = _Frame(x, y, p.scale, p.tilt, mirrored)
        # The head is carried high, and low and forward when the bird pecks.
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
    beak = trial.head.out(0.9 + _BEAK[p.beak_shape] * p.beak_length / p.head * 0.9, 0.0)
    tail = trial.body.out(-0.85 - 0.75 * _TAIL[p.tail_shape] * p.tail_length, 0.0)
    crown = trial.head.out(0.0, 1.0)
    low = trial.waterline if p.pose == "swimming" and trial.waterline is not None else trial.ground
    xs = (beak[0], tail[0])
    return place(p.x - 0.5 * (min(xs) + max(xs)), p.y - 0.5 * (crown[1] + max(low, tail[1])))


# --- backgrounds ----------------------------------------------------------------------------------


def _gradient(canvas: _Canvas, top: Sequence[float], bottom: Sequence[float], power: float = 1.0) -> None:
    t = (canvas.y**power)[..., None]
    a, b = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
    canvas.pixels[:] = a + (b - a) * t


def _blob(canvas: _Canvas, x: float, y: float, rx: float, ry: float) -> Array:
    """A soft round patch."""
    blob: Array = np.exp(-(((canvas.x - x) / rx) ** 2) - ((canvas.y - y) / ry) ** 2)
    return blob


def _sky(canvas: _Canvas, rng: np.random.Generator) -> None:
    skies = (
        ((86, 150, 214), (196, 224, 242)), ((112, 168, 220), (224, 234, 240)),
        ((126, 152, 196), (244, 214, 190)), ((146, 180, 206), (222, 232, 234)),
    )  # fmt: skip
    i, t = rng.integers(len(skies)), rng.random()
    j = rng.integers(len(skies))
    _gradient(canvas, _mix(skies[i][0], skies[j][0], t), _mix(skies[i][1], skies[j][1], t), 0.9)
    for _ in range(rng.integers(1, 4)):
        x, y, w = rng.uniform(0.0, 1.0), rng.uniform(0.08, 0.75), rng.uniform(0.12, 0.22)
        cloud = np.zeros_like(canvas.pixels[..., 0])
        for _ in range(4):
            cloud += _blob(canvas, x + rng.normal(0, 0.6) * w, y + rng.normal(0, 0.12) * w,
                           w * rng.uniform(0.4, 0.8), w * rng.uniform(0.2, 0.34))  # fmt: skip
        canvas.paint(1.0 - np.exp(-1.4 * cloud), (250, 250, 252), rng.uniform(0.45, 0.8))


def _woods(canvas: _Canvas, rng: np.random.Generator) -> None:
    greens = ((156, 192, 116), (112, 164, 96), (190, 208, 136), (92, 150, 112))
    i, j = rng.integers(len(greens)), rng.integers(len(greens))
    top = _mix(greens[i], greens[j], rng.random())
    _gradient(canvas, _shade(top, rng.uniform(1.1, 1.3)), _shade(top, rng.uniform(0.72, 0.88)))
    for _ in range(7):
        tone = _shade(top, rng.uniform(0.72, 1.45))
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.08, 0.24)
        canvas.paint(_blob(canvas, x, y, r, r), tone, rng.uniform(0.25, 0.6))
    for _ in range(4):  # spots of light out of focus
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 0.8), rng.uniform(0.03, 0.07)
        disc = canvas.inside(np.hypot(canvas.x - x, canvas.y - y) - r, 0.03)
        canvas.paint(disc, (242, 246, 214), rng.uniform(0.12, 0.3))


def _water(canvas: _Canvas, rng: np.random.Generator, line: float) -> None:
    far = _mix((176, 206, 220), (216, 218, 206), rng.random())
    near = _mix((58, 116, 150), (70, 128, 134), rng.random())
    shore = min(rng.uniform(0.16, 0.30), line - 0.25)
    _gradient(canvas, _shade(far, 1.4), _shade(far, 1.15))
    bank = _mix((112, 142, 106), (136, 148, 128), rng.random())
    hills = shore - 0.05 - 0.02 * np.sin(canvas.x * rng.uniform(5, 11) + rng.uniform(0, 6))
    canvas.paint(canvas.inside(hills - canvas.y, 0.02), bank)
    depth = np.clip((canvas.y - shore) / (1.0 - shore), 0.0, 1.0)
    colour = np.asarray(far, np.float32) + (np.asarray(near, np.float32) - far) * (depth**0.7)[..., None]
    # Waves are stripes in perspective: crowded at the shore, wide in front.
    phase = 26.0 * np.log(depth + 0.25)
    wave = np.sin(phase + 2.2 * np.sin(canvas.x * rng.uniform(6, 10) + phase * 0.31 + rng.uniform(0, 6)))
    wave += 0.6 * np.sin(phase * 1.7 + 1.5 * np.sin(canvas.x * rng.uniform(9, 15) + rng.uniform(0, 6)))
    colour = colour + (8.0 + 12.0 * depth)[..., None] * wave[..., None]
    canvas.paint(canvas.inside(shore - canvas.y, 0.008), colour)


def _meadow(canvas: _Canvas, rng: np.random.Generator, ground: float) -> None:
    haze = _mix((188, 216, 232), (240, 226, 190), rng.random())
    green = _mix((122, 160, 78), (150, 166, 92), rng.random())
    horizon = min(rng.uniform(0.42, 0.62), ground - 0.12)
    _gradient(canvas, _shade(haze, 0.9), _shade(haze, 1.2), 0.8)
    for _ in range(4):
        x, r = rng.uniform(0, 1), rng.uniform(0.1, 0.22)
        canvas.paint(_blob(canvas, x, horizon - 0.02, r, r * 0.6), _mix((122, 150, 112), haze, 0.35), 0.7)
    depth = np.clip((canvas.y - horizon) / (1.0 - horizon), 0.0, 1.0)[..., None]
    far, near = np.asarray(_shade(green, 1.22), np.float32), np.asarray(_shade(green, 0.78))
    field = far * (1 - depth) + near * depth
    canvas.paint(canvas.inside(horizon - canvas.y, 0.05), field)
    for _ in range(6):
        x, y, r = rng.uniform(0, 1), rng.uniform(horizon + 0.08, 1.0), rng.uniform(0.06, 0.16)
        canvas.paint(_blob(canvas, x, y, r, r * 0.3), _shade(green, rng.uniform(0.75, 1.3)), 0.4)


def _blades(canvas: _Canvas, rng: np.random.Generator, ground: float) -> None:
    """Grass in front of the feet."""
    green = _mix((96, 142, 58), (126, 148, 68), rng.random())
    for i in range(16):
        x = (i + rng.uniform(0.1, 0.9)) / 16
        base = ground + rng.uniform(0.03, 0.09)
        lean, height, w = rng.normal(0, 0.03), rng.uniform(0.05, 0.12), rng.uniform(0.006, 0.011)
        blade = [(x - w, base), (x + lean * 0.4 - w * 0.6, base - height * 0.55), (x + lean, base - height),
                 (x + lean * 0.4 + w * 0.6, base - height * 0.5), (x + w, base)]  # fmt: skip
        canvas.paint(canvas.polygon(blade), _shade(green, rng.uniform(0.75, 1.2)), 0.9)


def _leaf(canvas: _Canvas, x: float, y: float, angle: float, length: float, rgb: Sequence[float]) -> None:
    c, s = math.cos(angle), math.sin(angle)

    def out(u: float, v: float) -> Point:
        return x + length * (u * c - v * s), y + length * (u * s + v * c)

    upper = [out(u, v) for u, v in ((0, 0), (0.25, 0.20), (0.55, 0.22), (0.85, 0.10), (1.0, 0.0))]
    lower = [out(u, v) for u, v in ((1.0, 0.0), (0.85, -0.10), (0.55, -0.22), (0.25, -0.20), (0, 0))]
    canvas.paint(canvas.polygon(_spline(upper + lower[1:-1], True, 4)), rgb)
    canvas.paint(canvas.polygon(_spline(upper, False, 4)), _shade(rgb, 0.82 if c > 0 else 1.12))


def _branch(canvas: _Canvas, rng: np.random.Generator, x: float, y: float, scale: float) -> None:
    """A branch through (x, y), where the feet are."""
    slope, bend = rng.uniform(-0.14, 0.14), rng.uniform(-0.10, 0.10)
    bark = _mix((112, 84, 60), (92, 74, 62), rng.random())
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
        green = _mix((74, 126, 58), (128, 160, 72), rng.random())
        _leaf(canvas, t, base, angle, rng.uniform(0.10, 0.17), green)
    canvas.paint(canvas.polygon(_ribbon(_spline(top, False, 4), half, half * 0.6)), bark)
    light = [(u, v - half * 0.35) for u, v in top]
    sunny = _ribbon(_spline(light, False, 4), half * 0.35, half * 0.2)
    canvas.paint(canvas.polygon(sunny), _shade(bark, 1.25))


def _wire(canvas: _Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    slope = rng.uniform(-0.05, 0.05)
    line = [(t, y + 0.008 + slope * (t - x) + 0.06 * (t - x) ** 2) for t in np.linspace(-0.1, 1.1, 9)]
    canvas.paint(canvas.polygon(_ribbon(line, 0.0085, 0.0085)), (62, 62, 70))


# --- the bird -------------------------------------------------------------------------------------


def _draw_tail(canvas: _Canvas, p: Painting, at: _Layout) -> None:
    rgb, n = p.tail.rgb, _TAIL[p.tail_shape] * p.tail_length
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
        canvas.paint(shape(centre), _shade(rgb, 0.82))
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
        canvas.paint(mask, _shade(rgb, 0.90 + 0.12 * (k % 2)))
        tip = end + 0.3 * n
        x, y = feather[len(feather) // 2]
        quill = at.body.outs([(root, 0.03), (0.5 * (root + x), 0.03 + 0.5 * (y - 0.03)), (x, y)])
        dark = 0.74 if sum(rgb) > 180 else 1.12
        if tip < root:
            canvas.paint(mask * canvas.polygon(_ribbon(quill, 0.004, 0.002)), _shade(rgb, dark), 0.7)


def _draw_legs(canvas: _Canvas, p: Painting, at: _Layout) -> None:
    w = 0.036 * at.scale
    flip = -1.0 if p.facing == "left" else 1.0
    for k, (hip, foot) in enumerate(zip(at.hips, at.feet, strict=True)):
        rgb = _shade(p.legs.rgb, 0.85 if k == 0 else 1.05)
        mask = canvas.inside(canvas.capsule(hip, foot, w * 1.3, w))
        for reach in (0.20, -0.12):
            toe = (foot[0] + flip * reach * at.scale, foot[1] + 0.025 * at.scale)
            mask = np.maximum(mask, canvas.inside(canvas.capsule(foot, toe, w, w * 0.7)))
        canvas.paint(mask, rgb)


def _draw_beak(canvas: _Canvas, p: Painting, at: _Layout) -> None:
    n = _BEAK[p.beak_shape] * p.beak_length / p.head  # in head radii
    rgb, b = p.beak.rgb, 0.72
    t = b + 0.2 + n
    over: list[Point] = []
    if p.beak_shape == "conical":
        upper = [(b, 0.36), (b + 0.3, 0.30), (t - 0.12, 0.04), (t, -0.10), (b, -0.12)]
        lower = [(b, -0.05), (t - 0.03, -0.10), (t - 0.3, -0.32), (b, -0.46)]
    elif p.beak_shape.endswith("hooked"):
        over = [(b, 0.25), (b + 0.5 * (t - b), 0.25), (t - 0.10, 0.10), (t, -0.16), (t - 0.02, -0.40)]
        upper = [*_spline(over, False, 5), (t - 0.11, -0.22), (t - 0.24, -0.10), (b, -0.12)]
        lower = [(b, -0.08), (t - 0.20, -0.08), (t - 0.30, -0.22), (b, -0.32)]
    elif p.beak_shape == "curved":
        over = [(b, 0.22), (b + 0.4 * n, 0.20), (b + 0.8 * n, -0.06), (t, -0.56)]
        middle = [(t, -0.56), (b + 0.72 * n, -0.19), (b + 0.38 * n, -0.03), (b, -0.08)]
        under = [(t, -0.56), (b + 0.66 * n, -0.32), (b + 0.33 * n, -0.21), (b, -0.30)]
        upper = _spline(over, False, 5) + _spline(middle, False, 5)
        lower = _spline(middle[::-1], False, 5) + _spline(under, False, 5)
    else:
        upper = [(b, 0.22), (b + 0.4 * n, 0.15), (t, -0.07), (b, -0.10)]
        lower = [(b, -0.05), (t - 0.05, -0.08), (b + 0.35 * n, -0.22), (b, -0.32)]
    canvas.paint(canvas.polygon(at.head.outs(lower)), _shade(rgb, 0.74))
    mask = canvas.polygon(at.head.outs(upper))
    canvas.paint(mask, rgb)
    top = upper[: len(over) * 5 - 4] if over else upper[:3]  # light along the ridge
    ridge = [(u, v + 0.09) for u, v in top] + [(u, v - 0.08) for u, v in top[::-1]]
    canvas.paint(mask * canvas.polygon(at.head.outs(ridge)), _shade(rgb, 1.28), 0.8)


_WING = ((0.42, 0.06), (0.27, 0.38), (-0.14, 0.53), (-0.64, 0.43), (-1.10, 0.17), (-1.38, -0.05),
         (-1.04, -0.16), (-0.62, -0.30), (-0.16, -0.40), (0.22, -0.27))  # fmt: skip
_COVERTS = ((-0.08, -0.47), (0.06, -0.30), (-0.02, -0.16), (0.02, -0.02), (-0.10, 0.12), (-0.08, 0.28),
            (-0.24, 0.46))  # fmt: skip


def _draw_wing(canvas: _Canvas, p: Painting, at: _Layout, inside_body: Array, light: Array) -> None:
    rgb = p.wing.rgb
    lift = at.height / 0.76

    def outline(dx: float, dy: float) -> list[Point]:
        return at.body.outs(_spline([(x + dx, y * lift + dy) for x, y in _WING], True))

    def stroke(points: Sequence[Point], start: float, end: float) -> Array:
        curve = _spline([(x, y * lift) for x, y in points], False, 5)
        return mask * canvas.polygon(_ribbon(at.body.outs(curve), start, end))

    canvas.paint(canvas.polygon(outline(0.02, -0.07)) * inside_body, (20, 16, 24), 0.22)  # its shadow
    mask = canvas.polygon(outline(0.0, 0.0))
    canvas.paint(mask, _lit(rgb, light))
    line_tone = _shade(rgb, 0.62) if sum(rgb) > 180 else _shade(rgb, 1.22)
    for k in range(4):  # flight feathers: long lines that run together at the tip
        start = -0.34 + 0.15 * k
        quill = [(-0.02 - 0.05 * k, start), (-0.55, start * 0.78 + 0.02),
                 (-1.0 - 0.03 * k, -0.12 + 0.10 * k * 0.6), (-1.28, -0.06 + 0.02 * k)]  # fmt: skip
        canvas.paint(stroke(quill, 0.0042, 0.0022), line_tone, 0.75)
    canvas.paint(stroke(_COVERTS, 0.0048, 0.0036), line_tone, 0.7)
    if p.wing_bars:
        bar_tone = _shade(rgb, 1.55) if sum(rgb) < 640 else _shade(rgb, 0.80)
        for dx in (0.02, 0.20):
            bar = [(dx - 0.02, -0.38), (dx + 0.05, -0.16), (dx + 0.04, 0.08), (dx - 0.06, 0.34)]
            canvas.paint(stroke(bar, 0.0085, 0.0065), bar_tone, 0.8)


def _draw_eye(canvas: _Canvas, p: Painting, at: _Layout) -> None:
    x, y = at.head.out(0.38, 0.02)
    r = 0.078 * at.scale
    gap = np.hypot(canvas.x - x, canvas.y - y)
    reach, strength = (1.55, 0.9) if p.eye_ring else (1.22, 0.45)  # a faint ring sets it off a dark head
    canvas.paint(canvas.inside(gap - r * reach), (246, 240, 226), strength)
    canvas.paint(canvas.inside(gap - r), (22, 18, 20))
    hx, hy = at.head.out(0.42, 0.07)
    canvas.paint(canvas.inside(np.hypot(canvas.x - hx, canvas.y - hy) - 0.34 * r), (255, 255, 255), 0.95)


_CREST = ((0.45, 0.80), (-0.20, 1.18), (-1.25, 1.36), (-0.92, 0.86), (-0.80, 0.30), (0.0, 0.5))


def _draw_bird(canvas: _Canvas, p: Painting, at: _Layout) -> None:
    bx, by = at.body.back(canvas.x, canvas.y)
    hx, hy = at.head.back(canvas.x, canvas.y)
    head = (np.hypot(hx, hy) - 1.0) * p.head
    trunk = _smooth_union(_ellipse(bx, by, 1.0, at.height), np.hypot(bx + 0.78, by - 0.03) - 0.30, 0.30)
    outline = _smooth_union(trunk, head, 0.34)
    body = canvas.inside(outline * at.scale)

    _draw_tail(canvas, p, at)
    if p.pose != "swimming":
        _draw_legs(canvas, p, at)
    _draw_beak(canvas, p, at)

    # Light from above: the height of a point on its ball, and a darker rim.
    on_head = np.clip(0.5 + (trunk - head) / 0.5, 0.0, 1.0)
    up_head = (at.head.origin[1] - canvas.y) / (at.scale * p.head)
    up_body = (at.body.origin[1] - canvas.y) / (at.scale * 0.9)
    up = np.clip(up_body + (up_head - up_body) * on_head, -1.0, 1.0)
    rim = np.exp(np.minimum(outline, 0.0) / 0.07)
    light = 1.0 + 0.13 * up - 0.16 * rim
    downy = 0.018 * np.sin(19.0 * bx + 3.0 * np.sin(9.0 * by)) * np.sin(23.0 * by + 2.0 * np.sin(8.0 * bx))

    canvas.paint(body, _lit(p.body.rgb, light))

    breast = np.maximum(_ellipse(bx - 0.44, by + 0.40, 1.06, 0.86), -(hy + 0.30) * -p.head)
    breast = np.maximum(breast, (hy + 0.34) * p.head)
    canvas.paint(body * canvas.inside(breast * at.scale, 0.012), _lit(p.breast.rgb, light + downy))

    # The cap reaches from the beak over the eye to the nape.
    cap = np.maximum(0.20 - hy + 0.30 * np.minimum(hx, 0.2) - 0.03, -1.25 - hx) * p.head
    cap = np.maximum(cap, head - 0.10)
    crown = body * canvas.inside(cap * at.scale, 0.010)
    if p.crown_shape == "crested":
        crown = np.maximum(crown, canvas.polygon(at.head.outs(_spline(_CREST, True, 6))))
    canvas.paint(crown, _lit(p.crown.rgb, np.maximum(light, 0.86)))

    wing_light = 1.0 + 0.13 * np.clip(by / 0.5, -1.0, 1.0) - 0.05 * np.clip(-bx - 0.1, 0.0, 1.0)
    _draw_wing(canvas, p, at, body, wing_light)
    _draw_eye(canvas, p, at)


def _draw_waterline(
    canvas: _Canvas, p: Painting, at: _Layout, level: float, water: Array, rng: np.random.Generator
) -> None:
    """Put the water back over what is below its surface, with a reflection and ripples."""
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
        ring = _ellipse(canvas.x - x, canvas.y - level - drop, reach * wide * at.scale, 0.012)
        canvas.paint(canvas.inside(np.abs(ring + 0.004) - 0.004, 0.010), (236, 244, 246), (0.75, 0.4, 0.3)[k])


def draw(painting: Painting, side: int) -> Array:
    """Draw the bird as (side, side, 3) uint8; the picture is the same at every side length.

    Args:
        painting: the bird; the same bird gives the same bytes.
        side: pixels, 16 or more.

    Raises:
        ValueError: the side is below 16.
    """
    if side < 16:
        raise ValueError(f"side is {side}; a painted bird needs 16 pixels or more")
    canvas = _Canvas(side)
    at = _layout(painting)
    rng = np.random.default_rng(painting.scene_seed)
    middle = 0.5 * (at.feet[0][0] + at.feet[1][0])
    if painting.background == "sky":
        _sky(canvas, rng)
        _wire(canvas, rng, middle, at.ground)
    elif painting.background == "branch":
        _woods(canvas, rng)
        _branch(canvas, rng, middle, at.ground, at.scale)
    elif painting.background == "water":
        _water(canvas, rng, at.waterline if at.waterline is not None else at.ground)
    else:
        _meadow(canvas, rng, at.ground)
    behind = canvas.pixels.copy()
    _draw_bird(canvas, painting, at)
    if at.waterline is not None:
        _draw_waterline(canvas, painting, at, at.waterline, behind, rng)
    if painting.background == "grass":
        _blades(canvas, rng, at.ground)
    return np.rint(np.clip(canvas.pixels, 0.0, 255.0)).astype(np.uint8)
