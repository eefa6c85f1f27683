"""Settings of images in PNGs and links."""

import doctest
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stackgan.generation import image_settings
from stackgan.generation.image_settings import ImageSettings, link_query, png_texts, read_link, read_png
from stackgan.images.png import png_bytes

# Text that a browser can send and a PNG can hold: no lone surrogates, no null character.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)
SEEDS = st.integers(0, 2**53 - 1)
SETTINGS = st.builds(
    ImageSettings,
    caption=TEXTS,
    seed=SEEDS,
    truncation=st.integers(0, 40).map(lambda steps: steps / 20),
    fingerprint=st.text("0123456789abcdef", min_size=12, max_size=12),
    checkpoint=st.text("abc-256", max_size=12),
    size=st.sampled_from([64, 128, 256]),
    variation=st.none() | st.tuples(SEEDS, st.integers(0, 20).map(lambda steps: steps / 20)),
)


def test_doctests() -> None:
    assert doctest.testmod(image_settings).failed == 0


@given(SETTINGS, st.integers(1, 16))
def test_a_link_holds_the_settings(settings: ImageSettings, count: int) -> None:
    assert read_link("?" + link_query(settings, count)) == (settings, count)


@given(SETTINGS)
def test_a_png_holds_the_settings(tmp_path_factory: pytest.TempPathFactory, settings: ImageSettings) -> None:
    assert settings.size is not None
    file = tmp_path_factory.getbasetemp() / "image.png"
    side = (settings.size, settings.size)
    file.write_bytes(png_bytes(Image.new("RGB", side), png_texts(settings, side)))
    assert read_png(file) == settings


def _png(file: Path, texts: dict[str, str]) -> Path:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    Image.new("RGB", (8, 8)).save(file, pnginfo=info)
    return file


def test_the_chunk_of_other_programs_is_read(tmp_path: Path) -> None:
    ours = ImageSettings('a bird, red: "very"', 7, 0.8, "f" * 64, 'my, "birds"', 256, (9, 0.25))
    only = {"parameters": png_texts(ours, (256, 256))["parameters"]}
    assert read_png(_png(tmp_path / "ours.png", only)) == ImageSettings(
        ours.caption, 7, 0.8, "f" * 10, ours.checkpoint, 256, (9, 0.25)
    )
    text = (
        "a red bird,\nsitting\nNegative prompt: blurry, cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
        "Seed: 1234, Size: 512x768, Model hash: abcdef0123, Model: other, "
        "Variation seed: 3, Variation seed strength: 0.2"
    )
    found = read_png(_png(tmp_path / "theirs.png", {"parameters": text}))
    assert found == ImageSettings("a red bird,\nsitting", 1234, None, "abcdef0123", "other", None, None)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "has no settings"),
        ({"caption": "a bird"}, "has no settings"),
        ({"caption": "a bird", "seed": "read from a photo"}, "cannot be generated from settings alone"),
        ({"caption": "a bird", "seed": "-1"}, "the seed is -1: it must be from 0"),
        ({"caption": "a bird", "seed": "9" * 30}, "it must be an integer"),
        ({"caption": "a bird", "seed": "1", "truncation": "nan"}, "the truncation is 'nan': it must be a number"),
        ({"caption": "a bird", "seed": "1", "truncation": "5"}, "the truncation is 5: it must be from 0 to 2"),
        ({"caption": "a bird", "seed": "1", "variation_seed": "2"}, "the variation strength is '': it must be"),
        ({"parameters": "a bird"}, "has no seed"),
        ({"parameters": "a bird\nSteps: 1, Seed: x, Size: 1x1"}, "the seed is 'x': it must be an integer"),
    ],
)
def test_a_png_without_valid_settings_is_refused(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_png(_png(tmp_path / "image.png", texts))


def test_files_that_are_no_png_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    contents = {"jpeg": buffer.getvalue(), "empty": b"", "cut": png_bytes(Image.new("RGB", (8, 8)), {"a": "b"})[:-30]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"not an image|cannot be read"):
            read_png(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_png(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("seed=abc", "the seed is 'abc': it must be an integer"),
        ("seed=-4", "the seed is -4"),
        ("seed=1&truncation=inf", "the truncation is 'inf'"),
        ("seed=1&truncation=9", "the truncation is 9"),
        ("seed=1&variation=2&strength=3", "the variation strength is 3"),
        ("&".join(f"a{i}=1" for i in range(40)), "the link cannot be read"),
        ("seed=1&count=two", "the count is 'two'"),
    ],
)
def test_a_link_that_is_not_valid_is_refused(query: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_link(query)
