"""Videos (GIF or MP4) and strips of a sequence of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stackgan.io.files import atomic_file

__all__ = ["save_video", "strip"]

LEAST_SIDE = 256  # px: smaller images are enlarged, as most players do not scale videos


def save_video(
    images: Sequence[Image.Image], file: Path, *, seconds: float = 3.0, there_and_back: bool = True
) -> None:
    """Write a video of ``seconds`` from the first image to the last and back.

    Args:
        images: of equal size, 2 or more.
        file: ends in .gif, or in .mp4 (needs the extra ``video``).

    Raises:
        ValueError: fewer than 2 images, another file extension, or no encoder for MP4.
    """
    if len(images) < 2:
        raise ValueError(f"{file}: a video needs 2 images or more, not {len(images)}")
    if seconds <= 0:
        raise ValueError(f"seconds is {seconds}: it must be above 0")
    scale = max(1, -(-LEAST_SIDE // images[0].width))
    size = (images[0].width * scale, images[0].height * scale)
    frames = [image.convert("RGB").resize(size, Image.Resampling.LANCZOS) for image in images]
    frames += frames[-2:0:-1] if there_and_back else []
    with atomic_file(file, file.suffix) as partial:
        if file.suffix.lower() == ".gif":
            each = max(20, round(1000 * seconds / len(images)))
            frames[0].save(partial, save_all=True, append_images=frames[1:], duration=each, loop=0)
        elif file.suffix.lower() == ".mp4":
            _save_mp4(frames, partial, len(images) / seconds)
        else:
            raise ValueError(f"{file}: a video is a .gif or an .mp4")


def _save_mp4(frames: Sequence[Image.Image], file: Path, rate: float) -> None:
    try:
        import imageio.v3 as imageio
        import imageio_ffmpeg  # noqa: F401  (the encoder that imageio calls)
    except ImportError:
        raise ValueError(f'{file.suffix} needs an encoder: pip install "stackgan[video]", or write a .gif') from None
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
