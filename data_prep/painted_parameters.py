"""Parameters of painted birds: colours, shapes, sizes, poses and backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BACKGROUND_POSES",
    "BEAK_LENGTHS",
    "BEAK_SHAPES",
    "COLOURS",
    "CROWN_SHAPES",
    "PALETTE",
    "POSES",
    "RGB",
    "SIZES",
    "TAIL_LENGTHS",
    "TAIL_SHAPES",
    "BirdParameters",
    "Part",
]

RGB = tuple[int, int, int]

# Three shades of each named colour; a bird's shade is a random mixture of them.
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
POSES: dict[str, tuple[float, float]] = {  # body tilt in degrees, positive if the head is up
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
BEAK_LENGTHS = {  # lengths
    "short pointed": 0.38, "long pointed": 0.80, "short hooked": 0.42, "long hooked": 0.70,
    "curved": 0.82, "conical": 0.36,
}  # fmt: skip
TAIL_LENGTHS = {"short": 0.55, "long": 1.20, "forked": 1.05, "fan": 0.75}
BEAK_SHAPES: tuple[str, ...] = tuple(BEAK_LENGTHS)
TAIL_SHAPES: tuple[str, ...] = tuple(TAIL_LENGTHS)
CROWN_SHAPES: tuple[str, ...] = ("round", "crested")


@dataclass(frozen=True)
class Part:
    """Colour of a part: its name and the exact shade."""

    colour: str
    rgb: RGB


@dataclass(frozen=True)
class BirdParameters:
    """All parameters of an image of a bird: angles in degrees, lengths as fractions of the image's side."""

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
    x: float  # centre of the bird in the image
    y: float
    background: str
    scene_seed: int  # clouds, leaves, waves
