"""Sizes of stored images, and centre crops; without torch, for data preparation."""

from typing import Any

__all__ = ["crop_size", "load_side", "middle"]


def load_side(size: int) -> int:
    """Side in pixels at which photos for `size`-pixel training are stored: size · 76 / 64, rounded down.

    The published recipe takes random crops of 256 px from 304 px; 76/64 is this ratio for every size.

    >>> load_side(64), load_side(128), load_side(256)
    (76, 152, 304)
    """
    if size < 1:
        raise ValueError(f"size: {size} is not a positive number of pixels")
    return size * 76 // 64


def crop_size(load: int) -> int:
    """Inverse of :func:`load_side`, for sizes that are multiples of 16.

    >>> [crop_size(load_side(size)) for size in (16, 64, 1024)]
    [16, 64, 1024]
    """
    return load * 64 // 76


def middle(images: Any, side: int) -> Any:
    """Centre crops (N, side, side, …) of square images (N, L, L, …), given as any kind of array.

    >>> import numpy as np
    >>> middle(np.arange(9).reshape(1, 3, 3), 1).tolist()
    [[[4]]]
    """
    edge = (images.shape[1] - side) // 2
    return images[:, edge : edge + side, edge : edge + side]
