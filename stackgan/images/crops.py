"""Sides of stored and cropped images, without torch."""

__all__ = ["load_side"]


def load_side(size: int) -> int:
    """Side in pixels at which photos for `size`-pixel training are stored: size · 76 / 64, rounded down.

    The published recipe crops 256 at random out of 304; 76/64 keeps that margin at every size.

    >>> load_side(64), load_side(128), load_side(256)
    (76, 152, 304)
    """
    if size < 1:
        raise ValueError(f"size: {size} is not a positive number of pixels")
    return size * 76 // 64
