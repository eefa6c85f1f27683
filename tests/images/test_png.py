"""The PNG writer: other libraries decode the same pixels and texts."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from stackgan.images.png import PNG_END, png_bytes


@pytest.mark.parametrize("width,height", [(1, 1), (2, 3), (5, 1), (1, 7), (64, 64), (257, 31)])
def test_pixels_come_back(width: int, height: int) -> None:
    rng = np.random.default_rng(width)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = png_bytes(Image.fromarray(pixels), {})
    assert content.endswith(PNG_END)
    found = Image.open(BytesIO(content))
    assert found.mode == "RGB"
    assert (np.asarray(found) == pixels).all()
    Image.open(BytesIO(content)).verify()  # every chunk's checksum


def test_texts_come_back_in_any_script() -> None:
    texts = {"caption": "très joli", "other": "赤い鳥", "seed": 7, "empty": ""}
    found = Image.open(BytesIO(png_bytes(Image.new("RGB", (3, 2)), texts)))
    assert found.info == {key: str(value) for key, value in texts.items()}


def test_other_kinds_of_image_become_rgb() -> None:
    assert Image.open(BytesIO(png_bytes(Image.new("L", (4, 4), 9), {}))).getpixel((1, 1)) == (9, 9, 9)


def test_a_smooth_image_is_compressed() -> None:
    ramp = np.add.outer(np.arange(256), np.arange(256))[..., None] / np.array([2, 3, 4])
    pixels = (ramp + np.random.default_rng(0).normal(0, 2, ramp.shape)).clip(0, 255).astype(np.uint8)
    assert len(png_bytes(Image.fromarray(pixels), {})) < len(zlib.compress(pixels.tobytes(), 9)) / 1.3
