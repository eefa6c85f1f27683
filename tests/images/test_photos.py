"""`prepare`, `edit` and the page read the same pixels of photo files and reject the same files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.folder import prepare_folder
from stackgan.data.prepared import PreparedFolder
from stackgan.generation.edit import open_photo
from stackgan.images.crops import load_side
from stackgan.images.photos import open_rgb
from stackgan.images.pixels import to_tensor

SIDE = load_side(64)


def _transparent(file: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE, 4), (103, 103, 103, 60), np.uint8), "RGBA").save(file)


def _grey_16(file: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 50_000, np.uint16)).save(file)


def _palette(file: Path) -> None:
    image = Image.fromarray(np.full((SIDE, SIDE, 3), (10, 200, 30), np.uint8)).quantize(4)
    image.info["transparency"] = 0
    image.save(file, transparency=0)


def _cmyk(file: Path) -> None:
    Image.new("CMYK", (SIDE, SIDE), (10, 200, 30, 40)).save(file)


def _animation(file: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    frames[0].save(file, save_all=True, append_images=frames[1:])


def _bilevel(file: Path) -> None:
    Image.new("1", (SIDE, SIDE), 1).save(file)


READ: dict[str, Callable[[Path], None]] = {
    "transparent.png": _transparent,
    "grey16.png": _grey_16,
    "palette.png": _palette,
    "cmyk.tif": _cmyk,
    "animation.gif": _animation,
    "bilevel.png": _bilevel,
}


@pytest.mark.parametrize("name", READ)
def test_preparing_and_editing_read_the_same_pixels(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    READ[name](folder / name)
    (folder / name).with_suffix(".txt").write_text("a bird\n")
    prepare_folder(folder, tmp_path / "out", size=64, test_fraction=0)
    stored = PreparedFolder.open(tmp_path / "out").train.images[0]
    assert np.abs(np.asarray(open_photo(folder / name)).astype(int) - stored).max() <= 1
    seen = (to_tensor(Image.open(folder / name), 64).permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(seen - stored[6:70, 6:70]).max() <= 1, "a PIL image given to the pipeline"


def test_transparency_is_composited_on_white_and_16_bits_are_scaled(tmp_path: Path) -> None:
    _transparent(tmp_path / "a.png")
    _grey_16(tmp_path / "b.png")
    assert np.asarray(open_rgb(tmp_path / "a.png"))[0, 0].tolist() == [219] * 3
    assert np.asarray(open_rgb(tmp_path / "b.png"))[0, 0].tolist() == [round(50_000 / 257)] * 3


def _float(file: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(file)


def _cut_jpeg(file: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "JPEG")
    file.write_bytes(file.read_bytes()[:700])


def _text(file: Path) -> None:
    file.write_text("no image")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "write"), [("f.tif", _float), ("c.jpg", _cut_jpeg), ("t.png", _text), ("e.png", _empty)]
)
def test_editing_rejects_the_same_files_as_preparing_with_the_same_message(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError) as reason:
        open_rgb(tmp_path / name)
    with pytest.raises(ValueError) as named:
        open_photo(tmp_path / name)
    assert str(named.value) == f"{tmp_path / name}: {reason.value}"


def test_any_exception_of_a_decoder_is_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    class DecoderError(Exception):
        pass

    for error in (DecoderError("inner"), RuntimeError("inner"), AssertionError("inner"), RecursionError("inner")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
        with pytest.raises(ValueError, match="cannot be read: inner"):
            open_rgb(tmp_path / "a.png")


def test_a_missing_photo(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_photo(tmp_path / "nothing.png")
