"""Images as data URLs, for parts of the page that are not files to download."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["jpeg_url", "png_url"]


def jpeg_url(image: Image.Image, side: int | None = None) -> str:
    """``image`` as a JPEG in a data URL, reduced to at most ``side`` pixels."""
    if side is not None and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=92)
    return f"data:image/jpeg;base64,{_base64(stream.getvalue())}"


def png_url(content: bytes) -> str:
    """A PNG file as a data URL."""
    return f"data:image/png;base64,{_base64(content)}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
