"""Videos (GIF, WebP or MP4) and strips of a sequence of images."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from stackgan.io.files import atomic_file

__all__ = ["VIDEO_SUFFIXES", "check_video", "save_video", "strip"]

LEAST_SIDE = 256  # px: smaller images are enlarged, as most players do not scale videos
LEAST_DURATION = 20  # ms of a GIF's image: browsers slow down shorter ones
PALETTE_SIDE = 64  # px: side of the sample that a GIF image's 256 colours are chosen from
WEBP_QUALITY = 90  # of 100
VIDEO_SUFFIXES = (".gif", ".webp", ".mp4")


def check_video(file: Path) -> None:
    """Check that a video of the extension of ``file`` can be written here.

    Raises:
        ValueError: it is none of ``VIDEO_SUFFIXES``, or its encoder is not installed; the message says what to do.
    """
    suffix = file.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise ValueError(f"{file}: a video is a .gif, .webp or .mp4")
    if suffix == ".mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise ValueError('.mp4 needs an encoder: pip install "stackgan[video]", or choose .webp or .gif')
    if suffix == ".webp" and not features.check("webp"):
        raise ValueError("this Pillow was built without WebP: choose .gif")


def save_video(
    images: Sequence[Image.Image], file: Path, *, seconds: float = 3.0, there_and_back: bool = True
) -> None:
    """Write a video of ``seconds`` from the first image to the last and back.

    Args:
        images: of equal size, 2 or more.
        file: ends in .gif, .webp (finer colours in a quarter of a GIF's size) or .mp4 (needs the extra ``video``).
        seconds: from the first image to the last; with ``there_and_back``, it takes as long again to return.

    Raises:
        ValueError: fewer than 2 images, and see :func:`check_video`.
    """
    check_video(file)
    if len(images) < 2:
        raise ValueError(f"{file}: a video needs 2 images or more, not {len(images)}")
    if seconds <= 0:
        raise ValueError(f"seconds is {seconds}: it must be above 0")
    scale = max(1, -(-LEAST_SIDE // images[0].width))
    size = (images[0].width * scale, images[0].height * scale)
    frames = [image.convert("RGB").resize(size, Image.Resampling.LANCZOS) for image in images]
    frames += frames[-2:0:-1] if there_and_back else []
    suffix = file.suffix.lower()
    with atomic_file(file, file.suffix) as partial:
        if suffix == ".mp4":
            _save_mp4(frames, partial, len(images) / seconds)
        else:
            each = max(LEAST_DURATION, round(1000 * seconds / len(images)))
            options: dict[str, Any] = {"quality": WEBP_QUALITY} if suffix == ".webp" else {}
            shown = frames if suffix == ".webp" else [_with_palette(frame) for frame in frames]
            shown[0].save(partial, save_all=True, append_images=shown[1:], duration=each, loop=0, **options)


def _with_palette(frame: Image.Image) -> Image.Image:
    """``frame`` in 256 colours of its own; a palette of all pixels takes eight times as long and differs little."""
    sample = frame.resize((PALETTE_SIDE, PALETTE_SIDE), Image.Resampling.NEAREST)
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
    return frame.quantize(palette=palette, dither=Image.Dither.NONE)


def _save_mp4(frames: Sequence[Image.Image], file: Path, rate: float) -> None:
    import imageio.v3 as imageio

    arrays = np.stack([np.asarray(frame) for frame in frames])
    imageio.imwrite(file, arrays, plugin="FFMPEG", fps=rate, codec="libx264", macro_block_size=2)


def strip(images: Sequence[Image.Image], most: int = 12) -> Image.Image:
    """Up to ``most`` images of equal size, evenly spaced in the sequence, side by side.

    >>> strip([Image.new("RGB", (4, 4))] * 30, most=5).size
    (28, 4)
    """
    if not images:
        raise ValueError("a strip needs 1 image or more")
    rows = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    side, gap = images[0].width, 2
    sheet = Image.new("RGB", (len(rows) * (side + gap) - gap, images[0].height), "white")
    for place, row in enumerate(rows):
        sheet.paste(images[row], (place * (side + gap), 0))
    return sheet
