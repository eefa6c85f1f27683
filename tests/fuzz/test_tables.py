"""Damaged captions files and metadata: a ValueError that names the file, or captions and named problems."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.listing import list_files
from data_prep.metadata import find_entries
from data_prep.splits import assign_splits
from data_prep.writing import Problem
from stackgan.captions.file import survey
from tests.fuzz.strategies import JSON_TOKENS, mutated, some_cases

TOKENS = [
    *JSON_TOKENS, b";", b"\t", b"sep=;\n", b'""', b"\r\r", b"\x85", b"\xe2\x80\xa8", b"text", b"split", b"test",
    b"../",    b"caption", b"seed", b"x" * 21_000, b"a.png", b"A.PNG",
]  # fmt: skip
CAPTIONS = {
    ".txt": [b"a red bird\n\na blue bird\r\n", b"\xef\xbb\xbfone\rtwo\r", "\u9ce5\u2028".encode()],
    ".csv": [b'caption,seed,count\n"a, b",1,\nc,,2\n', b"seed;caption\n1;x\n", b"sep=\t\ncaption\tcount\nx\t3\n"],
    ".jsonl": [b'{"caption": "a", "seed": 1}\n{"caption": "b", "count": 2}\n', b'{"caption": "\\ud83d\\ude00"}'],
}
METADATA = {
    "metadata.jsonl": [
        b'{"file_name": "a.png", "text": "red", "split": "train"}\n{"file_name": "sub/b.png", "text": ["x", "y"]}\n',
        b'{"file_name": "e.png", "caption": "x", "species": 3}\r{"file_name": "a.png", "text": "b", "label": "c"}',
    ],
    "metadata.csv": [
        b'file_name,text,split\na.png,"red, blue",test\nsub/b.png,"x\ny",train\n',
        b"text;species;file_name\nx;wren;a.png\n",
        b'\xef\xbb\xbf"file_name", "text"\r"a.png", "x"\r',
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("kind", CAPTIONS)
@given(values=st.data())
@some_cases
def test_captions_files(kind: str, values: st.DataObject, folder: Path) -> None:
    file = folder / f"a{kind}"
    file.write_bytes(values.draw(mutated(CAPTIONS[kind], TOKENS)))
    try:
        found = survey(file, 1)
        assert found.images > 0
        found.first.encode()
    except ValueError as error:
        assert str(error).startswith(f"{file}:")


@pytest.mark.parametrize("table", METADATA)
@given(values=st.data())
@some_cases
def test_metadata(table: str, values: st.DataObject, folder: Path) -> None:
    src = folder / table.replace(".", "-")
    (src / "sub").mkdir(parents=True, exist_ok=True)
    photos = ["a.png", "e.png", "sub/b.png"]
    for photo in photos:
        (src / photo).touch()
    (src / table).write_bytes(values.draw(mutated(METADATA[table], TOKENS)))
    problems: list[Problem] = []
    try:
        entries, _ = find_entries(src, list_files(src), photos, problems)
    except ValueError as error:
        assert str(error).startswith(str(src))
        return
    for entry in entries:
        assert entry.path in photos and entry.captions
        " ".join([*entry.captions, entry.species or ""]).encode()
    for problem in problems:
        problem.reason.encode()
    try:
        splits = assign_splits(entries, 0.3, 0)
    except ValueError as error:
        assert "for training" in str(error)
        return
    listed = {problem.path for problem in splits.problems}
    assert [entry.path for entry in entries if entry.path in listed] == [
        entry.path for entry, home in zip(entries, splits.homes, strict=True) if home is None
    ]


@given(data=mutated([b"red\nblue\n", b"a\rb", "\ufeffx".encode()], TOKENS))
@some_cases
def test_text_files(data: bytes, folder: Path) -> None:
    src = folder / "texts"
    src.mkdir(exist_ok=True)
    (src / "a.png").touch()
    (src / "a.txt").write_bytes(data)
    problems: list[Problem] = []
    entries, _ = find_entries(src, list_files(src), ["a.png"], problems)
    assert bool(entries) != bool(problems)
    for entry in entries:
        assert all(caption.strip() and "\n" not in caption and "\r" not in caption for caption in entry.captions)
