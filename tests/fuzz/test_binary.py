"""Damaged weights, pickles and photos: a ValueError, or what was read."""

import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from data_prep.images import to_square
from data_prep.pickles import read_pickle
from stackgan.images.photos import decoder_errors, open_rgb
from stackgan.io.weights import read_tensors
from tests.fuzz.strategies import JSON_TOKENS, mutated, some_cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


WEIGHTS = [
    save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}, {"format": "pt"}),
    save({"x": torch.zeros(3).half()}),
    save({}),
]


@given(data=mutated(WEIGHTS, JSON_TOKENS))
@some_cases
def test_safetensors(data: bytes, folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(data)
    try:
        for tensor in read_tensors(file).values():
            tensor.float().sum()
    except ValueError as error:
        assert str(error).startswith(f"{file}: ")


PICKLES = [
    pickle.dumps(value, protocol)
    for value in (["a/b", "c"], {"x": (1, 2.5, b"y")}, np.arange(6, dtype=np.float32).reshape(2, 3), [np.float64(1)])
    for protocol in (0, 2, 4)
]
OPCODES = [
    b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04", b"}", b"]", b"(", b"t", b"R", b"b", b"q\x00", b"h\x00", b"0", b"2",
    b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"I99999999999\n", b"\x8a\xff", b"X\xff\xff\xff\x7f", b"a", b"e", b"u",
    b"s",    b"\x94", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b".", b"B\xff\xff\xff\x7f",
]  # fmt: skip


@given(data=mutated(PICKLES, OPCODES))
@some_cases
def test_restricted_pickles(data: bytes, folder: Path) -> None:
    file = folder / "a.pickle"
    file.write_bytes(data)
    try:
        read_pickle(file)
    except ValueError as error:
        assert str(error).startswith(f"{file}: ")


def _photo(form: str, **options: object) -> bytes:
    ramp = np.add.outer(np.arange(24), np.arange(30) * 3).astype(np.uint8)
    image = Image.fromarray(np.stack([ramp, ramp.T[:24, :24].repeat(2, 1)[:, :30], 255 - ramp], -1))
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _frames() -> bytes:
    stream = BytesIO()
    frames = [Image.new("P", (20, 20), number) for number in range(3)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _photo("JPEG", exif=exif)


PHOTOS: dict[str, Callable[[], list[bytes]]] = {
    "png": lambda: [_photo("PNG"), _photo("PNG", optimize=True)],
    "jpg": lambda: [_photo("JPEG"), _photo("JPEG", progressive=True), _exif()],
    "webp": lambda: [_photo("WEBP"), _photo("WEBP", lossless=True)],
    "gif": lambda: [_photo("GIF"), _frames()],
    "tif": lambda: [
        _photo("TIFF"),
        _photo("TIFF", compression="tiff_lzw"),
        _photo("TIFF", compression="tiff_adobe_deflate"),
    ],
}


@pytest.mark.parametrize("kind", PHOTOS)
@given(values=st.data())
@some_cases
def test_photos(kind: str, values: st.DataObject, folder: Path) -> None:
    file = folder / f"a.{kind}"
    file.write_bytes(values.draw(mutated(PHOTOS[kind]())))
    try:
        image = open_rgb(file)
        with decoder_errors():
            assert to_square(image, 76, "pad").shape == (76, 76, 3)
    except ValueError as error:
        assert str(error)
    else:
        assert image.mode == "RGB" and min(image.size) >= 1
