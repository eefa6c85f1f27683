"""The strict JSON reader: what it refuses, its schemas, and that all JSON files are read by it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stackgan.captions.file import read_captions
from stackgan.checkpoint import load_checkpoint
from stackgan.data.prepared import PreparedFolder
from stackgan.generation.batch_folder import JOB, read_job
from stackgan.io.archive import unpack
from stackgan.io.json_reader import Fields, ListOf, MapOf, OneOf, Schema, parse_json, read_json, read_json_lines
from stackgan.networks.frozen_features import load_frozen_features
from stackgan.study.runs import cached_figures
from stackgan.text.load import load_text_encoder
from stackgan.training.warm_start import open_initialisation_source

ROOT = Path(__file__).resolve().parents[2]

REFUSED = {
    "brackets": ("[" * 5000, "nested deeper than 64"),
    "closed brackets": ("[" * 5000 + "]" * 5000, "nested deeper than 64"),
    "objects": ('{"a":' * 5000 + "1" + "}" * 5000, "nested deeper than 64"),
    "65 levels": ("[" * 65 + "]" * 65, "nested deeper than 64"),
    "NaN": ('{"a": NaN}', "NaN is not a finite number"),
    "Infinity": ('{"a": [Infinity]}', "Infinity is not a finite number"),
    "-Infinity": ('{"a": -Infinity}', "-Infinity is not a finite number"),
    "1e400": ('{"a": 1e400}', "the number 1e400 is too large"),
    "-1e999": ('{"a": -1e999}', "the number -1e999 is too large"),
    "a long number": ('{"a": 1' + "0" * 400 + ".5}", "is too large"),
    "digits": ('{"a": ' + "9" * 5000 + "}", "has more than 64 bits"),
    "65 bits": ('{"a": 18446744073709551616}', "has more than 64 bits"),
    "twice": ('{"a": 1, "b": 2, "a": 3}', "key 'a' appears twice in one object"),
    "lone surrogate": ('{"a": "\\ud83d"}', "the lone surrogate \\ud83d"),
    "lone surrogate in a key": ('{"\\udc00": 1}', "the lone surrogate \\udc00"),
    "empty": ("", "column 1: Expecting value"),
    "a comma too many": ('{"a": 1,\n}', "line 2, column 1"),
    "two values": ("{} {}", "Extra data"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_strict_json(case: str, tmp_path: Path) -> None:
    text, reason = REFUSED[case]
    file = tmp_path / "a.json"
    file.write_text(text)
    for read in (lambda: read_json(file, object), lambda: parse_json(text, str(file), object)):
        with pytest.raises(ValueError) as caught:
            read()
        assert str(caught.value).startswith(f"{file}: not valid JSON: ") and reason in str(caught.value)
    if "\n" not in text and text:
        file.write_text("1\n" + text)
        with pytest.raises(ValueError, match=r"a\.json, line 2: not valid JSON: "):
            list(read_json_lines(file, object))


def test_bytes_that_are_not_utf8_and_files_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"a\.json: missing; do this"):
        read_json(file, advice="do this")
    file.write_bytes(b'{"a":\r"caf\xe9"}')
    with pytest.raises(ValueError, match=r"a\.json: line 2: byte 0xe9 is not UTF-8; save it as UTF-8; do this"):
        read_json(file, advice="do this")
    with pytest.raises(ValueError, match="cannot be read"):
        read_json(tmp_path)
    assert parse_json(b'["caf\xe9"]', "x", object, errors="surrogateescape") == ["caf\udce9"]


def test_what_is_admitted(tmp_path: Path) -> None:
    deep = "[" * 64 + "]" * 64
    assert json.dumps(parse_json(deep, "x", object)) == deep
    brackets = '"' + "[{" * 500 + '\\""'
    assert parse_json(brackets, "x", str) == "[{" * 500 + '"'
    file = tmp_path / "a.jsonl"
    file.write_bytes('\ufeff{"a": "\\ud83d\\ude00"}\r\r\n{"a": -18446744073709551615}\r{"a": 1e308}'.encode())
    assert list(read_json_lines(file)) == [(1, {"a": "\U0001f600"}), (3, {"a": -(2**64) + 1}), (4, {"a": 1e308})]


PAIR = Fields({"name": str, "size": int}, {"share": float, "more": OneOf(ListOf(MapOf(int)), None)}, other=False)
FITTING = [
    {"name": "a", "size": 1},
    {"name": "a", "size": 1, "share": 1},
    {"name": "a", "size": 1, "share": 0.5, "more": None},
    {"name": "a", "size": 1, "more": [{"x": 1}, {}]},
]
UNFITTING: list[tuple[object, str]] = [
    ([], "holds a list, expected an object with 'name', 'size'"),
    (None, "holds null, expected an object"),
    ({"size": 1}, "key 'name' is missing; expected a string"),
    ({"name": 3, "size": 1}, "name is 3, expected a string"),
    ({"name": "a", "size": True}, "size is true, expected an integer"),
    ({"name": "a", "size": 1.0}, "size is 1.0, expected an integer"),
    ({"name": "a", "size": 1, "share": "x" * 99}, "share is 'xxx"),
    ({"name": "a", "size": 1, "share": False}, "share is false, expected a number"),
    ({"name": "a", "size": 1, "more": 3}, "more is 3, expected a list or null"),
    ({"name": "a", "size": 1, "more": [{"x": 1}, {"y": None}]}, "more[1].y is null, expected an integer"),
    ({"name": "a", "size": 1, "other": 1}, "unknown key 'other'; known are name, size, share, more"),
]


def test_schemas() -> None:
    for value in FITTING:
        assert parse_json(json.dumps(value), "x", PAIR) == value
    for value, reason in UNFITTING:
        with pytest.raises(ValueError) as caught:
            parse_json(json.dumps(value), "x", PAIR)
        assert str(caught.value).startswith(f"x: {reason}")


@pytest.mark.parametrize("kind", [str, int, float, bool, None])
def test_plain_types(kind: Schema) -> None:
    fitting = {str: ["a"], int: [1], float: [1, 0.5], bool: [True], None: [None]}[kind]  # type: ignore[index]
    for value in ["a", 1, 0.5, True, None, [], {}]:
        known = any(value is one or (value == one and type(value) is type(one)) for one in fitting)
        if known:
            parse_json(json.dumps(value), "x", kind)
        else:
            with pytest.raises(ValueError, match="x: holds "):
                parse_json(json.dumps(value), "x", kind)


def test_no_other_module_parses_json() -> None:
    found = []
    for package in ("stackgan", "data_prep"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            for node in ast.walk(tree):
                used = (
                    isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "json"
                )
                if used and node.attr in ("load", "loads", "JSONDecoder"):
                    found.append(file.relative_to(ROOT).as_posix())
    assert set(found) == {"stackgan/io/json_reader.py"}


# --- every file that is read -----------------------------------------------------------------------------------


def _prepared(folder: Path, text: str) -> object:
    (folder / "dataset.json").write_text(text)
    return PreparedFolder.open(folder)


def _checkpoint(folder: Path, text: str) -> object:
    (folder / "config.json").write_text(text)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    return load_checkpoint(folder)


def _run(folder: Path, text: str) -> object:
    (folder / "config.json").write_text(text)
    (folder / "state.pt").touch()
    return open_initialisation_source(folder)


def _archive(folder: Path, text: str) -> object:
    (folder / "manifest.json").write_text(text)
    return unpack(folder, folder / "out")


def _captions(folder: Path, text: str) -> object:
    (folder / "a.jsonl").write_text(text)
    return list(read_captions(folder / "a.jsonl"))


def _features(folder: Path, text: str) -> object:
    (folder / "config.json").write_text(text)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    return load_frozen_features(str(folder))


def _figures(folder: Path, text: str) -> object:
    (folder / "figures.json").write_text(text)
    return cached_figures(folder / "figures.json", "x")


def _encoder(folder: Path, text: str) -> object:
    (folder / "config.json").write_text(text)
    return load_text_encoder(str(folder))


def _sentence_encoder(folder: Path, text: str) -> object:
    (folder / "config.json").write_text("{}")
    (folder / "modules.json").write_text(text)
    return load_text_encoder(str(folder))


def _batch(folder: Path, text: str) -> object:
    (folder / JOB).write_text(text)
    return read_job(folder / JOB)


READERS: dict[str, Callable[[Path, str], object]] = {
    "prepared folder": _prepared,
    "checkpoint": _checkpoint,
    "run": _run,
    "split archive": _archive,
    "captions": _captions,
    "feature network": _features,
    "figures": _figures,
    "text encoder": _encoder,
    "sentence encoder": _sentence_encoder,
    "batch": _batch,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", REFUSED)
def test_every_reader_refuses_them_by_name(reader: str, case: str, tmp_path: Path) -> None:
    text = REFUSED[case][0]
    if reader == "captions" and "\n" in text + "\n" * (not text):
        pytest.skip("lines are read one by one")
    with pytest.raises(ValueError, match=r"(json|jsonl):"):
        READERS[reader](tmp_path, text)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", [None, True, 3, 0.5, "x", [], [1], {}, {"format": 1}, {"format": []}])
def test_every_reader_refuses_wrong_types_by_name(reader: str, value: object, tmp_path: Path) -> None:
    if reader == "sentence encoder" and value == []:
        pytest.skip("no further modules")
    with pytest.raises((ValueError, FileNotFoundError), match=r"(json|jsonl):|" + str(tmp_path)):
        READERS[reader](tmp_path, json.dumps(value))
