"""One bad record is listed, and the others are prepared."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.data_prep.folders import captions, photo, prepare, problems, with_text, write_rows

GOOD = {"file_name": "a.png", "text": "red"}


@pytest.fixture
def src(tmp_path: Path) -> Path:
    for name in "abcd":
        photo(tmp_path / "src" / f"{name}.png")
    return tmp_path / "src"


ROWS = {
    "lone high surrogate": (r'{"file_name": "b.png", "text": "a bird \ud83d"}', "the lone surrogate \\ud83d"),
    "lone low surrogate": (r'{"file_name": "b.png", "text": ["x", "\ude00 bird"]}', "the lone surrogate \\ude00"),
    "surrogate in the name": (r'{"file_name": "b\ud800.png", "text": "x"}', "the lone surrogate \\ud800"),
    "surrogate in the species": (r'{"file_name": "b.png", "text": "x", "species": "\udfff"}', "surrogate \\udfff"),
    "surrogate in a key": (r'{"file_name": "b.png", "text": "x", "\udfff": 1}', "surrogate \\udfff"),
    "brackets": ('{"file_name": "b.png", "text": ' + "[" * 5000, "nested deeper than 64"),
    "closed brackets": ('{"file_name": "b.png", "x": ' + "[" * 5000 + "]" * 5000 + "}", "nested deeper than 64"),
    "infinite": ('{"file_name": "b.png", "text": "x", "species": 1e400}', "1e400 is too large"),
    "NaN": ('{"file_name": "b.png", "text": "x", "species": NaN}', "NaN is not a finite number"),
    "digits": ('{"file_name": "b.png", "text": "x", "species": ' + "9" * 5000 + "}", "more than 64 bits"),
    "twice": ('{"file_name": "b.png", "text": "x", "text": "y"}', "key 'text' appears twice"),
    "number": ("3", "holds 3, expected an object"),
    "zero bytes": ('{"file_name": "b.png", "text": "\0"}', "null characters"),
    "half": ('{"file_name": "b.png", "te', "Unterminated string"),
    "a long name": (json.dumps({"file_name": "b" * 5000, "text": "x"}), "there is no such photo"),
    "another drive": (r'{"file_name": "C:\\x\\b.png", "text": "x"}', "C:/x/b.png: there is no such photo"),
    "no name": ('{"file_name": ["b.png"], "text": "x"}', "no 'file_name'"),
    "an object for text": ('{"file_name": "b.png", "text": {"en": "x"}}', "neither a string nor a list"),
    "a list for a split": ('{"file_name": "b.png", "text": "x", "split": ["test"]}', "'split' is ['test'], not one"),
}


@pytest.mark.parametrize("case", ROWS)
def test_one_row_of_jsonl(case: str, src: Path) -> None:
    row, reason = ROWS[case]
    later = {"file_name": "c.png", "text": "after \U0001f600"}
    (src / "metadata.jsonl").write_text("\n".join([json.dumps(GOOD), row, json.dumps(later)]), "utf-8")
    code, out = prepare(src)
    assert code == 1 and captions(out) == {"a.png": ("red",), "c.png": ("after \U0001f600",)}
    assert reason in problems(out)["metadata.jsonl, line 2"]


CSV_ROWS = {
    "not UTF-8": (b"b.png,caf\xe9", "byte 0xe9 is not UTF-8"),
    "zero bytes": (b"b.png,a\0b", "null characters"),
    "quote in the middle": (b'b.png,"x"y', "',' expected after '\"'"),
    "quote left open": (b'b.png,"x', "the line is not CSV"),
    "too many fields": (b"b.png,x,y", "more fields than in the first line"),
    "no text": (b"b.png", "one of text, caption, captions is needed"),
    "long": (b"b.png," + b"x" * 200_000, "field larger than field limit"),
}


@pytest.mark.parametrize("case", CSV_ROWS)
def test_one_row_of_csv(case: str, src: Path) -> None:
    row, reason = CSV_ROWS[case]
    lines = [b"file_name,text", b"a.png,red", row, b'c.png,"after, with\na line break"', b"d.png,last"]
    (src / "metadata.csv").write_bytes(b"\n".join(lines))
    code, out = prepare(src)
    assert code == 1
    assert captions(out) == {"a.png": ("red",), "c.png": ("after, with a line break",), "d.png": ("last",)}
    assert reason in problems(out)["metadata.csv, line 3"]


@pytest.mark.parametrize(
    "name", [b"caf\xe9.png", b"\xff\xfe.png", b"a\x80\x80.png", b"folder\xe9/x.png", b"\xe9.txt"]
)
@pytest.mark.parametrize("table", [True, False], ids=["metadata", "text files"])
def test_names_that_are_not_utf8(name: bytes, table: bool, src: Path, capfdbinary: pytest.CaptureFixture) -> None:
    file = os.fsencode(src) + b"/" + name
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120
        photo(src / "other.png").rename(os.fsdecode(file))
    except OSError:
        pytest.skip("this file system admits only UTF-8")
    if table:
        write_rows(src / "metadata.jsonl", *({"file_name": f"{n}.png", "text": n} for n in "abcd"))
    else:
        for n in "abcd":
            (src / f"{n}.txt").write_text(n)
    code, out = prepare(src)
    assert code == 1 and captions(out) == {f"{n}.png": (n,) for n in "abcd"}
    shown = name.split(b"/")[0].decode("utf-8", "backslashreplace")
    assert list(problems(out)) == [shown]
    assert "is not UTF-8; rename it" in problems(out)[shown] and "\\x" in shown
    assert shown.encode() in capfdbinary.readouterr().out


def test_entries_that_cannot_be_opened(src: Path) -> None:
    write_rows(src / "metadata.jsonl", GOOD)
    for name in "bcd":
        (src / f"{name}.png").unlink()
    (src / "b.png").symlink_to(src / "gone.png")
    (src / "c.png").symlink_to(src / "c.png")
    os.mkfifo(src / "d.png")
    code, out = prepare(src)
    assert code == 1 and captions(out) == {"a.png": ("red",)}
    assert problems(out) == {
        "b.png": "a link to nothing",
        "c.png": problems(out)["c.png"],
        "d.png": "neither a file nor a folder",
    }


def test_folders_and_links_in_place_of_files(src: Path) -> None:
    for name in "abcd":
        (src / f"{name}.txt").write_text(name)
    (src / "metadata.jsonl").mkdir()
    (src / "e.png").mkdir()
    (src / "b.txt").unlink()
    (src / "b.txt").mkdir()
    (src / "c.txt").unlink()
    (src / "c.txt").symlink_to("c.txt")
    code, out = prepare(src)
    assert code == 1 and captions(out) == {"a.png": ("a",), "d.png": ("d",)}
    assert problems(out)["b.txt"].endswith("the photo b.png is left out")
    assert problems(out)["c.txt"].endswith("the photo c.png is left out")


def test_names_cannot_forge_the_report(src: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(src / "metadata.jsonl", GOOD, {"file_name": "x\x1b[2J" + "x" * 5000, "text": "x"})
    for name in "bcd":
        (src / f"{name}.png").unlink()
    for name in ("b\x1b[31m.png", "c\nproblems: 0.png", "d\u202egnp.png"):
        photo(src / name)
    code, out = prepare(src)
    assert code == 1 and captions(out) == {"a.png": ("red",)}
    assert set(problems(out)) == {
        "metadata.jsonl, line 2",
        "b\\x1b[31m.png",
        "c\\nproblems: 0.png",
        "d\\u202egnp.png",
    }
    printed = capsys.readouterr().out
    assert "problems: 4\n" in printed and "\nproblems: 0" not in printed and "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 400


@pytest.mark.parametrize("kind", [KeyError, RuntimeError, MemoryError, SystemError, AssertionError, RecursionError])
@pytest.mark.parametrize("method", ["load", "convert", "resize"])
def test_any_exception_of_a_decoder(
    kind: type[Exception], method: str, src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        (src / f"{name}.txt").write_text(name)
    Image.new("L", (9, 9)).save(src / "b.png")
    original = getattr(Image.Image, method)

    def failing(self: Image.Image, *args: object, **options: object) -> object:
        if self.size == (9, 9):
            raise kind("inside a decoder")
        return original(self, *args, **options)

    monkeypatch.setattr(Image.Image, method, failing)
    code, out = prepare(src, "--workers", "1")
    assert code == 1 and list(problems(out)) == ["b.png"] and "inside a decoder" in problems(out)["b.png"]
    assert set(captions(out)) == {"a.png", "c.png", "d.png"}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM", "BMP"])
def test_damaged_photos(form: str, tmp_path: Path) -> None:
    """Damaged in several places, and cut: an image or a problem with its name, and the other photo is prepared."""
    if form == "AVIF" and "AVIF" not in Image.SAVE:
        Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {form}")
    src = tmp_path / "src"
    with_text(src / "good.png")
    extension = {"JPEG2000": "jp2"}.get(form, form.lower())
    whole = tmp_path / f"whole.{extension}"
    Image.effect_noise((40, 40), 90).convert("RGB").save(whole, form)
    data = whole.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 25)):
        with_text(src / f"{place}.{extension}").write_bytes(
            data[:place] + bytes(byte ^ 0xFF for byte in data[place : place + 6]) + data[place + 6 :]
        )
        with_text(src / f"cut-{place}.{extension}").write_bytes(data[:place])
    code, out = prepare(src)
    assert code in (0, 1)
    names = {path.name for path in src.iterdir() if path.suffix != ".txt"}
    assert "good.png" in captions(out) and set(captions(out)) | set(problems(out)) == names
