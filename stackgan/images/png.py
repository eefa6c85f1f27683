"""A fast PNG encoder: an image of 256 px takes 2 ms, and other threads run meanwhile.

Pillow's encoder tries five filters on every row and holds the interpreter's lock: 5 ms an image at level 1, 17 ms at
its default. Here every row has the average filter, a few NumPy operations, and zlib codes symbols and runs of one
byte alone (Z_RLE): in filtered images the search for longer repetitions costs most and finds next to nothing. On
photos and painted birds the files are as large as Pillow's at level 1 to within 2 %, and 6 to 11 % larger than at
its default; drawings with large flat areas become larger than that.
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
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # the last bytes of every whole PNG
_AVERAGE = 3  # filter type of a row (PNG specification, section 9.2)
_RGB = 2  # colour type


def png_bytes(image: Image.Image, texts: Mapping[str, object]) -> bytes:
    """An 8-bit RGB PNG with text chunks: tEXt, or iTXt where Latin-1 does not do.

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
    """Rows under the average filter, x − ⌊(left + up) / 2⌋ mod 256, as a zlib stream."""
    rows = np.asarray(image.convert("RGB")).reshape(image.height, -1)
    left, up = np.zeros_like(rows), np.zeros_like(rows)
    left[:, 3:], up[1:] = rows[:, :-3], rows[:-1]
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _AVERAGE
    filtered[:, 1:] = rows - ((left & up) + ((left ^ up) >> 1))  # a mean that never leaves 8 bits
    stream = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return stream.compress(filtered.data) + stream.flush()
