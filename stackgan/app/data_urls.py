"""Images as data URLs, for parts of the page that are not files to download."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["jpeg_url"]


def jpeg_url(image: Image.Image, side: int | None = None) -> str:
    """``image`` as a JPEG in a data URL, reduced to at most ``side`` pixels."""
    if side is not None and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
