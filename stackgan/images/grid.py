"""Sheets of images with captions, and tables of images with labelled rows and columns."""

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["caption_sheet", "labelled_grid"]

INK, PAPER = "#2a2622", "white"


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


def labelled_grid(
    images: Sequence[Sequence[Image.Image]], rows: Sequence[str], columns: Sequence[str], title: str = ""
) -> Image.Image:
    """A table of images with a label beside each row and above each column, and a title at the top.

    Args:
        images: by row, of equal size; long labels are wrapped, and cut after the height of an image.
    """
    if not images or not images[0]:
        raise ValueError("labelled_grid needs at least one image")
    side = images[0][0].width
    size, gap = max(11, side // 16), max(4, side // 32)
    font = ImageFont.load_default(size)
    line = round(1.3 * size)
    above = [_wrapped(label, font, side, side // line) for label in columns]
    beside = [_wrapped(label, font, max(side, 14 * size), side // line) for label in rows]
    whole = len(columns) * (side + gap) + side
    heading = _wrapped(title, font, whole, 4)
    top = gap + line * (len(heading) + max(map(len, above))) + gap
    left = gap + round(max(font.getlength(text) for label in beside for text in label)) + gap
    width = max(left + len(columns) * (side + gap), round(max(map(font.getlength, heading), default=0)) + 2 * gap)
    sheet = Image.new("RGB", (width, top + len(rows) * (side + gap)), PAPER)
    pen = ImageDraw.Draw(sheet)

    def write(place: tuple[int, int], lines: Sequence[str]) -> None:
        for number, text in enumerate(lines):
            pen.text((place[0], place[1] + number * line), text, fill=INK, font=font)

    write((gap, gap), heading)
    for column, label in enumerate(above):
        write((left + column * (side + gap), top - gap - line * len(label)), label)
    for row, (label, cells) in enumerate(zip(beside, images, strict=True)):
        down = top + row * (side + gap)
        write((gap, down), label)
        for column, image in enumerate(cells):
            sheet.paste(image, (left + column * (side + gap), down))
    return sheet


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> list[str]:
    """``text`` in up to ``most`` lines that are not wider than ``width`` pixels, except for single words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " …"]
