"""Strict YAML: scalars of JSON, and what is refused, with its line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackgan.io.yaml_reader import read_yaml

VALUES: dict[str, Any] = {
    "1": 1,
    "-3": -3,
    "1e-4": 1e-4,
    "5.": 5.0,
    "true": True,
    "no": "no",
    "Yes": "Yes",
    "on": "on",
    "True": "True",
    "null": None,
    "''": "",
    "'1'": "1",
    "0x10": "0x10",
    "1:30": "1:30",
    "1_000": "1_000",
    "2020-01-01": "2020-01-01",
    "[1, a]": [1, "a"],
    "{b: {c: 2}}": {"b": {"c": 2}},
    "": None,
}


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"# a comment\na: {text}\n", "utf-8")
    found = read_yaml(file)["a"]
    assert found == VALUES[text] and type(found) is type(VALUES[text])


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
WRONG = {
    "bomb": (BOMB, ":1: anchors and aliases are not read"),
    "alias": ("a: 1\nb: *a\n", ":2: anchors and aliases are not read"),
    "tag": ("a: 1\nb: !!python/object:os.system x\n", ":2: the tag 'tag:yaml.org,2002:python/object:os.system'"),
    "own tag": ("a: !x 1\n", ":1: the tag '!x' is not read"),
    "twice": ("a: 1\nb: 2\na: 3\n", ":3: key 'a' appears twice"),
    "inf": ("a: 1\nb: .inf\n", ":2: .inf is not a finite number"),
    "nan": ("a: .NaN\n", ":1: .NaN is not a finite number"),
    "huge": ("a: 1e999\n", ":1: 1e999 is not a finite number"),
    "two documents": ("a: 1\n---\na: 2\n", ": a second document: write one"),
    "deep": ("a: " + "[" * 500 + "]" * 500, ":1: nested deeper than 16 levels"),
    "key": ("? [1, 2]\n: 3\n", ":1: a key must be plain text"),
    "syntax": ("a: 1\nb: [1,\n", ":3: not valid YAML: "),
    "tab": ("a:\n\tb: 1\n", ":2: not valid YAML: found character"),
    "control": ("a: \x07\n", ": not valid YAML: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    text, said = WRONG[case]
    file = tmp_path / "a.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError) as error:
        read_yaml(file)
    assert str(error.value).startswith(str(file)) and said in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_bytes(b"#" * (1 << 20) + b"##")
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_yaml(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    try:
        read_yaml(file)
    except ValueError as error:
        assert str(error).startswith(str(file))
