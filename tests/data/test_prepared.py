"""The prepared folder: round trips, atomic writing, messages about damage."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side

SIDE = load_side(64)


def picture(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def writer(out: Path, **keys: object) -> PreparedWriter:
    settings: dict = {"kind": "cub", "size": 64, "crop": "none", "source": {"photos_found": 4}} | keys
    return PreparedWriter(out, **settings)


def write(out: Path, **keys: object) -> Path:
    """Write three train images with 1, 2 and 1 captions, and one test image with 2."""
    with writer(out, **keys) as w:
        for i in range(4):
            captions = (f"bird {i}", "a red\u2028bird, ünlike others")[: 1 + i % 2]
            record = Record(f"bird-{i}", captions, species=f"species {i // 2}", parameters={"angle": [i, 0.5]})
            w.add("test" if i > 1 else "train", picture(i), record)
        w.embeddings("train", "org/model:mean", np.arange(6, dtype=np.float64).reshape(3, 2))
        w.problem("photos/broken.jpg", "truncated")
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = PreparedFolder.open(write(tmp_path / "out"))
    assert (folder.kind, folder.size, folder.load_side) == ("cub", 64, 76)
    assert list(folder.splits) == ["train", "test"]
    assert folder.meta["problems"] == [{"path": "photos/broken.jpg", "reason": "truncated"}]
    train = folder.splits["train"]
    assert train.images.shape == (2, SIDE, SIDE, 3) and train.images.dtype == np.uint8
    assert [int(image[0, 0, 0]) for image in train.images] == [0, 1]
    assert list(train.captions) == ["bird 0", "bird 1", "a red\u2028bird, ünlike others"]
    assert train.offsets.tolist() == [0, 1, 3]
    assert train.records[1] == Record(
        "bird-1", ("bird 1", "a red\u2028bird, ünlike others"), "species 0", {"angle": [1, 0.5]}
    )
    assert train.embedding_names() == ["org/model:mean"]
    embeddings = train.embeddings("org/model:mean")
    assert embeddings.dtype == np.float32 and embeddings.tolist() == [[0, 1], [2, 3], [4, 5]]
    folder.verify()


def test_arrays_are_plain_npy_files_and_read_only(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    assert np.load(out / "train" / "images.npy").shape == (2, SIDE, SIDE, 3)
    with pytest.raises(ValueError, match="read-only"):
        PreparedFolder.open(out).splits["train"].images[0] = 1


def test_same_input_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    first, second = write(tmp_path / "out"), write(tmp_path / "elsewhere" / "deep" / "other")
    assert files(first) == files(second)
    assert PreparedFolder.open(first).identity == PreparedFolder.open(second).identity
    assert str(tmp_path) not in (first / "dataset.json").read_text()


def test_identity_changes_with_a_pixel_and_with_a_caption(tmp_path: Path) -> None:
    def identity(name: str, value: int, caption: str) -> str:
        with writer(tmp_path / name) as w:
            w.add("train", picture(value), Record("a", (caption,)))
        return PreparedFolder.open(tmp_path / name).identity

    assert len({identity("a", 1, "one"), identity("b", 2, "one"), identity("c", 1, "two")}) == 3


def test_species_in_two_splits_is_refused_unless_painted(tmp_path: Path) -> None:
    def leak(kind: str) -> None:
        with writer(tmp_path / kind, kind=kind) as w:
            w.add("train", picture(0), Record("a", ("x",), species="Wren"))
            w.add("test", picture(1), Record("b", ("x",), species="Wren"))

    for kind in ("cub", "folder"):
        with pytest.raises(ValueError, match="'Wren' is in two splits"):
            leak(kind)
        assert list(tmp_path.iterdir()) == []
    leak("painted")
    assert len(PreparedFolder.open(tmp_path / "painted").splits) == 2


BAD_ADDITIONS: dict[str, tuple[Callable[[PreparedWriter], None], str]] = {
    "shape": (
        lambda w: w.add("train", np.zeros((64, 64, 3), np.uint8), Record("b", ("x",))),
        r"\(64, 64, 3\)",
    ),
    "type": (lambda w: w.add("train", np.zeros((SIDE, SIDE, 3)), Record("b", ("x",))), "float64"),
    "id twice": (lambda w: w.add("train", picture(0), Record("a", ("x",))), "a: the id appears twice"),
    "blank caption": (lambda w: w.add("train", picture(0), Record("b", (" ",))), "b: caption ' ' is empty"),
    "line break": (lambda w: w.add("train", picture(0), Record("b", ("x\ny",))), "b: caption .* line break"),
    "split": (lambda w: w.add("../x", picture(0), Record("b", ("x",))), "split: '../x'"),
    "rows": (lambda w: w.embeddings("train", "e", np.zeros((2, 3))), "2 rows .* for 1 captions"),
    "rank": (lambda w: w.embeddings("train", "e", np.zeros(3)), "expected floats"),
    "nan": (lambda w: w.embeddings("train", "e", np.full((1, 3), np.nan)), "not all values are finite"),
    "name": (lambda w: w.embeddings("train", "", np.zeros((1, 3))), "embeddings name ''"),
    "nowhere": (lambda w: w.embeddings("test", "e", np.zeros((1, 3))), "1 rows .* for 0 captions"),
}


@pytest.mark.parametrize("case", BAD_ADDITIONS)
def test_bad_additions_raise_and_leave_nothing(case: str, tmp_path: Path) -> None:
    act, message = BAD_ADDITIONS[case]
    with pytest.raises(ValueError, match=message), writer(tmp_path / "out") as w:
        w.add("train", picture(0), Record("a", ("x",)))
        act(w)
    assert list(tmp_path.iterdir()) == []


def test_nothing_prepared_gives_the_reason(tmp_path: Path) -> None:
    message = r"nothing was prepared: x\.jpg: truncated \(and 1 more\)"
    with pytest.raises(ValueError, match=message), writer(tmp_path / "out") as w:
        w.problem("x.jpg", "truncated")
        w.problem("y.jpg", "truncated")
    assert list(tmp_path.iterdir()) == []


def test_existing_out(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    before = files(out)
    with pytest.raises(FileExistsError, match="pass --overwrite"):
        writer(out)
    with pytest.raises(RuntimeError), writer(out, overwrite=True) as w:
        w.add("train", picture(9), Record("a", ("x",)))
        raise RuntimeError
    assert files(out) == before  # a failed replacement keeps the old folder
    with writer(out, overwrite=True) as w:
        w.add("train", picture(9), Record("a", ("x",)))
    assert len(PreparedFolder.open(out).splits["train"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_out_that_is_no_prepared_folder_is_kept(tmp_path: Path) -> None:
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    write(holiday)  # an empty folder is accepted
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="not replaced"):
        writer(photos, overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        writer(tmp_path / "file", overwrite=True)
    with pytest.raises(ValueError, match=r"file.out: cannot be created"), writer(tmp_path / "file" / "out"):
        pass
    assert (photos / "me.jpg").read_bytes() == b"precious"


def test_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np\n"
        "from stackgan.data.writer import PreparedWriter\n"
        "from stackgan.data.format import Record\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    with PreparedWriter(sys.argv[1], kind='cub', size=64, crop='', source={}) as w:\n"
        "        for i in range(100):\n"
        "            w.add('train', np.zeros((76, 76, 3), np.uint8), Record(str(i), ('x',)))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout.strip() == f"{tmp_path / 'out'}: cannot be written: File too large", run.stderr
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_preparation_are_cleared_but_not_a_running_one(tmp_path: Path) -> None:
    left = tmp_path / "out.partial-1"
    (left / "train").mkdir(parents=True)
    (left / "train" / "images.npy").write_bytes(b"half")
    running = tmp_path / "out.partial-2"
    running.mkdir()
    lock = os.open(running, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    write(tmp_path / "out")
    os.close(lock)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.partial-2"]


# --- damage ------------------------------------------------------------------------------------


def edit(key: str, value: object) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        file = out / "dataset.json"
        meta = json.loads(file.read_text())
        meta[key] = value
        file.write_text(json.dumps(meta))

    return act


def cut(name: str, count: int) -> Callable[[Path], None]:
    return lambda out: (out / name).write_bytes((out / name).read_bytes()[:-count]) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda out: (out / name).unlink()


def swap_header(out: Path) -> None:
    file = out / "train" / "images.npy"
    file.write_bytes(file.read_bytes().replace(b"(2, 76, 76, 3)", b"(76, 2, 76, 3)", 1))


def reword(out: Path) -> None:
    file = out / "train" / "captions.jsonl"
    file.write_bytes(file.read_bytes().replace(b"bird 0", b"frog 0"))


FACTS = {"images": 1, "captions": 1, "pixels_sha256": "", "captions_sha256": ""}

DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "array cut": (cut("train/images.npy", 1), r"train.images\.npy: \d+ bytes, expected"),
    "array empty": (
        lambda out: (out / "test/images.npy").write_bytes(b"") and None,
        r"test.images\.npy: 0 bytes",
    ),
    "array gone": (remove("train/images.npy"), r"train.images\.npy: missing"),
    "array of another shape": (swap_header, r"uint8 \(76, 2, 76, 3\), expected"),
    "captions cut": (cut("train/captions.jsonl", 5), r"captions\.jsonl: changed or truncated"),
    "captions edited": (reword, r"captions\.jsonl: changed or truncated"),
    "captions gone": (remove("test/captions.jsonl"), r"captions\.jsonl: missing"),
    "description gone": (remove("dataset.json"), "no dataset.json in it"),
    "description cut": (cut("dataset.json", 9), r"dataset\.json: not valid JSON"),
    "description of something else": (
        lambda out: (out / "dataset.json").write_text("[]") and None,
        "dataset.json: holds a list, expected an object",
    ),
    "no version": (lambda out: (out / "dataset.json").write_text("{}") and None, "no 'format_version'"),
    "version": (edit("format_version", 99), "format version 99, this program reads 1"),
    "kind": (edit("kind", "cats"), "kind 'cats'"),
    "size": (edit("size", "64"), "size is '64', expected an integer"),
    "other size": (edit("size", 128), "load_side 76 does not match size 128"),
    "no splits": (edit("splits", {}), "'splits' is empty"),
    "split outside": (edit("splits", {"../x": FACTS}), r"split name '\.\./x'"),
    "split without counts": (edit("splits", {"train": {}}), r"splits\.train: key 'images' is missing"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str, tmp_path: Path) -> None:
    act, message = DAMAGE[case]
    act(write(tmp_path / "out"))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        PreparedFolder.open(tmp_path / "out")
    assert "\n" not in str(caught.value) and str(tmp_path / "out") in str(caught.value)


def test_missing_folder_explains_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder; make a prepared folder with `stackgan prepare`"):
        PreparedFolder.open(tmp_path / "nowhere")


def test_verify_finds_a_changed_pixel(tmp_path: Path) -> None:
    file = write(tmp_path / "out") / "test" / "images.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    folder = PreparedFolder.open(tmp_path / "out")
    with pytest.raises(ValueError, match=r"test.images\.npy: pixels differ"):
        folder.verify()


# --- embeddings --------------------------------------------------------------------------------


def test_embeddings_are_stored_under_any_encoder_name(tmp_path: Path) -> None:
    split = PreparedFolder.open(write(tmp_path / "out")).splits["train"]
    identity = PreparedFolder.open(tmp_path / "out").identity
    names = ["a/b@main:cls", "../../escape", "50% of it", "ünïcode", "con:nul?*"]
    for i, name in enumerate(names):
        split.store_embeddings(name, np.full((3, 2), i, np.float32))
        split.store_embeddings(name, np.full((3, 4), i, np.float64))  # a second call replaces it
    assert split.embedding_names() == sorted([*names, "org/model:mean"])
    for i, name in enumerate(names):
        assert split.embeddings(name).tolist() == [[i] * 4] * 3
    arrays = {path.relative_to(tmp_path).parent.as_posix() for path in tmp_path.rglob("*.npy")}
    assert arrays == {"out/train", "out/test", "out/train/embeddings"}
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    assert PreparedFolder.open(tmp_path / "out").identity == identity  # the cache is not part of the identity


def test_embeddings_that_are_not_there_or_do_not_fit(tmp_path: Path) -> None:
    split = PreparedFolder.open(write(tmp_path / "out")).splits["train"]
    with pytest.raises(FileNotFoundError, match=re.escape("no embeddings 'clip'; stored here: org/model:mean")):
        split.embeddings("clip")
    with pytest.raises(ValueError, match="4 rows of embeddings 'e' for 3 captions"):
        split.store_embeddings("e", np.zeros((4, 2), np.float32))
    file = next((tmp_path / "out" / "train" / "embeddings").iterdir())
    shutil.copyfile(tmp_path / "out" / "train" / "images.npy", file)
    with pytest.raises(ValueError, match=r"expected float32 \(3, T\)"):
        split.embeddings("org/model:mean")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=re.escape(str(file))):
        split.embeddings("org/model:mean")
