"""Sheets of images with captions."""

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["caption_sheet"]


def caption_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image | NDArray[np.uint8]]]], columns: int = 2, side: int = 96
) -> Image.Image:
    """A sheet of groups, each a row of images with a caption below.

    Args:
        rows: (caption, images of equal size) per group; every group has the same number of images.
        columns: number of groups side by side.
        side: of each image on the sheet, in pixels.
    """
    if not rows:
        raise ValueError("caption_sheet needs at least one caption with its images")
    font = ImageFont.load_default(11)
    line, gap = 14, 6
    width = max(len(images) for _, images in rows) * (side + 2)
    wrapped = [textwrap.wrap(caption, max(12, width // 6)) or [""] for caption, _ in rows]
    lines = min(max(len(text) for text in wrapped), 4)
    height = side + 2 + lines * line + gap
    down = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, down * height + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for place, ((_, images), text) in enumerate(zip(rows, wrapped, strict=True)):
        left, top = gap + (place % columns) * (width + gap), gap + (place // columns) * height
        for i, image in enumerate(images):
            shown = image if isinstance(image, Image.Image) else Image.fromarray(image)
            if shown.size != (side, side):
                shown = shown.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(shown, (left + i * (side + 2), top))
        if len(text) > lines:
            text = [*text[: lines - 1], text[lines - 1] + " …"]
        pen.text((left, top + side + 2), "\n".join(text), fill="black", font=font, spacing=2)
    return sheet
