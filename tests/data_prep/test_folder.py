"""Own photos: caption formats, square crops, the split, and messages about problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stackgan.cli.main import main
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder, PreparedSplit


def photo(file: Path, size: tuple[int, int] = (90, 90), colour: object = (200, 30, 30), mode: str = "RGB") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)  # type: ignore[arg-type]
    return file


def lines(file: Path, rows: Sequence[object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def prepare(src: Path, out: Path, *options: str) -> int:
    return main(["prepare", "folder", str(src), str(out), *options])


def records(out: Path) -> dict[str, Record]:
    folder = PreparedFolder.open(out)
    return {record.id: record for split in folder.splits.values() for record in split.records}


def problems(out: Path) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in PreparedFolder.open(out).meta["problems"]}


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Two photos, no captions yet."""
    photo(tmp_path / "src" / "a.jpg")
    photo(tmp_path / "src" / "deep" / "b.PNG", colour=(20, 160, 40))
    return tmp_path / "src"


# --- captions ----------------------------------------------------------------------------------


def test_metadata_jsonl(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"file_name": "deep/b.PNG", "text": ["a  green\nsquare", "very green", ""], "species": "leaf"},
        {"file_name": "./a.jpg", "text": "a réd square", "label": 7},
    ]
    lines(src / "metadata.jsonl", rows).write_bytes(
        b"\xef\xbb\xbf" + (src / "metadata.jsonl").read_bytes().replace(b"\n", b"\r\n") + b"\r\n"
    )
    assert prepare(src, tmp_path / "out", "--test-fraction", "0") == 0
    assert records(tmp_path / "out") == {
        "a.jpg": Record("a.jpg", ("a réd square",), "7"),
        "deep/b.PNG": Record("deep/b.PNG", ("a green square", "very green"), "leaf"),
    }
    printed = capsys.readouterr().out
    assert "photos found: 2" in printed and "train: 2 photos, 3 captions, 2 species" in printed


