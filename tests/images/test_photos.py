"""`prepare`, `edit` and the page read the same pixels of photo files and reject the same files."""

import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
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


def _two_frames(file: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    frames[0].save(file, save_all=True, append_images=frames[1:])


def _polyglot(file: Path) -> None:
    """A PNG that is a ZIP archive and a page too."""
    Image.new("RGB", (SIDE, SIDE), "green").save(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("index.html", "<script>alert(1)</script>")


def _bilevel(file: Path) -> None:
    Image.new("1", (SIDE, SIDE), 1).save(file)


def _as(file: Path, form: str, write: Callable[[Path], None]) -> None:
    """Write in the format of another ending."""
    other = file.with_suffix(f".{form.lower()}")
    write(other)
    other.rename(file)


READ: dict[str, Callable[[Path], None]] = {
    "transparent.png": _transparent,
    "grey16.png": _grey_16,
    "palette.png": _palette,
    "cmyk.tif": _cmyk,
    "pages.tif": _two_frames,
    "views.jpg": lambda file: _as(file, "MPO", _two_frames),
    "archive.png": _polyglot,
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


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("f.tif", _float),
        ("c.jpg", _cut_jpeg),
        ("t.png", lambda file: file.write_text("no image")),
        ("e.png", Path.touch),
        ("a.gif", _two_frames),
    ],
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


# --- files made to do harm --------------------------------------------------------------------------------------

HUGE = 50_000  # side in pixels: 7.5 GB as RGB
TOO_LARGE = "more than 89,478,485 pixels; save it smaller"
NO_IMAGE = "not an image in a format that can be read"


def _saved(form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(stream, form, **options)
    return stream.getvalue()


def _animation(form: str) -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("green", "blue")]
    return _saved(form, save_all=True, append_images=frames)


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG of its header and these chunks, each its name and its content."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    framed = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, *chunks, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _patched(data: bytes, marker: bytes, offset: int, form: str, *values: int) -> bytes:
    place = data.index(marker) + offset
    return data[:place] + struct.pack(form, *values) + data[place + struct.calcsize(form) :]


def _tiff() -> bytes:
    entries = ((256, HUGE), (257, HUGE), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, HUGE), (279, 8))
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(200)


PIXELS = b"IDAT" + zlib.compress(bytes(99))
HARMFUL: dict[str, tuple[Callable[[], bytes], str]] = {
    "header.png": (lambda: _png(HUGE, HUGE, PIXELS), TOO_LARGE),
    "just-too-large.png": (lambda: _png(9_460, 9_459, PIXELS), TOO_LARGE),
    "long-line.png": (lambda: _png(2**31 - 1, 1, PIXELS), TOO_LARGE),
    "header.jpg": (lambda: _patched(_saved("JPEG"), b"\xff\xc0", 5, ">HH", HUGE, HUGE), TOO_LARGE),
    "header.gif": (lambda: _patched(_saved("GIF"), b"GIF8", 6, "<HH", HUGE, HUGE), TOO_LARGE),
    "header.bmp": (lambda: _patched(_saved("BMP"), b"BM", 18, "<ii", HUGE, HUGE), TOO_LARGE),
    "header.tif": (_tiff, TOO_LARGE),
    "header.ppm": (lambda: b"P6 50000 50000 255\n" + bytes(99), TOO_LARGE),
    "header.jp2": (lambda: _patched(_saved("JPEG2000"), b"ihdr", 4, ">II", HUGE, HUGE), TOO_LARGE),
    "text.png": (lambda: _png(8, 8, b"zTXta\0\0" + zlib.compress(bytes(10**8)), PIXELS), "cannot be read: "),
    "profile.png": (lambda: _png(8, 8, b"iCCPa\0\0" + zlib.compress(bytes(10**8)), PIXELS), "cannot be read: "),
    "cut.jpg": (lambda: _patched(_saved("JPEG"), b"\xff\xc0", 5, ">HH", 9_000, 9_000)[:-9], "cannot be read: "),
    "cut.png": (lambda: _png(9_000, 9_000, PIXELS), "cannot be read: "),
    "animation.gif": (lambda: _animation("GIF"), "an animation of 3 frames"),
    "animation.png": (lambda: _animation("PNG"), "an animation of 3 frames"),
    "animation.webp": (lambda: _animation("WEBP"), "an animation of 3 frames"),
    "drawing.png": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", NO_IMAGE),
    "page.jpg": (lambda: b"GIF8<html><script>alert(1)</script>", NO_IMAGE),
    "script.jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", NO_IMAGE),
    "document.png": (lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj", NO_IMAGE),
    "archive.png": (lambda: b"PK\x03\x04" + bytes(60), NO_IMAGE),
}
READ_ALL = """
import json, resource, sys
from pathlib import Path
from PIL import Image
from stackgan.images.photos import PhotoError, open_rgb

Image.init()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, found = peak(), {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    before = peak()
    try:
        found[file.name] = str(open_rgb(file).size)
    except PhotoError as error:
        found[file.name] = str(error)
    print(file.name, peak() - before, "kB", found[file.name], file=sys.stderr)
print(json.dumps([found, peak() - start]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in kB")
def test_harmful_files_are_refused_before_memory_is_allocated(tmp_path: Path) -> None:
    for name, (content, _) in HARMFUL.items():
        (tmp_path / name).write_bytes(content())
    command = [sys.executable, "-W", "ignore", "-c", READ_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    print(done.stderr)
    found, kilobytes = json.loads(done.stdout)
    for name, (_, words) in HARMFUL.items():
        assert found[name].startswith(words), f"{name}: {found[name]}"
    assert kilobytes < 64 * 1024
