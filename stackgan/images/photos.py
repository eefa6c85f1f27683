"""Reads photo files as 8-bit RGB; used wherever a user's file is opened.

Format, size and number of frames are checked by the file's header, before memory is allocated for pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["FORMATS", "MAX_PIXELS", "PhotoError", "decoder_errors", "open_rgb", "opened_image", "to_rgb"]

# Formats that are read, by content whatever the file's name. Of Pillow's others, EPS runs Ghostscript.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # several frames: pages of a TIFF and further views of an MPO are not
MAX_PIXELS = 89_478_485  # 256 MiB as RGB; from here on Pillow warns of decompression bombs


class PhotoError(ValueError):
    """A photo that cannot be used; the message gives the reason, not the file."""


def open_rgb(file: Path | IO[bytes], *, upright: bool = True) -> Image.Image:
    """Read an image file and convert it with :func:`to_rgb`; of a TIFF's pages the first is used.

    Args:
        file: the image, or its bytes.
        upright: apply the EXIF orientation. Not for CUB, whose boxes refer to raw pixels.

    Raises:
        PhotoError: the image is unreadable, truncated, too large, an animation, or of a mode that cannot be
            converted to 8 bits; the message does not name the file.
    """
    with opened_image(file) as opened:
        opened.load()
        return to_rgb(ImageOps.exif_transpose(opened) if upright else opened)


@contextlib.contextmanager
def opened_image(file: Path | IO[bytes], formats: Sequence[str] = FORMATS) -> Iterator[Image.Image]:
    """Context with an image whose header was read and checked, and whose pixels were not decoded yet.

    Within it, every exception is a PhotoError (:func:`decoder_errors`).

    Args:
        formats: of Pillow that are read; those that this Pillow was built without are left out.

    Raises:
        PhotoError: of another format, more than MAX_PIXELS, or an animation; the message does not name the file.
    """
    Image.init()  # registers all formats: Image.open fails for one that is not known
    with decoder_errors(), Image.open(file, formats=[name for name in formats if name in Image.OPEN]) as opened:
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise PhotoError(f"more than {MAX_PIXELS:,} pixels; save it smaller")
        frames = getattr(opened, "n_frames", 1) if opened.format in _ANIMATED else 1
        if frames > 1:
            raise PhotoError(f"an animation of {frames} frames; save one of them as an image")
        yield opened


@contextlib.contextmanager
def decoder_errors() -> Iterator[None]:
    """Context in which every exception of Pillow and its decoders becomes a ValueError that gives the reason.

    Decoders and plugins raise nearly every type for damaged files, also after the image is opened.
    """
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError:
        raise PhotoError("not an image in a format that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PhotoError(f"more than {MAX_PIXELS:,} pixels; save it smaller") from None
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        shown = " ".join(reason.split()) or type(error).__name__
        raise PhotoError(f"cannot be read: {shown}") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Transparent images are composited on white; CMYK, grey and palette images are converted; 16-bit grey is scaled to
    8 bits.

    Raises:
        PhotoError: the pixels are 32-bit integers or floats, whose range is unknown.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)  # convert("RGB") would clip instead of scale
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise PhotoError(f"pixels of mode {image.mode!r} have no fixed range; save it with 8 bits per channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
