"""Square uint8 arrays from photos: CUB's crop, and fitting of images that are not square."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["FITS", "Fit", "crop_box", "to_square"]

Fit = Literal["stretch", "pad", "cut"]

# Treatment of images that are not square; dataset.json contains these texts, which must not change.
FITS: dict[Fit, str] = {
    "stretch": "resized to the square directly, bilinear",
    "pad": "longer side resized, bilinear; the rest filled with the picture's edge, continued and blurred",
    "cut": "shorter side resized, bilinear; the ends of the longer side cut off evenly",
}


def crop_box(box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The published crop: a square of half side int(0.75 · max(w, h)) around the box's centre, clipped.

    Args:
        box: x, y, w, h of the bird in pixels, as in bounding_boxes.txt without the decimals.
        width, height: of the photo, in pixels.

    Returns:
        left, top, right, bottom; not square if clipped at the photo's edge.

    Raises:
        ValueError: the box is empty or outside the photo.

    >>> crop_box((60, 27, 325, 304), 500, 335)
    (0, 0, 465, 335)
    """
    x, y, w, h = box
    radius = int(0.75 * max(w, h))
    centre_x, centre_y = (2 * x + w) // 2, (2 * y + h) // 2
    left, right = max(0, centre_x - radius), min(width, centre_x + radius)
    top, bottom = max(0, centre_y - radius), min(height, centre_y + radius)
    if w < 1 or h < 1 or left >= right or top >= bottom:
        raise ValueError(f"box {box} is empty or outside the photo of {width} x {height}")
    return left, top, right, bottom


def to_square(image: Image.Image, side: int, fit: Fit) -> NDArray[np.uint8]:
    """An RGB image as (side, side, 3) uint8; `fit` is the treatment of images that are not square (`FITS`)."""
    width, height = image.size
    if fit == "stretch" or width == height:
        return np.array(image.resize((side, side), Image.Resampling.BILINEAR))
    if fit == "cut":
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        box = (left, top, left + short, top + short)
        return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    long = max(width, height)
    inner = (max(1, round(width * side / long)), max(1, round(height * side / long)))
    small = np.array(image.resize(inner, Image.Resampling.BILINEAR))
    top, left = (side - inner[1]) // 2, (side - inner[0]) // 2
    margins = ((top, side - inner[1] - top), (left, side - inner[0] - left), (0, 0))
    edges = Image.fromarray(np.pad(small, margins, mode="edge"))
    square = np.array(edges.filter(ImageFilter.GaussianBlur(side / 16)))  # avoids visible streaks
    square[top : top + inner[1], left : left + inner[0]] = small
    return square
