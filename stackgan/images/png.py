"""Fast PNG encoder: 2 ms for an image of 256 px, without blocking other threads.

Pillow's encoder tries five filters on every row and holds the interpreter's lock: 5 ms per image at level 1, 17 ms at
its default. Here every row uses the average filter, by a few NumPy operations, and zlib only codes symbols and runs
of one byte (Z_RLE): in filtered images the search for longer repetitions takes most of the time and finds few. On
photos and painted birds the file size is within 2 % of Pillow's at level 1, and 6 to 11 % above its default; for
drawings with large flat areas the difference is larger.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["PNG_END", "png_bytes"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # the last bytes of every complete PNG
_AVERAGE = 3  # filter type of a row (PNG specification, section 9.2)
_RGB = 2  # colour type


def png_bytes(image: Image.Image, texts: Mapping[str, object]) -> bytes:
    """An 8-bit RGB PNG with text chunks: tEXt, or iTXt for text that is not Latin-1.

    >>> png_bytes(Image.new("RGB", (2, 2)), {"caption": "black"})[-12:] == PNG_END
    True
    """
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, str(value))
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, _RGB, 0, 0, 0)
    chunks = [(b"IHDR", header), *((chunk[0], chunk[1]) for chunk in info.chunks), (b"IDAT", _compressed(image))]
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks) + PNG_END


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _compressed(image: Image.Image) -> bytes:
    """Rows with the average filter, x − ⌊(left + up) / 2⌋ mod 256, as a zlib stream."""
    rows = np.asarray(image.convert("RGB")).reshape(image.height, -1)
    left, up = np.zeros_like(rows), np.zeros_like(rows)
    left[:, 3:], up[1:] = rows[:, :-3], rows[:-1]
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _AVERAGE
    filtered[:, 1:] = rows - ((left & up) + ((left ^ up) >> 1))  # mean of uint8 without overflow
    stream = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return stream.compress(filtered.data) + stream.flush()
