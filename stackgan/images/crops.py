"""Sides of stored images, and centre crops; without torch, so that data preparation can use them."""

from typing import Any

__all__ = ["crop_size", "load_side", "middle"]


def load_side(size: int) -> int:
    """Side in pixels at which photos for `size`-pixel training are stored: size · 76 / 64, rounded down.

    The published recipe crops 256 at random out of 304; 76/64 keeps that margin at every size.

    >>> load_side(64), load_side(128), load_side(256)
    (76, 152, 304)
    """
    if size < 1:
        raise ValueError(f"size: {size} is not a positive number of pixels")
    return size * 76 // 64


def crop_size(load: int) -> int:
    """The size whose :func:`load_side` is ``load``, for sizes that are multiples of 16.

    >>> [crop_size(load_side(size)) for size in (16, 64, 1024)]
    [16, 64, 1024]
    """
    return load * 64 // 76


def middle(images: Any, side: int) -> Any:
    """The centre crops (N, side, side, …) of square images (N, L, L, …), an array of any kind.

    >>> import numpy as np
    >>> middle(np.arange(9).reshape(1, 3, 3), 1).tolist()
    [[[4]]]
    """
    edge = (images.shape[1] - side) // 2
    return images[:, edge : edge + side, edge : edge + side]
