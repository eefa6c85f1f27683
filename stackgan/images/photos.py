"""Photo files as 8-bit RGB: the one way in which files of users become images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["open_rgb", "to_rgb"]


def open_rgb(file: Path, *, upright: bool = True) -> Image.Image:
    """Read an image file as :func:`to_rgb` converts it, the first of several frames.

    Args:
        upright: apply the EXIF orientation. CUB's boxes count raw pixels, so CUB is not turned.

    Raises:
        ValueError: unreadable, truncated, too large, or without a plain 8-bit meaning; the message does not name
            the file.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            image: Image.Image = ImageOps.exif_transpose(opened) if upright else opened
    except UnidentifiedImageError:
        raise ValueError("not an image in a format that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels; save it smaller") from None
    except Exception as error:  # decoders and plugins raise nearly every type for damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"cannot be read: {reason or type(error).__name__}") from None
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB.

    Transparency is laid over white; CMYK, grey and palette images are converted; 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: 32-bit pixels, whose range is not known.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)  # convert("RGB") would clip instead of scale
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r} have no fixed range; save it with 8 bits a channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
