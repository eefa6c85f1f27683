"""Split archives: round trips of folders of any size, damage, interruption."""

import json
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackgan.io import archive as module
from stackgan.io.archive import pack, unpack
from tests.folders import content_of, fill


def _manifest(pieces: Path) -> dict[str, object]:
    return json.loads((pieces / "manifest.json").read_text("utf-8"))


FOLDERS: dict[str, dict[str, int | None]] = {
    "one byte": {"a": 1},
    "empty file": {"empty": 0},
    "empty folder": {"nothing": None},
    "whole blocks": {"a": 512, "b": 1024, "c": 511, "d": 513},
    "nested": {"a/b/c/d.bin": 3000, "a/b/e": 0, "a/f": 5000, "z": 1, "a-b": 2, "a.b": 3},
    "many": {f"{i:03d}/{i}.bin": i * 37 for i in range(40)},
    "large": {"images.npy": 200_000, "dataset.json": 100},
    "names": {"a name with spaces": 10, "Vögel/Zaunkönig 鳥": 20, "n" * 180 + "/" + "m" * 180: 30},
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("limit", [1 << 20, 10_240, 1000, 512])
def test_there_and_back(tmp_path: Path, name: str, limit: int) -> None:
    folder = fill(tmp_path / "folder", FOLDERS[name])
    packed = pack(folder, tmp_path / "pieces", limit=limit)
    files = sorted((tmp_path / "pieces").glob("piece-*"))
    assert [file.name for file in files] == [f"piece-{i + 1:05d}" for i in range(packed.count)]
    assert all(file.stat().st_size == limit for file in files[:-1]) and 0 < files[-1].stat().st_size <= limit
    assert sum(file.stat().st_size for file in files) == packed.size == _manifest(tmp_path / "pieces")["bytes"]
    assert unpack(tmp_path / "pieces", tmp_path / "back") == sum(size is not None for size in FOLDERS[name].values())
    assert content_of(tmp_path / "back") == content_of(folder)
    assert {file.name for file in tmp_path.iterdir()} == {"folder", "pieces", "back"}


def test_random_folders(tmp_path: Path) -> None:
    """Random sizes and limits, including limits that divide the stream exactly and with a remainder of one byte."""
    draws = random.Random(0)
    for trial in range(25):
        here = tmp_path / f"{trial}"
        here.mkdir()
        sizes: dict[str, int | None] = {
            f"{draws.randrange(4)}/{i}": draws.choice([0, 1, 511, 512, draws.randrange(20_000)])
            for i in range(draws.randrange(1, 12))
        }
        folder = fill(here / "folder", sizes, seed=trial)
        size = pack(folder, here / "whole", limit=1 << 30).size
        limit = draws.choice([size, size - 1, size + 1, size // 2, size // 2 + 1, draws.randrange(200, size)])
        assert pack(folder, here / "pieces", limit=limit).count == -(-size // limit)
        unpack(here / "pieces", here / "back")
        assert content_of(here / "back") == content_of(folder)
        assert _manifest(here / "pieces")["sha256"] == _manifest(here / "whole")["sha256"]  # whatever the limit


def test_the_stream_is_a_tar_without_times_and_owners(tmp_path: Path) -> None:
    sizes: dict[str, int | None] = {"b/x": 700, "a": 10, "c": 0}
    one, two = fill(tmp_path / "one", sizes), tmp_path / "two"
    two.mkdir()
    for name in reversed(sizes):  # the same content with another order of creation, times and permissions
        (two / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(one / name, two / name)
        os.utime(two / name, (1e9, 1e9))
        (two / name).chmod(0o700)
    for folder in (one, two):
        pack(folder, tmp_path / f"{folder.name}-pieces", limit=600)
    assert content_of(tmp_path / "one-pieces") == content_of(tmp_path / "two-pieces")
    joined = b"".join(file.read_bytes() for file in sorted((tmp_path / "one-pieces").glob("piece-*")))
    (tmp_path / "whole.tar").write_bytes(joined)
    with tarfile.open(tmp_path / "whole.tar") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["a", "b", "b/x", "c"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


# --- packing again ------------------------------------------------------------------------------------------


def _times(pieces: Path) -> dict[str, int]:
    """Set the time of every piece back; returns names and times, to detect pieces that are written again."""
    for file in pieces.iterdir():
        os.utime(file, (1e9, 1e9))
    return {file.name: file.stat().st_mtime_ns for file in pieces.iterdir()}


def _rewritten(pieces: Path, before: dict[str, int]) -> list[str]:
    return sorted(file.name for file in pieces.iterdir() if file.stat().st_mtime_ns != before.get(file.name))


def test_packing_again_writes_what_is_missing_or_wrong_only(tmp_path: Path) -> None:
    folder, pieces = fill(tmp_path / "folder", FOLDERS["large"]), tmp_path / "pieces"
    first = pack(folder, pieces, limit=50_000)
    assert (first.count, first.written) == (5, 5)
    content = content_of(pieces)
    before = _times(pieces)
    assert pack(folder, pieces, limit=50_000).written == 0
    assert _rewritten(pieces, before) == []

    (pieces / "piece-00001").unlink()
    (pieces / "piece-00002").write_bytes((pieces / "piece-00002").read_bytes()[:-1])
    third = (pieces / "piece-00003").read_bytes()
    (pieces / "piece-00003").write_bytes(third + b"x")
    (pieces / "piece-00004").write_bytes(b"x" * 50_000)
    before = _times(pieces)
    assert pack(folder, pieces, limit=50_000).written == 4
    assert _rewritten(pieces, before) == ["manifest.json", *(f"piece-{i:05d}" for i in (1, 2, 3, 4))]
    assert content_of(pieces) == content


def test_a_changed_file_changes_its_pieces_only(tmp_path: Path) -> None:
    folder, pieces = fill(tmp_path / "folder", FOLDERS["large"]), tmp_path / "pieces"
    pack(folder, pieces, limit=50_000)
    with (folder / "images.npy").open("r+b") as file:
        file.seek(120_000)
        file.write(b"changed")
    before = _times(pieces)
    assert pack(folder, pieces, limit=50_000).written == 1
    assert _rewritten(pieces, before) == ["manifest.json", "piece-00003"]
    unpack(pieces, tmp_path / "back")
    assert content_of(tmp_path / "back") == content_of(folder)


def test_pieces_of_an_earlier_larger_packing_go(tmp_path: Path) -> None:
    large, small = fill(tmp_path / "large", FOLDERS["large"]), fill(tmp_path / "small", {"a": 3000}, seed=1)
    pieces = tmp_path / "pieces"
    pack(large, pieces, limit=10_000)
    pack(small, pieces, limit=3000)
    assert sorted(content_of(pieces)) == ["manifest.json", "piece-00001", "piece-00002"]
    unpack(pieces, tmp_path / "back")
    assert content_of(tmp_path / "back") == content_of(small)


def _stop_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int) -> None:
    """Interrupt the module's ``function`` at its ``call``-th call, as Ctrl-C would."""
    true, calls = getattr(module, function), iter(range(1, 1_000_000))

    def interrupted(*arguments: object) -> object:
        if next(calls) == call:
            raise KeyboardInterrupt
        return true(*arguments)

    monkeypatch.setattr(module, function, interrupted)


def test_an_interrupted_packing_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pieces = fill(tmp_path / "folder", FOLDERS["large"]), tmp_path / "pieces"
    true = module._stream

    def interrupted(*arguments: object) -> Iterator[bytes]:
        for chunk in true(*arguments):  # type: ignore[arg-type]
            yield chunk[:125_000]
            if len(chunk) > 125_000:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "_stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, pieces, limit=50_000)
    assert sorted(content_of(pieces)) == ["piece-00001", "piece-00002"]  # complete ones, and no manifest
    with pytest.raises(FileNotFoundError, match=r"manifest\.json: missing; `stackgan pack` writes it last"):
        unpack(pieces, tmp_path / "back")
    monkeypatch.undo()
    (pieces / "piece-00003.partial").write_bytes(b"of a process that was killed")
    packed = pack(folder, pieces, limit=50_000)
    assert (packed.count, packed.written) == (5, 3)
    unpack(pieces, tmp_path / "back")
    assert content_of(tmp_path / "back") == content_of(folder)


def test_a_repacking_that_is_interrupted_has_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture of pieces of two packings must not be accepted."""
    one, two = (fill(tmp_path / f"{seed}", FOLDERS["large"], seed) for seed in (1, 2))
    pieces = tmp_path / "pieces"
    pack(one, pieces, limit=50_000)
    true = module._Cutter._end_piece

    def interrupted(cutter: module._Cutter) -> None:
        true(cutter)
        if len(cutter.pieces) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Cutter, "_end_piece", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(two, pieces, limit=50_000)
    assert "manifest.json" not in content_of(pieces)


# --- damaged pieces -----------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    pack(fill(tmp_path / "folder", FOLDERS["large"]), tmp_path / "pieces", limit=50_000)
    return tmp_path / "pieces"


def test_missing_and_damaged_pieces_are_named(tmp_path: Path, packed: Path) -> None:
    (packed / "piece-00005").unlink()
    with pytest.raises(FileNotFoundError, match="missing: piece-00005: copy these again"):
        unpack(packed, tmp_path / "back")
    (packed / "piece-00001").unlink()
    content = bytearray((packed / "piece-00003").read_bytes())
    content[777] ^= 1
    (packed / "piece-00003").write_bytes(content)
    (packed / "piece-00004").write_bytes((packed / "piece-00004").read_bytes()[:-1])
    expected = "missing: piece-00001, piece-00005; damaged: piece-00003, piece-00004: copy these again"
    with pytest.raises(ValueError, match=expected):
        unpack(packed, tmp_path / "back")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "pieces"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"format": 2}', b"\xff\xfe"],
)
def test_a_manifest_that_is_none(tmp_path: Path, packed: Path, content: bytes) -> None:
    (packed / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json: .*(copy it|pack the folder) again"):
        unpack(packed, tmp_path / "back")


def test_a_manifest_that_names_other_files(tmp_path: Path, packed: Path) -> None:
    told = _manifest(packed)
    told["pieces"][0]["name"] = "../folder/images.npy"  # type: ignore[index]
    (packed / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="not a manifest of a split archive"):
        unpack(packed, tmp_path / "back")


def test_pieces_that_change_while_they_are_read(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (packed / "piece-00003").write_bytes(b"x" * 50_000)
    monkeypatch.setattr(module, "_check_pieces", lambda *_: None)  # with updated digests
    with pytest.raises(ValueError, match="changed while they were read; unpack again"):
        unpack(packed, tmp_path / "back")
    assert not (tmp_path / "back").exists() and not (tmp_path / "back.partial").exists()


def _hostile(pieces: Path, *entries: tarfile.TarInfo) -> Path:
    """Pieces with correct digests whose stream was not written by pack."""
    pieces.mkdir()
    with tarfile.open(pieces / "piece-00001", "w") as tar:
        for entry in entries:
            tar.addfile(entry)
    content = (pieces / "piece-00001").read_bytes()
    digest = module._sha256(pieces / "piece-00001")
    told = {"format": 1, "names": ["a"], "files": len(entries), "bytes": len(content), "sha256": digest}
    told["pieces"] = [{"name": "piece-00001", "bytes": len(content), "sha256": digest}]
    (pieces / "manifest.json").write_text(json.dumps(told))
    return pieces


def _entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        _entry("../outside"),
        _entry("a/../../outside"),
        _entry("a/../b"),
        _entry("/stackgan-outside"),
        _entry("a", tarfile.SYMTYPE, "/etc/passwd"),
        _entry("a", tarfile.SYMTYPE, "b"),
        _entry("a", tarfile.LNKTYPE, "b"),
        _entry("a", tarfile.FIFOTYPE),
        _entry("a", tarfile.CHRTYPE),
    ],
    ids=lambda entry: f"{entry.name} {entry.type.decode()}",
)
def test_nothing_leads_out_of_the_folder(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    pieces = _hostile(inner / "pieces", _entry("b"), entry)
    with pytest.raises(ValueError, match="is a link or leads out of the folder: nothing was unpacked"):
        unpack(pieces, inner / "back")
    assert [file.name for file in inner.iterdir()] == ["pieces"] and [*tmp_path.iterdir()] == [inner]
    assert not Path("/stackgan-outside").exists()


def test_a_file_that_occurs_twice_and_a_stream_that_is_no_tar(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        unpack(_hostile(tmp_path / "twice", _entry("a"), _entry("a")), tmp_path / "back")
    pieces = _hostile(tmp_path / "none")
    (pieces / "piece-00001").write_bytes(b"no tar at all" * 100)
    digest = module._sha256(pieces / "piece-00001")
    told = _manifest(pieces) | {"sha256": digest}
    told["pieces"] = [{"name": "piece-00001", "bytes": 1300, "sha256": digest}]
    (pieces / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="not written by `stackgan pack`"):
        unpack(pieces, tmp_path / "back")
    assert not (tmp_path / "back").exists()


# --- destinations -------------------------------------------------------------------------------------------


def test_unpacking_replaces_only_on_request_and_only_what_the_pieces_hold(tmp_path: Path, packed: Path) -> None:
    back = tmp_path / "back"
    back.mkdir()
    assert unpack(packed, back) == 2  # an empty folder may be replaced
    before = content_of(back)
    (back / "dataset.json").write_text("older")
    with pytest.raises(FileExistsError, match="exists; pass --overwrite"):
        unpack(packed, back)
    assert (back / "dataset.json").read_text() == "older"
    unpack(packed, back, overwrite=True)
    assert content_of(back) == before
    (back / "state.pt").write_text("hours of work")
    with pytest.raises(FileExistsError, match=r"holds state\.pt, which the pieces do not, so it is not replaced"):
        unpack(packed, back, overwrite=True)
    assert (back / "state.pt").read_text() == "hours of work"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileExistsError, match="is a file"):
        unpack(packed, tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_unpacking_leaves_nothing(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    back = tmp_path / "back"
    if overwrite:
        fill(back, {"images.npy": 5})
    before = content_of(tmp_path)
    _stop_at(monkeypatch, "extract_entry", 2)
    with pytest.raises(KeyboardInterrupt):
        unpack(packed, back, overwrite=overwrite)
    assert content_of(tmp_path) == before
    monkeypatch.undo()
    for left in ("back.partial", "back.partial-old"):  # as left by a killed process
        fill(tmp_path / left, {"half": 10})
    unpack(packed, back, overwrite=overwrite)
    assert content_of(back) == content_of(tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["back", "folder", "pieces"]


def test_what_is_packed_and_what_is_not(tmp_path: Path) -> None:
    folder = fill(tmp_path / "run", {"state.pt": 10, "checkpoint/model": 20, "checkpoint/text/a": 5, "log.jsonl": 1})
    for name in ("state.pt.partial-123", "checkpoint/.config.json.partial-9", "checkpoint/.77.abc.tmp", "train.lock"):
        (folder / name).write_text("unfinished")
    fill(folder / "text.partial", {"half": 10})
    packed = pack(folder, tmp_path / "all")
    assert sorted(packed.left_out) == [
        "checkpoint/.77.abc.tmp", "checkpoint/.config.json.partial-9", "state.pt.partial-123", "text.partial",
        "train.lock",
    ]  # fmt: skip
    assert _manifest(tmp_path / "all")["names"] == ["checkpoint", "log.jsonl", "state.pt"]
    pack(folder, tmp_path / "some", only=["log.jsonl", "checkpoint/"])
    unpack(tmp_path / "some", tmp_path / "back")
    found = ["checkpoint", "checkpoint/model", "checkpoint/text", "checkpoint/text/a", "log.jsonl"]
    assert sorted(content_of(tmp_path / "back")) == found
    with pytest.raises(
        FileNotFoundError, match=r"has no 'samples' at its top level; it has checkpoint, log\.jsonl, state\.pt"
    ):
        pack(folder, tmp_path / "other", only=["checkpoint", "samples"])
    assert not (tmp_path / "other").exists()


def test_packing_refuses(tmp_path: Path) -> None:
    folder = fill(tmp_path / "folder", {"a": 100})
    with pytest.raises(FileNotFoundError, match="no such folder to pack"):
        pack(tmp_path / "gone", tmp_path / "pieces")
    with pytest.raises(ValueError, match="is inside"):
        pack(folder, folder / "pieces")
    with pytest.raises(FileExistsError, match="holds a, which is not a piece"):
        pack(fill(tmp_path / "other", {"b": 1}), folder)
    with pytest.raises(ValueError, match="nothing to pack"):
        pack(fill(tmp_path / "empty", {}), tmp_path / "pieces")
    with pytest.raises(ValueError, match=r"more than 99,999; raise --limit"):
        pack(fill(tmp_path / "long", {"a": 150_000}), tmp_path / "pieces", limit=1)
    (folder / "link").symlink_to(folder / "a")
    with pytest.raises(ValueError, match="link: is a link or a device"):
        pack(folder, tmp_path / "pieces")
    assert not (tmp_path / "pieces").exists()


def test_a_file_that_grows_or_shrinks_while_it_is_packed(tmp_path: Path) -> None:
    folder = fill(tmp_path / "folder", {"a": 100})
    for size in (99, 101):
        entries = [*module._walk(folder, "a", [])]
        (folder / "a").write_bytes(bytes(size))
        with pytest.raises(ValueError, match="a: changed while it was packed; stop what writes it"):
            list(module._stream(folder, entries))
        (folder / "a").write_bytes(bytes(100))
