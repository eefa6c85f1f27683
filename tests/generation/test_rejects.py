"""Invalid lines of a captions file: the rejects file, the exit code, resuming, and the mended file as input."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stackgan.cli.main import main
from stackgan.generation.batch import batch, image_seed
from tests.generation.folders import contents, manifest

pytestmark = pytest.mark.usefixtures("one_thread")

MANIFEST_LINE = '{"file": "1.png", "line": 4, "copy": 1, "caption": "a red bird", "seed": -7, "notices": []}'
FILES: dict[str, tuple[str, bytes, list[dict[str, Any]]]] = {
    "txt": (
        "a.txt",
        b"a red bird\na \x1b bird\n\xe9t\xe9\n# no\na\0b\n" + b"x" * 50_001 + b"\na blue bird\n",
        [
            {"line": 2, "caption": "a \x1b bird"},
            {"line": 3, "content": "\\xe9t\\xe9"},
            {"line": 5, "content": "a\0b"},
            {"line": 6, "content": "x" * 20_002},
        ],
    ),
    "csv": (
        "a.csv",
        b'caption,seed\na red bird,\na bird,x\n\xff,1\na, b,2\n"q"r,3\n,4\na blue bird,-1\na blue bird,\n',
        [
            {"line": 3, "caption": "a bird", "seed": "x"},
            {"line": 4, "content": "\\xff,1"},
            {"line": 5, "content": "a, b,2"},
            {"line": 6, "content": '"q"r,3'},
            {"line": 7, "caption": "", "seed": 4},
            {"line": 8, "caption": "a blue bird", "seed": -1},
        ],
    ),
    "jsonl": (
        "a.jsonl",
        b'{"caption": "a red bird"}\n{"caption": \n{"caption": "a", "sede": 3}\n{"text": "a", "count": 0}\n[1]\n'
        b'{"caption": "a", "seed": 9223372036854775807, "count": 2}\n{"prompt": "a blue bird"}\n',
        [
            {"line": 2, "content": '{"caption":'},
            {"line": 3, "caption": "a", "sede": 3},
            {"line": 4, "text": "a", "count": 0},
            {"line": 5, "content": "[1]"},
            {"line": 6, "caption": "a", "seed": 9223372036854775807, "count": 2},
        ],
    ),
    "manifest": (
        "manifest.jsonl",
        f'{{"text": "a red bird"}}\n{MANIFEST_LINE}\n{{"text": "a blue bird"}}\n'.encode(),
        [{"line": 2, "file": "1.png", "copy": 1, "caption": "a red bird", "seed": -7, "notices": []}],
    ),
}


def rejects(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", FILES)
def test_invalid_lines_are_set_aside_and_the_others_go_on(
    case: str, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, wanted = FILES[case]
    (tmp_path / name).write_bytes(content)
    command = ["batch", str(tmp_path / name), "--checkpoint", str(checkpoint), "--size", "64"]
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 1
    assert [record["caption"] for record in manifest(out)] == ["a red bird", "a blue bird"]
    found = rejects(out)
    assert all(row.pop("reason") for row in found) and found == wanted
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"set aside in {out / 'rejects.jsonl'} (line {wanted[0]['line']}: " in said
    assert said.startswith("1 line is" if len(wanted) == 1 else f"{len(wanted)} lines are")

    again = ["batch", str(out / "rejects.jsonl"), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "again")]
    assert main(again) == 2, "as it is, no line of it is valid"
    assert f"{out / 'rejects.jsonl'}:1: " in capsys.readouterr().err and not (tmp_path / "again").exists()


def test_the_mended_rejects_are_a_captions_file(tmp_path: Path, checkpoint: Path) -> None:
    file, out = tmp_path / "a.csv", tmp_path / "out"
    file.write_text("caption,seed,count\na red bird,,\na green bird,x,2\na, b,2,1\n", "utf-8")
    assert batch(file, checkpoint=checkpoint, out=out, size=64) == 1
    first, second = rejects(out)
    assert first["reason"] == "seed is 'x': it must be an integer" and "has 4 cells" in second["reason"]
    first["seed"] = 7
    second = {"line": second["line"], "reason": second["reason"], "caption": "a, b", "seed": 2}
    mended = out / "rejects.jsonl"
    mended.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n", "utf-8")
    assert batch(mended, checkpoint=checkpoint, out=tmp_path / "again", size=64) == 0
    assert [(record["caption"], record["seed"]) for record in manifest(tmp_path / "again")] == [
        ("a green bird", 7),
        ("a green bird", 8),
        ("a, b", 2),
    ]
    assert not (tmp_path / "again" / "rejects.jsonl").exists()


def test_a_rerun_gives_the_same_bytes_and_keeps_what_was_mended(tmp_path: Path, checkpoint: Path) -> None:
    file, out = tmp_path / "a.txt", tmp_path / "out"
    file.write_bytes(b"a red bird\n\0\na blue bird\n")
    assert batch(file, checkpoint=checkpoint, out=out, size=64) == 1
    first = contents(out)
    for name in ("rejects.jsonl", "manifest.jsonl", manifest(out)[1]["file"]):  # as if it had been interrupted
        (out / name).unlink()
    assert batch(file, checkpoint=checkpoint, out=out, size=64) == 1
    assert contents(out) == first
    (out / "rejects.jsonl").write_text('{"caption": "a bird"}\n')
    assert batch(file, checkpoint=checkpoint, out=out, size=64) == 1
    assert rejects(out) == [{"caption": "a bird"}]


def test_invalid_lines_of_the_standard_input(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a red bird\na\tb\x07\n")))
    out = tmp_path / "out"
    assert main(["batch", "-", "--checkpoint", str(checkpoint), "--out", str(out), "--size", "64"]) == 1
    assert [record["seed"] for record in manifest(out)] == [image_seed(0, "a red bird", 1)]
    assert rejects(out) == [
        {
            "caption": "a\tb\x07",
            "line": 2,
            "reason": "the caption holds the control character U+0007; a caption is one line of text",
        }
    ]
