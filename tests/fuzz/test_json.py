"""Damaged JSON files: a ValueError that names the file, or a value that fits."""

import hashlib
import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from stackgan.captions.word_statistics import CaptionStatistics
from stackgan.checkpoint import load_checkpoint, save_checkpoint
from stackgan.config import Config, preset
from stackgan.config.facts import CheckpointFacts, TrainingFacts
from stackgan.config.root import with_overrides
from stackgan.data.format import RECORD, Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.records import Records
from stackgan.data.writer import PreparedWriter
from stackgan.generation.batch_folder import JOB, read_job
from stackgan.io.archive import pack, unpack
from stackgan.io.json_reader import Fields, ListOf, MapOf, OneOf, parse_json, read_json_lines
from stackgan.model import StackGAN
from tests.fuzz.strategies import JSON_TOKENS, altered, altered_json, as_json, json_values, mutated, some_cases
from tests.tiny import TINY

VALUE = {"name": "a", "sizes": [1, 2], "more": {"x": 0.5, "y": None}, "deep": [[{"z": "\u00e9"}]]}
SCHEMAS = [
    object,
    Fields({"name": str, "sizes": ListOf(int), "more": MapOf(OneOf(float, None))}, {"deep": ListOf(object)}),
    Fields({"name": OneOf(str, ListOf(str))}, {"more": Fields({"x": float}, other=False)}, other=False),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(data=altered_json(VALUE) | mutated([b"{}", b'[1, "a"]'], JSON_TOKENS))
@some_cases
def test_reader_with_schemas(data: bytes, folder: Path) -> None:
    file = folder / "a.jsonl"
    file.write_bytes(data)
    for schema in SCHEMAS:
        try:
            value = parse_json(data, "a.json", schema)
            assert json.loads(json.dumps(value, allow_nan=False)) == value
            json.dumps(value, ensure_ascii=False).encode()
        except ValueError as error:
            assert str(error).startswith("a.json: ")
        try:
            list(read_json_lines(file, schema))
        except ValueError as error:
            assert str(error).startswith(f"{file}, line ")


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Path:
    with PreparedWriter(folder / "data", kind="folder", size=64, crop="x", source={"fit": "pad"}) as writer:
        for split, name in (("train", "a"), ("train", "b"), ("test", "c")):
            writer.add(split, np.zeros((76, 76, 3), np.uint8), Record(name, ("red", "blue"), "wren"))
            writer.species_disjoint = False
        writer.problem("x", "y")
        writer.embeddings("test", "e", np.zeros((2, 3), np.float32))
    return folder / "data"


META = {
    "format_version": 1, "kind": "folder", "size": 64, "load_side": 76, "crop": "x", "species_disjoint": False,
    "source": {"fit": "pad"}, "problems": [{"path": "x", "reason": "y"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def meta(prepared: Path) -> bytes:
    return (prepared / "dataset.json").read_bytes()


@given(change=altered(META), data=mutated([b"{}"], JSON_TOKENS), kind=json_values)
@some_cases
def test_dataset_json(change: object, data: bytes, kind: object, prepared: Path, meta: bytes) -> None:
    splits = json.loads(meta)["splits"]
    whole = change | {"splits": splits} if isinstance(change, dict) else change
    other = json.loads(meta)
    other["splits"]["train"]["images"] = kind
    other["splits"]["test"]["captions_sha256"] = kind
    for content in (as_json(whole), meta[: len(data)] + data, as_json(other)):
        (prepared / "dataset.json").write_bytes(content)
        try:
            PreparedFolder.open(prepared)
        except (ValueError, FileNotFoundError) as error:
            assert str(prepared) in str(error)
    (prepared / "dataset.json").write_bytes(meta)


@given(data=altered_json({"id": "a", "captions": ["x"], "species": "y", "parameters": {"z": [1]}}))
@some_cases
def test_records(data: bytes, folder: Path) -> None:
    file = folder / "captions.jsonl"
    lines = data.replace(b"\n", b" ") + b"\n"
    file.write_bytes(lines)
    facts = {"captions_sha256": hashlib.sha256(lines).hexdigest(), "images": 1, "captions": 1}
    try:
        records = list(Records(file, facts))
        assert all(isinstance(caption, str) for record in records for caption in record.captions)
    except ValueError as error:
        assert str(error).startswith((f"{file}, line 1: ", f"{file}: holds "))
    assert isinstance(RECORD, Fields)


JOB_VALUES = {"format": 1, "stackgan": "1", "checkpoint": "x", "seed": 0, "truncation": 1.0, "threads": 2}


@given(data=altered_json(JOB_VALUES))
@some_cases
def test_batch_settings(data: bytes, folder: Path) -> None:
    (folder / JOB).write_bytes(data)
    try:
        assert 1 <= read_job(folder / JOB)["threads"] <= 4096
    except ValueError as error:
        assert str(error).startswith(f"{folder / JOB}: ")


STATISTICS = {"captions": 9, "thresholds": [-3.5, -2], "words": {"red": 3, "a": 9}}


@given(values=altered(STATISTICS))
@some_cases
def test_caption_statistics(values: object) -> None:
    try:
        plain = parse_json(as_json(values), "s.json", object)
        found = CaptionStatistics.from_dict(plain, "s.json")
        found.warning("a red bird")
        found.warning("")
    except ValueError as error:
        assert str(error).startswith("s.json: ")


# --- configurations ---------------------------------------------------------------------------------------------

KEYS = [f"{section}.{key}" for section, keys in Config().to_dict().items() if isinstance(keys, dict) for key in keys]
TEXTS = [
    "1e400",
    "nan",
    "-inf",
    "9" * 5000,
    "9" * 30,
    "-1",
    "0",
    "",
    " ",
    "true",
    "None",
    "1_0",
    "\u0663",
    "0x10",
    "x",
]


@given(values=altered(Config().to_dict()))
@some_cases
def test_configuration(values: object) -> None:
    try:
        config = Config.from_dict(parse_json(as_json(values), "c.json", object), "c.json")
        assert Config.from_dict(parse_json(config.to_json(), "c.json")) == config
    except ValueError as error:
        assert str(error)


@given(data=mutated([f"{key}={text}".encode() for key in KEYS for text in TEXTS], [text.encode() for text in TEXTS]))
@some_cases
def test_overrides(data: bytes) -> None:
    try:
        config = with_overrides(Config(), [data.decode("utf-8", "surrogateescape")])
        assert Config.from_dict(parse_json(config.to_json(), "c.json")) == config
    except ValueError as error:
        assert str(error)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    config = preset("quickstart", [*TINY, "text.encoder=none", "loss.contrast=0"])
    facts = CheckpointFacts(examples=("a bird",), trained=TrainingFacts(1, 2, 3), truncation=0.7)
    target = folder / "checkpoint"
    save_checkpoint(target, config, StackGAN(config).state_dict(), None, facts=facts, card="x")
    return target


@pytest.fixture(scope="module")
def header(checkpoint: Path) -> bytes:
    return (checkpoint / "config.json").read_bytes()


@given(first=altered(dict(preset("quickstart", ["loss.contrast=0"]).to_dict())), data=mutated([b"{}"], JSON_TOKENS))
@some_cases
def test_checkpoint_config(first: object, data: bytes, checkpoint: Path, header: bytes) -> None:
    whole = json.loads(header)
    for content in (as_json(whole | {"config": first}), header[: 7 * len(data)] + data):
        (checkpoint / "config.json").write_bytes(content)
        try:
            load_checkpoint(checkpoint)
        except ValueError as error:
            assert str(checkpoint) in str(error)
    (checkpoint / "config.json").write_bytes(header)


@given(facts=altered({"trained": {"steps": 1, "images": 2}, "examples": ["a"], "truncation": 0.7, "averaged": [{}]}))
@some_cases
def test_checkpoint_facts(facts: object, checkpoint: Path, header: bytes) -> None:
    whole = json.loads(header)
    (checkpoint / "config.json").write_bytes(as_json(whole | facts if isinstance(facts, dict) else facts))
    try:
        load_checkpoint(checkpoint)
    except ValueError as error:
        assert str(checkpoint) in str(error)
    (checkpoint / "config.json").write_bytes(header)


# --- split archives ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(folder: Path) -> tuple[Path, bytes, bytes]:
    """A split archive of one piece, its manifest and the piece."""
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"a")
    (source / "sub" / "b.txt").write_bytes(b"b" * 600)
    pack(source, folder / "pieces")
    target = folder / "pieces"
    return target, (target / "manifest.json").read_bytes(), (target / "piece-00001").read_bytes()


def _unpacked(pieces: Path, target: Path) -> None:
    try:
        unpack(pieces, target, overwrite=True)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        assert str(pieces.parent) in str(error)
    assert not (pieces.parent / "outside").exists()


@given(
    change=altered({"format": 1, "names": ["a.txt", "sub"], "files": 2, "bytes": 3, "sha256": "x"}), kind=json_values
)
@some_cases
def test_archive_manifest(change: object, kind: object, pieces: tuple[Path, bytes, bytes]) -> None:
    folder, manifest, _ = pieces
    listed = json.loads(manifest)["pieces"]
    for values in (
        change | {"pieces": listed} if isinstance(change, dict) else change,
        json.loads(manifest) | {"pieces": [listed[0] | {"bytes": kind}]},
        json.loads(manifest) | {"pieces": kind, "names": [kind]},
        json.loads(manifest) | {"files": kind},
    ):
        (folder / "manifest.json").write_bytes(as_json(values))
        _unpacked(folder, folder.parent / "unpacked")
    (folder / "manifest.json").write_bytes(manifest)


def _entry(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "../outside"
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(info)
    return stream.getvalue()[:512]


ENTRIES = [_entry("../outside"), _entry("/tmp/x"), _entry("a.txt"), _entry("a.txt/b"), _entry("l", tarfile.SYMTYPE)]
ENTRIES += [_entry("sub"), _entry("."), _entry("x" * 99), bytes(512), _entry("f", tarfile.FIFOTYPE)]


@given(cut=mutated([b"x" * 40], ENTRIES), data=mutated([b"\0" * 512], ENTRIES))
@some_cases
def test_archive_pieces(cut: bytes, data: bytes, pieces: tuple[Path, bytes, bytes]) -> None:
    """The piece is damaged and its digests fit, as in an archive made to do harm."""
    folder, manifest, piece = pieces
    place = 512 * (len(cut) % 7)
    damaged = piece[:place] + data + piece[place + 512 * (len(data) % 3) :]
    digest = hashlib.sha256(damaged).hexdigest()
    values = json.loads(manifest) | {"bytes": len(damaged), "sha256": digest}
    values["pieces"] = [{"name": "piece-00001", "bytes": len(damaged), "sha256": digest}]
    (folder / "manifest.json").write_bytes(as_json(values))
    (folder / "piece-00001").write_bytes(damaged)
    _unpacked(folder, folder.parent / "unpacked")
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "piece-00001").write_bytes(piece)