def test_metadata_csv(src: Path, tmp_path: Path) -> None:
    text = 'file_name,caption,species\na.jpg,"red, with a ""comma""",rose\na.jpg,again,rose\n'
    text += "deep\\b.PNG,green,\n"
    (src / "metadata.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert prepare(src, tmp_path / "out", "--test-fraction", "0") == 0
    assert records(tmp_path / "out") == {
        "a.jpg": Record("a.jpg", ('red, with a "comma"', "again"), "rose"),  # two rows, two captions
        "deep/b.PNG": Record("deep/b.PNG", ("green",)),
    }


def test_metadata_in_subfolders_refers_to_its_own_folder(src: Path, tmp_path: Path) -> None:
    lines(src / "deep" / "metadata.jsonl", [{"file_name": "b.PNG", "captions": ["green"]}])
    lines(src / "metadata.jsonl", [{"file_name": "a.jpg", "text": "red"}])
    assert prepare(src, tmp_path / "out", "--test-fraction", "0") == 0
    assert {name: record.captions for name, record in records(tmp_path / "out").items()} == {
        "a.jpg": ("red",),
        "deep/b.PNG": ("green",),
    }


def test_text_files(src: Path, tmp_path: Path) -> None:
    (src / "a.txt").write_text("red\n\n  a red   square \n")
    (src / "deep" / "b.txt").write_text("green")
    (src / "README.txt").write_text("about these photos")
    (src / ".hidden.txt").write_text("x")
    photo(src / ".thumbnails" / "a.jpg")
    assert prepare(src, tmp_path / "out", "--test-fraction", "0") == 0
    assert {name: record.captions for name, record in records(tmp_path / "out").items()} == {
        "a.jpg": ("red", "a red square"),
        "deep/b.PNG": ("green",),
    }


def test_no_captions(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(src, tmp_path / "out") == 2
    refusal = capsys.readouterr().err
    assert "no captions: neither metadata.jsonl nor metadata.csv nor a .txt" in refusal
    assert "--no-captions" in refusal and refusal.count("\n") == 1
    (src / "a.txt").write_text("red")
    assert prepare(src, tmp_path / "out", "--no-captions", "--test-fraction", "0", "--size", "128") == 0
    assert all(record.captions == () for record in records(tmp_path / "out").values())
    split = PreparedFolder.open(tmp_path / "out").splits["train"]
    assert len(split) == 2 and list(split.captions) == [] and split.offsets.tolist() == [0, 0, 0]
    assert "--preset modern tree.stages=2 text.encoder=none" in capsys.readouterr().out


# --- problems ----------------------------------------------------------------------------------


def test_every_problem_in_metadata_is_named(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("c", "d", "e", "f", "g", "unlisted"):
        photo(src / f"{name}.jpg")
    (src / "g.jpg").write_bytes((src / "g.jpg").read_bytes()[:-80])
    (src / "phone.heic").write_bytes(b"x")
    rows = [
        {"file_name": "a.jpg", "text": "red"},
        {"file_name": "gone.jpg", "text": "gone"},
        {"file_name": "../src/a.jpg", "text": "out"},
        {"text": "nameless"},
        {"file_name": "c.jpg", "text": " "},
        {"file_name": "d.jpg", "prompt": "x"},
        {"file_name": "e.jpg", "text": ["x", 3]},
        {"file_name": "f.jpg", "text": "x", "species": 1.5},
        {"file_name": "g.jpg", "text": "x"},
        ["a.jpg"],
        {"file_name": "a.jpg", "text": "x", "species": "other"},
        {"file_name": "a.jpg", "text": "x", "caption": "y"},
    ]
    with lines(src / "metadata.jsonl", rows).open("ab") as stream:
        stream.write(b'{"file_name": \n{"file_name": "a.jpg", "text": "caf\xe9"}\n')
        stream.write(b'{"file_name": "deep/b.PNG", "text": "green"}\n')
    assert prepare(src, tmp_path / "out", "--test-fraction", "0") == 1
    found = problems(tmp_path / "out")
    expected = {
        "phone.heic": "this format is not read; save it as JPEG or PNG",
        "metadata.jsonl, line 2": "gone.jpg: there is no such photo",
        "metadata.jsonl, line 3": "../src/a.jpg: leads out of the folder",
        "metadata.jsonl, line 4": "no 'file_name'",
        "metadata.jsonl, line 5": "'text' is empty",
        "metadata.jsonl, line 6": "one of text, caption, captions is needed; found only file_name, prompt",
        "metadata.jsonl, line 7": "'text' is neither a string nor a list of strings",
        "metadata.jsonl, line 8": "'species' is 1.5, neither a name nor a number",
        "metadata.jsonl, line 10": "holds a list, expected an object",
        "metadata.jsonl, line 11": "a.jpg: species 'other' here, None before",
        "metadata.jsonl, line 12": "one of text, caption, captions is needed; found text and caption",
        "metadata.jsonl, line 13": found["metadata.jsonl, line 13"],
        "metadata.jsonl, line 14": "byte 0xe9 is not UTF-8; save it as UTF-8",
        "unlisted.jpg": "no row in the metadata",
        "g.jpg": found["g.jpg"],
    }
    assert found == expected
    assert found["metadata.jsonl, line 13"].startswith("not valid JSON") and "truncated" in found["g.jpg"]
    assert set(records(tmp_path / "out")) == {"a.jpg", "deep/b.PNG"}
    printed = capsys.readouterr().out
    assert "problems: 15" in printed
    assert all(f"  {path}: {reason}\n" in printed for path, reason in found.items())
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


def test_every_problem_of_text_files_is_named(src: Path, tmp_path: Path) -> None:
    for name in ("c", "d", "e"):
        photo(src / f"{name}.jpg")
    (src / "a.txt").write_text("red")
    (src / "c.txt").write_text("\n")
    (src / "d.txt").write_bytes(b"ok\n\xff\xfe")
    (src / "e.txt").write_bytes(b"a\0b")
    (src / "orphan.txt").write_text("x")
    assert prepare(src, tmp_path / "out", "--test-fraction", "0") == 1
    assert problems(tmp_path / "out") == {
        "c.txt": "empty: no caption in it; the photo c.jpg is left out",
        "d.txt": "line 2: byte 0xff is not UTF-8; save it as UTF-8; the photo d.jpg is left out",
        "deep/b.txt": "missing; the photo deep/b.PNG is left out",
        "e.txt": "holds null characters, so it is not UTF-8 text; the photo e.jpg is left out",
        "orphan.txt": "no photo of this name",
    }


def csv_text(text: bytes) -> Callable[[Path], object]:
    return lambda src: (src / "metadata.csv").write_bytes(text)


def both(src: Path) -> None:
    lines(src / "metadata.jsonl", [{"file_name": "a.jpg", "text": "x"}])
    (src / "metadata.csv").write_text("file_name,text\na.jpg,x\n")


def empty(src: Path) -> None:
    for file in src.rglob("*.*"):
        file.unlink()


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no photos": (empty, "no photos in it (.apng, .avif, .bmp"),
    "csv not UTF-8": (
        csv_text(b"file_name,text\na.jpg,caf\xe9\n"),
        "metadata.csv, line 2: byte 0xe9 is not UTF-8",
    ),
    "csv without text": (csv_text(b"file_name,words\na.jpg,x\n"), "it must name file_name and text"),
    "csv empty": (csv_text(b""), "it must name file_name and text"),
    "csv quote left open": (
        csv_text(b'file_name,text\na.jpg,"x\ny\n'),
        "metadata.csv, line 2: unexpected end",
    ),
    "csv first line": (csv_text(b'"file_name"x,text\na.jpg,x\n'), "metadata.csv, line 1: ',' expected"),
    "csv commas everywhere": (csv_text(b"file_name,text\na.jpg,x,y\n"), "a text with commas needs quotes"),
    "two metadata files": (both, "metadata.csv is beside it"),
    "no row fits": (
        lambda src: lines(src / "metadata.jsonl", [{"file_name": "x.jpg", "text": "x"}]),
        "nothing was prepared: metadata.jsonl, line 1: x.jpg: there is no such photo (and 2 more)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_and_leave_nothing(
    case: str, src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act, message = REFUSALS[case]
    act(src)
    assert prepare(src, tmp_path / "out") == 2
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert message in last and printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_refusals_of_arguments(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (src / "a.txt").write_text("red")
    (src / "deep" / "b.txt").write_text("green")
    for options, message in (
        (("--test-fraction", "1"), "--test-fraction 1.0: must be at least 0 and below 1"),
        (("--test-fraction", "nan"), "--test-fraction nan: must be"),
        (("--test-fraction", "0.9999999"), "leaves no photos for training"),
    ):
        assert prepare(src, tmp_path / "out", *options) == 2
        assert message in capsys.readouterr().err
    assert prepare(src, src / "deep" / "out") == 2
    assert "is inside the source" in capsys.readouterr().err
    assert prepare(src, src, "--overwrite") == 2
    assert "contains the source" in capsys.readouterr().err
    assert prepare(tmp_path / "nowhere", tmp_path / "out") == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert prepare(src / "a.jpg", tmp_path / "out") == 2
    assert "a.jpg: is not a folder" in capsys.readouterr().err


# --- images ------------------------------------------------------------------------------------


def prepared_image(src: Path, out: Path, *options: str) -> np.ndarray:
    assert prepare(src, out, "--no-captions", "--test-fraction", "0", *options) == 0
    return np.asarray(PreparedFolder.open(out).splits["train"].images[0])


def test_not_square(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((50, 200, 3), np.uint8)
    image[:, :50] = (255, 0, 0)  # the head
    image[:, 150:] = (0, 0, 255)  # the tail
    (tmp_path / "src").mkdir()
    Image.fromarray(image).save(tmp_path / "src" / "bird.png")
    padded = prepared_image(tmp_path / "src", tmp_path / "pad")
    assert "not square: 1 photos, made square by --fit pad" in capsys.readouterr().out
    cut = prepared_image(tmp_path / "src", tmp_path / "cut", "--fit", "cut")
    stretched = prepared_image(tmp_path / "src", tmp_path / "stretch", "--fit", "stretch")
    assert padded[38, 2].tolist() == [255, 0, 0] and padded[38, -3].tolist() == [0, 0, 255]
    assert padded[2, 2, 0] > 200 and padded[2, -3, 2] > 200  # padding continues the colours of the border
    assert (cut == 0).all()  # head and tail are cut off, hence the default "pad"
    assert stretched[2, 2].tolist() == [255, 0, 0] and stretched[38, 38].tolist() == [0, 0, 0]
    assert json.loads((tmp_path / "pad" / "dataset.json").read_text())["source"]["fit"] == "pad"


def test_orientation(tmp_path: Path) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF: rotate by 90° clockwise
    (tmp_path / "src").mkdir()
    Image.fromarray(image).save(tmp_path / "src" / "turned.jpg", exif=exif, quality=95)
    seen = prepared_image(tmp_path / "src", tmp_path / "out").astype(int)
    assert seen[:, -20:].min() > 240 and seen[:, :20].max() < 15  # now white on the right


def gradient(mode: str) -> Image.Image:
    ramp = np.linspace(0, 255, 80, dtype=np.uint8)[None].repeat(80, 0)
    if mode == "I;16":
        return Image.fromarray(ramp.astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        layer = Image.new(mode, (80, 80), 0)  # type: ignore[arg-type]
        layer.putalpha(Image.fromarray(255 - ramp))
        return layer
    if mode == "P":
        return Image.fromarray(ramp).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    return Image.fromarray(ramp).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"),
        ("LA", "png"),
        ("RGBA", "png"),
        ("RGBA", "webp"),
        ("P", "gif"),
        ("I;16", "png"),
        ("CMYK", "jpg"),
    ],
)
def test_colour_modes_become_the_same_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    """A ramp from black to white: grey, CMYK, 16 bits, or black with increasing transparency on white."""
    (tmp_path / "src").mkdir()
    gradient(mode).save(
        tmp_path / "src" / f"ramp.{suffix}", **({"quality": 100} if suffix in ("jpg", "webp") else {})
    )
    seen = prepared_image(tmp_path / "src", tmp_path / "out").astype(int)
    expected = np.asarray(gradient("RGB").resize((76, 76), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(seen - expected).max() <= 6


def test_one_bit_transparency_of_palettes_is_white(tmp_path: Path) -> None:
    palette = Image.new("P", (80, 80), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(1, (0, 0, 40, 80))
    (tmp_path / "src").mkdir()
    palette.save(tmp_path / "src" / "hole.png", transparency=0)
    seen = prepared_image(tmp_path / "src", tmp_path / "out")
    assert seen[30, 5].tolist() == [255, 0, 0] and seen[30, 70].tolist() == [255, 255, 255]


def test_images_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = tmp_path / "src"
    photo(src / "fine.png")
    Image.new("F", (20, 20)).save(src / "float.tif")
    photo(src / "huge.png", (300, 300))
    (src / "text.jpg").write_text("hello")
    (src / "zero.png").touch()
    (src / "cut.png").write_bytes((src / "huge.png").read_bytes()[:-400])
    monkeypatch.setattr("stackgan.images.photos.MAX_PIXELS", 80_000)
    assert prepare(src, tmp_path / "out", "--no-captions", "--test-fraction", "0") == 1
    found = problems(tmp_path / "out")
    assert found["float.tif"] == "pixels of mode 'F' have no fixed range; save it with 8 bits per channel"
    assert found["huge.png"] == "more than 80,000 pixels; save it smaller"
    assert found["text.jpg"] == found["zero.png"] == "not an image in a format that can be read"
    assert set(found) == {"float.tif", "huge.png", "text.jpg", "zero.png", "cut.png"}


def test_small_photos_are_enlarged_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "src" / "small.png", (30, 30))
    photo(tmp_path / "src" / "large.png", (100, 100))
    assert prepare(tmp_path / "src", tmp_path / "out", "--no-captions", "--test-fraction", "0") == 0
    assert "enlarged: 1 photos, smaller than 76 px" in capsys.readouterr().out


# --- split -------------------------------------------------------------------------------------


def ids(split: PreparedSplit | None) -> set[str]:
    return {record.id for record in split.records} if split else set()


def many(src: Path, count: int, species: Callable[[int], str | None] = lambda i: None) -> Path:
    rows = []
    for i in range(count):
        photo(src / f"{i:03d}.png", (8, 8))
        rows.append({"file_name": f"{i:03d}.png", "text": "x", "species": species(i)})
    lines(src / "metadata.jsonl", rows)
    return src


def test_split_by_file_name_is_stable(tmp_path: Path) -> None:
    src = many(tmp_path / "src", 60)
    assert prepare(src, tmp_path / "one", "--test-fraction", "0.3") == 0
    one = PreparedFolder.open(tmp_path / "one").splits
    assert 8 <= len(one["test"]) <= 28
    many(src, 100)  # more photos: earlier ones keep their split
    assert prepare(src, tmp_path / "two", "--test-fraction", "0.3") == 0
    two = PreparedFolder.open(tmp_path / "two").splits
    assert ids(one["test"]) <= ids(two["test"]) and ids(one["train"]) <= ids(two["train"])
    assert prepare(src, tmp_path / "three", "--test-fraction", "0.3", "--seed", "1") == 0
    assert ids(PreparedFolder.open(tmp_path / "three").splits["test"]) != ids(two["test"])


@pytest.mark.parametrize("seed", range(5))
def test_split_by_species_is_disjoint(seed: int, tmp_path: Path) -> None:
    src = many(tmp_path / "src", 80, lambda i: f"species {i % 8}")
    assert prepare(src, tmp_path / "out", "--test-fraction", "0.25", "--seed", str(seed)) == 0
    folder = PreparedFolder.open(tmp_path / "out")
    species = {name: {record.species for record in split.records} for name, split in folder.splits.items()}
    assert not species["train"] & species["test"]
    assert len(folder.splits["test"]) == 20 and len(species["test"]) == 2
    assert folder.meta["source"]["split"] == "species" and folder.meta["species_disjoint"]


def test_two_species_of_different_size_and_a_single_one(tmp_path: Path) -> None:
    src = many(tmp_path / "src", 40, lambda i: "rare" if i < 10 else "common")
    assert prepare(src, tmp_path / "two") == 0
    assert {record.species for record in PreparedFolder.open(tmp_path / "two").splits["test"].records} == {"rare"}
    src = many(tmp_path / "src", 40, lambda i: "only")
    assert prepare(src, tmp_path / "one", "--test-fraction", "0.3") == 0
    assert PreparedFolder.open(tmp_path / "one").meta["source"]["split"] == "file names"


def test_train_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for name in ("train/b.png", "train/c.png", "test/a.png"):
        photo(src / name)
        (src / name).with_suffix(".txt").write_text("x")
    assert prepare(src, tmp_path / "out") == 0
    folder = PreparedFolder.open(tmp_path / "out")
    assert {name: sorted(ids(split)) for name, split in folder.splits.items()} == {
        "train": ["train/b.png", "train/c.png"],
        "test": ["test/a.png"],
    }
    assert folder.meta["source"]["split"] == "folders"


def test_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    src = many(tmp_path / "src", 30, lambda i: f"species {i % 5}")
    outs = [tmp_path / "one", tmp_path / "two"]
    for out, workers in zip(outs, ("1", "4"), strict=True):
        assert prepare(src, out, "--workers", workers) == 0
    read = [{p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} for out in outs]
    assert read[0] == read[1]


def test_the_real_crops(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(shared / "cub" / "crops" / "train", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "photos found: 354" in printed and "problems: 0" in printed
    folder = PreparedFolder.open(tmp_path / "out")
    assert sum(len(split) for split in folder.splits.values()) == 354
    assert sum(len(split.captions) for split in folder.splits.values()) == 3_540
    species = [{record.species for record in split.records} for split in folder.splits.values()]
    assert not species[0] & species[1] and len(species[0] | species[1]) == 59
    assert 0.05 < len(folder.splits["test"]) / 354 < 0.15
