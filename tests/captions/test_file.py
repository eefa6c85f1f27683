"""Captions files: text, JSON lines and CSV, and error messages."""

from pathlib import Path

import pytest

from stackgan.captions.file import Line, read_captions, survey
from stackgan.cli.main import main


def test_plain_text_keeps_line_numbers_and_any_script(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_bytes("\ufeffa red bird\r\n\r\n  птица \n\n鳥\u2028x\r last".encode())
    blank: list[int] = []
    lines = list(read_captions(file, blank.append))
    assert lines == [Line(1, "a red bird"), Line(3, "птица"), Line(5, "鳥\u2028x"), Line(6, "last")]
    assert blank == [2, 4]


def test_a_csv_may_have_its_columns_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "captions.CSV"
    file.write_text(' count , caption\n\n2,"a ""red"" bird"\n,\n', "utf-8")
    assert list(read_captions(file)) == [Line(3, 'a "red" bird', None, 2)]


WRONG: dict[str, tuple[str, bytes, str]] = {
    "latin1": (
        "a.txt",
        b"a bird\n\xe9t\xe9\n",
        "a.txt:2: not UTF-8 text (byte 0xe9); save the file as UTF-8",
    ),
    "utf16": ("a.txt", "a bird".encode("utf-16"), "a.txt:1: not UTF-8 text"),
    "zeros": ("a.txt", b"a bird\n\n\0\0\0", "a.txt:3: not a text file"),
    "picture": ("a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.txt:1: not UTF-8 text"),
    "escape": ("a.txt", b"a \x1b[31mred bird", "a.txt:1: the caption holds the control character U+001B"),
    "long": ("a.txt", b"a bird\n" + b"x" * 20_001, "a.txt:2: longer than 20000 characters"),
    "empty": ("a.txt", b"", "a.txt: holds no captions"),
    "blank": ("a.txt", b"\n  \n\t\n", "a.txt: holds no captions"),
    "kind": ("a.pdf", b"a bird", "a.pdf: the extension of a captions file is .txt, .jsonl, .csv, not .pdf"),
    "no kind": (
        "captions",
        b"a bird",
        "captions: the extension of a captions file is .txt, .jsonl, .csv, not empty",
    ),
    "json": (
        "a.jsonl",
        b'{"caption": "a bird"}\n{"caption": \n',
        "a.jsonl:2: not valid JSON: column 12: Expecting value",
    ),
    "deep": ("a.jsonl", b"[" * 19_000, "a.jsonl:1: not valid JSON: nested deeper than 64"),
    "array": ("a.jsonl", b'["a bird"]', "a.jsonl:1: holds a list, expected an object"),
    "key": (
        "a.jsonl",
        b'{"caption": "a", "sede": 3}',
        "a.jsonl:1: unknown key 'sede'; known are caption, ",
    ),
    "no caption": ("a.jsonl", b'{"seed": 3}', "a.jsonl:1: key 'caption' is missing"),
    "no string": ("a.jsonl", b'{"caption": ["a"]}', "a.jsonl:1: caption is a list, expected a string"),
    "null": ("a.jsonl", b'{"caption": null}', "a.jsonl:1: caption is null, expected a string"),
    "no words": ("a.jsonl", b'\n{"caption": " "}', "a.jsonl:2: the caption is empty"),
    "two lines": ("a.jsonl", b'{"caption": "a\\nb"}', "a.jsonl:1: the caption holds a line break"),
    "surrogate": ("a.jsonl", b'{"caption": "a \\ud800"}', "a string holds the lone surrogate \\ud800"),
    "text seed": ("a.jsonl", b'{"caption": "a", "seed": "7"}', "a.jsonl:1: seed is '7', expected an integer"),
    "true seed": (
        "a.jsonl",
        b'{"caption": "a", "seed": true}',
        "a.jsonl:1: seed is true, expected an integer",
    ),
    "half seed": ("a.jsonl", b'{"caption": "a", "seed": 1.5}', "a.jsonl:1: seed is 1.5, expected an integer"),
    "negative": ("a.jsonl", b'{"caption": "a", "seed": -1}', "a.jsonl:1: seed -1 is out of range"),
    "huge": (
        "a.jsonl",
        b'{"caption": "a", "seed": 9223372036854775808}',
        "a.jsonl:1: seed 9223372036854775808",
    ),
    "overflow": ("a.jsonl", b'{"caption": "a", "seed": 9223372036854775807, "count": 2}', "is too large"),
    "count 0": ("a.jsonl", b'{"caption": "a", "count": 0}', "a.jsonl:1: count 0 is too small"),
    "header": ("a.csv", b"a red bird\na blue bird\n", "a.csv:1: there is no caption among a red bird"),
    "column": ("a.csv", b"caption,colour\na,b\n", "a.csv:1: unknown column 'colour'"),
    "twice": ("a.csv", b"caption,caption\na,b\n", "a.csv:1: column 'caption' appears twice"),
    "cells": ("a.csv", b"caption,seed\na bird, red,3\n", "a.csv:2: has 3 cells, the header has 2; quote"),
    "csv seed": ("a.csv", b"caption,seed\na bird,\na bird,x\n", "a.csv:3: seed is 'x': it must be an integer"),
    "csv negative": ("a.csv", b"caption,seed\na bird,-4\n", "a.csv:2: seed -4 is out of range"),
    "csv count": ("a.csv", b"caption,count\na bird,0\n", "a.csv:2: count 0 is too small"),
    "csv empty": ("a.csv", b"caption,seed\n,4\n", "a.csv:2: the caption is empty"),
    "csv quote": ("a.csv", b'caption\n"a bird\n', "a.csv:2: not CSV"),
    "only a header": ("a.csv", b"caption,seed\n", "a.csv: holds no captions"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_captions_files_are_reported_with_their_line(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, said = WRONG[case]
    file = tmp_path / name
    file.write_bytes(content)
    try:
        valid = survey(file, count=2).images  # of the other lines
    except ValueError:
        valid = 0
    if valid:
        with pytest.raises(ValueError) as error:
            list(read_captions(file, count=2))
        assert said in str(error.value) and str(error.value).startswith(str(file))
        return
    assert main(["batch", str(file), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and said in message
    assert not (tmp_path / "out").exists()


def test_a_long_file_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("a red bird\n" * 1000 + "\0", "utf-8")
    lines = read_captions(file)
    assert [next(lines).number for _ in range(1000)] == list(range(1, 1001))
    with pytest.raises(ValueError, match=r"captions\.txt:1001"):
        next(lines)


DIALECTS = {
    "blank after the comma": 'caption, seed\n"red, really", 7\n',
    "byte-order mark": '\ufeffcaption,seed\n"red, really",7\n',
    "quoted header": '\ufeff"caption", "seed"\n"red, really", "7"\n',
    "semicolons": "seed;caption\n7;red, really\n",
    "tabs": "caption\tseed\nred, really\t7\n",
    "upper case": 'Caption,SEED\n"red, really",7\n',
    "sep= of a spreadsheet": "sep=;\ncaption;seed\nred, really;7\n",
    "blank lines first": '\n \ncaption,seed\n"red, really",7\n',
    "old Mac": 'caption,seed\r"red, really",7\r',
}


@pytest.mark.parametrize("case", DIALECTS)
def test_dialects_of_csv(case: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(DIALECTS[case].encode())
    blanks: list[int] = []
    lines = list(read_captions(tmp_path / "a.csv", blanks.append))
    above = {"blank lines first": 2, "sep= of a spreadsheet": 1}.get(case, 0)
    assert lines == [Line(2 + above, "red, really", 7)]
    assert blanks == ([1, 2] if case == "blank lines first" else [])


ALIKE = {
    "text": ("a.jsonl", '{"text": "a red bird", "seed": 7}\n'),
    "prompt": ("a.jsonl", '{"prompt": "a red bird", "seed": 7}\n'),
    "csv text": ("a.csv", "Text,seed\na red bird,7\n"),
    "csv prompt": ("a.csv", "seed;prompt\n7;a red bird\n"),
    "manifest": (
        "manifest.jsonl",
        '{"file": "1.png", "line": 4, "copy": 1, "caption": "a red bird", "seed": 7, "truncation": 0.8, '
        '"checkpoint": "ab", "size": 64, "notices": []}\n',
    ),
    "metadata": ("metadata.jsonl", '{"file_name": "1.png", "text": "a red bird", "seed": 7}\n'),
}


@pytest.mark.parametrize("case", ALIKE)
def test_captions_under_other_names_and_recorded_ones(case: str, tmp_path: Path) -> None:
    name, content = ALIKE[case]
    (tmp_path / name).write_text(content, "utf-8")
    assert [(line.caption, line.seed) for line in read_captions(tmp_path / name)] == [("a red bird", 7)]


def test_a_caption_under_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": "a red bird", "text": "a blue bird"}\n', "utf-8")
    with pytest.raises(ValueError, match=r"a\.jsonl:1: gives the caption twice, as 'text'"):
        list(read_captions(tmp_path / "a.jsonl"))


def test_comments_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# birds\na red bird\n#a blue bird\n\na bird # 3\n", "utf-8")
    skipped: list[int] = []
    assert [line.caption for line in read_captions(tmp_path / "a.txt", skipped.append)] == [
        "a red bird",
        "a bird # 3",
    ]
    assert skipped == [1, 3, 4]
