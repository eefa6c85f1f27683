"""CUB in both layouts: the split, the crop, and messages about missing or damaged files."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.cub import prepare_cub
from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder
from tests.data_prep.test_pickles import Evil

SPECIES = {"train": ["001.Wren", "002.Tern"], "test": ["003.Crow"]}
NAMES = {split: [f"{s}/Bird_{k:04d}" for s in species for k in (1, 2, 3)] for split, species in SPECIES.items()}
PHOTOS = NAMES["train"] + NAMES["test"]


def make_cub(folder: Path, layout: str = "attngan", each: int = 3) -> Path:
    """Write three species of ``each`` photos; returns SRC. Photo i is 90 + 10 i by 70, its box well inside."""
    names = {
        split: [f"{s}/Bird_{k:04d}" for s in species for k in range(1, each + 1)]
        for split, species in SPECIES.items()
    }
    photos = names["train"] + names["test"]
    root = folder / "CUB_200_2011"
    text = {
        "attngan": folder / "text",
        "reed": folder / "cvpr2016_cub" / "text_c10",
        "inside": folder / "text_c10",
    }
    lists = {"reed": folder / "cvpr2016_cub", "inside": folder}
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, name in enumerate(photos):
        coarse = rng.integers(0, 256, (7, 9 + i, 3), dtype=np.uint8)
        photo = root / "images" / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((90 + 10 * i, 70), Image.Resampling.BICUBIC).save(photo)
        file = text[layout] / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"bird {i} said in manner {k}\n" for k in range(10)))
    (root / "images.txt").write_text("".join(f"{i} {name}.jpg\n" for i, name in enumerate(photos, 1)))
    boxes = (f"{i} 20.0 15.0 {30 + i}.0 24.0\n" for i in range(1, len(photos) + 1))
    (root / "bounding_boxes.txt").write_text("".join(boxes))
    if layout == "attngan":
        for split, own in names.items():
            (folder / split).mkdir()
            (folder / split / "filenames.pickle").write_bytes(pickle.dumps(own, protocol=0))
        return folder
    (lists[layout] / "trainvalclasses.txt").write_text("\n".join(SPECIES["train"]) + "\n")
    (lists[layout] / "testclasses.txt").write_text("\n".join(SPECIES["test"]) + "\n")
    return folder if layout == "reed" else root


def prepare(src: Path, out: Path, *options: str) -> int:
    return main(["prepare", "cub", str(src), str(out), *options])


def problems(out: Path) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in PreparedFolder.open(out).meta["problems"]}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("layout", ["attngan", "reed", "inside"])
def test_layouts(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(make_cub(tmp_path / "src", layout), tmp_path / "out") == 0
    folder = PreparedFolder.open(tmp_path / "out")
    assert (folder.kind, folder.size) == ("cub", 64)
    for split, names in NAMES.items():
        records = folder.splits[split].records
        assert [record.id for record in records] == names
        assert {record.species for record in records} == set(SPECIES[split])
        for record in records:
            i = PHOTOS.index(record.id)
            assert record.captions == tuple(f"bird {i} said in manner {k}" for k in range(10))
    printed = capsys.readouterr().out
    assert "photos found: 9 of 9" in printed
    assert "train: 6 photos, 60 captions, 2 species" in printed
    assert "test: 3 photos, 30 captions, 1 species" in printed
    assert f"stackgan train --data {tmp_path / 'out'} --run RUN --preset modern" in printed


def test_same_bytes_whatever_the_workers_and_the_place(tmp_path: Path) -> None:
    first, second = make_cub(tmp_path / "a"), make_cub(tmp_path / "deeper" / "b")
    assert prepare(first, tmp_path / "one", "--workers", "1") == 0
    assert prepare(second, tmp_path / "two", "--workers", "3") == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("size", [64, 128, 256])
def test_published_crop(size: int, tmp_path: Path) -> None:
    src = make_cub(tmp_path / "src")
    assert prepare(src, tmp_path / "out", "--size", str(size)) == 0
    images = PreparedFolder.open(tmp_path / "out").splits["train"].images
    for i, image in enumerate(images):
        photo = Image.open(src / "CUB_200_2011" / "images" / f"{NAMES['train'][i]}.jpg").convert("RGB")
        w, h = 31 + i, 24
        radius, cx, cy = int(max(w, h) * 0.75), int((2 * 20 + w) / 2), int((2 * 15 + h) / 2)
        box = (max(cx - radius, 0), max(cy - radius, 0), min(cx + radius, photo.width), min(cy + radius, 70))
        side = size * 76 // 64
        expected = np.asarray(photo.crop(box).resize((side, side), Image.Resampling.BILINEAR))
        assert np.array_equal(image, expected)


def _every_twelfth(src: Path, folder: Path) -> Path:
    """A tree of links to ``src`` with every twelfth of its photos."""
    pictures = Path("CUB_200_2011", "images")
    (folder / pictures).mkdir(parents=True)
    for path in [*src.iterdir(), *(src / "CUB_200_2011").iterdir()]:
        if path.name not in pictures.parts:
            (folder / path.relative_to(src)).symlink_to(path)
    for photo in sorted((src / pictures).glob("*/*.jpg"))[::12]:
        link = folder / photo.relative_to(src)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(photo)
    return folder


def test_the_real_partial_copy(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = shared / "cub" / "birds"
    assert prepare(src, tmp_path / "out") == 2
    refusal = capsys.readouterr().err.strip().splitlines()
    assert len(refusal) == 1
    assert "2,226 of 11,788 photos are missing (9,562 found" in refusal[0] and "--allow-missing" in refusal[0]
    assert list(tmp_path.iterdir()) == []
    few = _every_twelfth(src, tmp_path / "few")
    assert prepare(few, tmp_path / "out", "--allow-missing") == 0
    printed = capsys.readouterr().out
    assert "photos found: 797 of 11,788" in printed
    assert "train: 738 photos, 7,380 captions, 150 species" in printed
    assert "test: 59 photos, 590 captions, 12 species" in printed
    assert "problems: 0" in printed
    folder = PreparedFolder.open(tmp_path / "out")
    train, test = ({record.species for record in folder.splits[name].records} for name in ("train", "test"))
    assert not train & test
    assert {int(name[:3]) for name in test} == {1, 14, 36, 53, 66, 72, 95, 101, 119, 135, 166, 197}
    assert {"001.Black_footed_Albatross", "014.Indigo_Bunting", "036.Northern_Flicker"} < test
    record = folder.splits["test"].records[0]
    text = (src / "text" / f"{record.id}.txt").read_text().splitlines()
    assert list(record.captions) == [line.strip() for line in text]


# --- what is missing ---------------------------------------------------------------------------


def test_missing_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = make_cub(tmp_path / "src")
    shutil.rmtree(src / "CUB_200_2011" / "images" / "003.Crow")
    (src / "CUB_200_2011" / "images" / f"{PHOTOS[0]}.jpg").unlink()
    assert prepare(src, tmp_path / "out") == 2
    assert "4 of 9 photos are missing (5 found in CUB_200_2011/images)" in capsys.readouterr().err
    assert prepare(src, tmp_path / "out", "--allow-missing") == 0
    printed = capsys.readouterr().out
    assert "photos found: 5 of 9" in printed and "test: no photos" in printed


def break_split(names: object) -> Callable[[Path], None]:
    return lambda src: (src / "train" / "filenames.pickle").write_bytes(pickle.dumps(names, 2)) and None


def reed(change: Callable[[Path], object]) -> Callable[[Path], object]:
    def act(src: Path) -> None:
        shutil.rmtree(src)
        make_cub(src, "reed")
        change(src / "cvpr2016_cub")

    return act


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "src: no such folder"),
    "no captions": (lambda src: shutil.rmtree(src / "text"), "no captions: looked for text/<class>/"),
    "no photo list": (lambda src: (src / "CUB_200_2011/images.txt").unlink(), "no CUB_200_2011/images.txt"),
    "no boxes": (
        lambda src: (src / "CUB_200_2011/bounding_boxes.txt").unlink(),
        "bounding_boxes.txt: missing",
    ),
    "empty photo list": (lambda src: (src / "CUB_200_2011/images.txt").write_text("\n"), "images.txt: empty"),
    "bad photo list": (
        lambda src: (src / "CUB_200_2011/images.txt").write_text("1 a/b.jpg\n2\n"),
        "images.txt, line 2: '2' is not 'id class/photo.jpg'",
    ),
    "photo list leads out": (
        lambda src: (src / "CUB_200_2011/images.txt").write_text("1 a/../../b.jpg\n"),
        "images.txt, line 1",
    ),
    "no split": (
        lambda src: (shutil.rmtree(src / "train"), shutil.rmtree(src / "test")),
        "no class-disjoint split: looked for",
    ),
    "half a split": (lambda src: shutil.rmtree(src / "test"), "test/filenames.pickle: missing"),
    "pickle with a program": (break_split([Evil()]), "filenames.pickle: not a pickle of lists"),
    "pickle of other things": (break_split({"a": 1}), "filenames.pickle: not a list of photo names"),
    "empty pickle": (break_split([]), "filenames.pickle: not a list of photo names"),
    "damaged pickle": (
        lambda src: (src / "train/filenames.pickle").write_bytes(b"\x80\x02(lp"),
        "filenames.pickle: not a pickle",
    ),
    "unknown photo": (break_split([*NAMES["train"], "009.Owl/x"]), "1 train photos are not in images.txt"),
    "photo twice": (break_split(NAMES["train"] * 2), "'001.Wren/Bird_0001' is in the train split twice"),
    "species in both": (break_split(PHOTOS), "species '003.Crow' is in both splits"),
    "species in both lists": (
        reed(lambda lists: (lists / "testclasses.txt").write_text("002.Tern\n003.Crow\n")),
        "species '002.Tern' is in both splits",
    ),
    "unknown class": (
        reed(lambda lists: (lists / "testclasses.txt").write_text("003.Crow\n004.Owl\n")),
        "class lists name '004.Owl'",
    ),
    "class in no list": (
        reed(lambda lists: (lists / "trainvalclasses.txt").write_text("001.Wren\n")),
        "class lists have '002.Tern' neither",
    ),
    "one list": (reed(lambda lists: (lists / "testclasses.txt").unlink()), "no class-disjoint split"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_and_leave_nothing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    act, message = REFUSALS[case]
    monkeypatch.chdir(tmp_path)
    act(make_cub(tmp_path / "src"))
    assert prepare(tmp_path / "src", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1
    assert printed.out == "" and not (tmp_path / "out").exists()
    assert not Path("pickle-was-run").exists()


def test_refusals_of_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = make_cub(tmp_path / "src")
    assert prepare(src, tmp_path / "out", "--workers", "0") == 2
    assert "--workers 0: must be 1 or more" in capsys.readouterr().err
    assert prepare(src, tmp_path, "--overwrite") == 2
    assert "contains the source" in capsys.readouterr().err
    assert prepare(src, src / "CUB_200_2011" / "README" / "out") == 0  # inside SRC, in a folder that is not read
    (tmp_path / "file").touch()
    assert prepare(src, tmp_path / "file" / "out") == 2
    assert "file: File exists); name another folder" in capsys.readouterr().err
    assert prepare(src, tmp_path / "out") == 0
    assert prepare(src, tmp_path / "out") == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert prepare(src, tmp_path / "out", "--overwrite", "--fit", "cut") == 0


def test_every_problem_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = make_cub(tmp_path / "src")
    images, text = src / "CUB_200_2011" / "images", src / "text"
    photo = images / f"{PHOTOS[0]}.jpg"
    photo.write_bytes(photo.read_bytes()[:900])
    (images / f"{PHOTOS[1]}.jpg").write_bytes(b"not a photo")
    (images / f"{PHOTOS[2]}.jpg").write_bytes(b"")
    (text / f"{PHOTOS[3]}.txt").write_text("\n  \n")
    (text / f"{PHOTOS[4]}.txt").unlink()
    (text / f"{PHOTOS[6]}.txt").write_bytes("fine\na caf\xe9 bird\n".encode("latin1"))
    boxes = src / "CUB_200_2011" / "bounding_boxes.txt"
    lines = boxes.read_text().splitlines()
    lines[5] = "6 here and there"
    lines[7] = "8 900.0 10.0 20.0 20.0"
    boxes.write_text("\n".join(lines))
    assert prepare(src, tmp_path / "out") == 1
    listed = problems(tmp_path / "out")
    pictures = "CUB_200_2011/images"
    assert listed == {
        "CUB_200_2011/bounding_boxes.txt, line 6": "'6 here and there' is not 'id x y width height'",
        f"{pictures}/{PHOTOS[0]}.jpg": listed[f"{pictures}/{PHOTOS[0]}.jpg"],
        f"{pictures}/{PHOTOS[1]}.jpg": "not an image in a format that can be read",
        f"{pictures}/{PHOTOS[2]}.jpg": "not an image in a format that can be read",
        f"text/{PHOTOS[3]}.txt": "empty: no caption in it",
        f"text/{PHOTOS[4]}.txt": "missing",
        f"{pictures}/{PHOTOS[5]}.jpg": "no box in bounding_boxes.txt",
        f"text/{PHOTOS[6]}.txt": "line 2: byte 0xe9 is not UTF-8; save it as UTF-8",
        f"{pictures}/{PHOTOS[7]}.jpg": "box (900, 10, 20, 20) is empty or outside the photo of 160 x 70",
    }
    assert "truncated" in listed[f"{pictures}/{PHOTOS[0]}.jpg"]
    printed = capsys.readouterr().out
    assert "problems: 9" in printed and "test: 1 photos" in printed
    assert all(f"  {path}: {reason}" in printed for path, reason in listed.items())
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


def test_links_are_followed_but_not_named(tmp_path: Path) -> None:
    """A tree of links to another: messages name the paths in SRC, so the output has the same bytes."""
    for there in ("real", "elsewhere/real"):
        src = make_cub(tmp_path / there, "inside")
        (src / "images" / f"{PHOTOS[0]}.jpg").write_bytes(b"x")
        (src / "images" / f"{PHOTOS[1]}.jpg").unlink()
        (src / "images" / f"{PHOTOS[1]}.jpg").symlink_to(src / "images" / f"{PHOTOS[0]}.jpg")
        link = tmp_path / f"{there.replace('/', '-')}-link" / "CUB_200_2011"
        link.parent.mkdir()
        link.symlink_to(src)
        for name in ("text_c10", "trainvalclasses.txt", "testclasses.txt"):
            (src.parent / name).rename(link.parent / name)
        assert prepare(link, tmp_path / f"out-{link.parent.name}") == 1
    first, second = (files(tmp_path / f"out-{name}-link") for name in ("real", "elsewhere-real"))
    assert first == second
    assert set(problems(tmp_path / "out-real-link")) == {f"images/{name}.jpg" for name in PHOTOS[:2]}


def test_nothing_usable_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = make_cub(tmp_path / "src")
    for name in PHOTOS:
        (src / "text" / f"{name}.txt").write_text("")
    assert prepare(src, tmp_path / "out") == 2
    assert "nothing was prepared: text/001.Wren/Bird_0001.txt: empty" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_greyscale_and_reeds_replacement_characters(tmp_path: Path) -> None:
    src = make_cub(tmp_path / "src")
    photo = src / "CUB_200_2011" / "images" / f"{PHOTOS[0]}.jpg"
    Image.open(photo).convert("L").save(photo)
    (src / "text" / f"{PHOTOS[0]}.txt").write_text("a bird\ufffd\ufffdwith\twings\r\n\n", encoding="utf-8")
    assert prepare(src, tmp_path / "out") == 0
    train = PreparedFolder.open(tmp_path / "out").splits["train"]
    assert train.records[0].captions == ("a bird with wings",)
    assert np.array_equal(train.images[0][..., 0], train.images[0][..., 2])
    assert not np.array_equal(train.images[1][..., 0], train.images[1][..., 2])


# --- embeddings --------------------------------------------------------------------------------


def store_embeddings(src: Path, split: str, arrays: object) -> None:
    (src / split / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps(arrays, 2))


@pytest.mark.parametrize("form", ["list", "array"])
def test_published_embeddings_are_carried_over(form: str, tmp_path: Path) -> None:
    src = make_cub(tmp_path / "src")
    (src / "CUB_200_2011" / "images" / f"{PHOTOS[1]}.jpg").unlink()
    values = np.random.default_rng(1).normal(size=(6, 10, 1024)).astype(np.float32)
    store_embeddings(src, "train", list(values) if form == "list" else values.astype(np.float64))
    assert prepare(src, tmp_path / "out", "--allow-missing") == 0
    folder = PreparedFolder.open(tmp_path / "out")
    rows = folder.splits["train"].embeddings("char-cnn-rnn")
    assert rows.shape == (50, 1024)
    assert np.array_equal(rows, values[[0, 2, 3, 4, 5]].reshape(50, 1024))
    assert folder.splits["test"].embedding_names() == []


EMBEDDINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "other count": (lambda src: store_embeddings(src, "train", np.zeros((5, 10, 8))), "expected 6 entries"),
    "other captions": (
        lambda src: (
            store_embeddings(src, "train", np.zeros((6, 10, 8))),
            (src / "text" / f"{PHOTOS[2]}.txt").write_text("one\n"),
        ),
        "001.Wren/Bird_0003: embeddings of shape (10, 8) for 1 captions",
    ),
    "damaged": (
        lambda src: (src / "train/char-CNN-RNN-embeddings.pickle").write_bytes(b"\x80\x02."),
        "not a pickle of lists",
    ),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_embeddings_that_do_not_fit_are_a_problem(case: str, tmp_path: Path) -> None:
    act, message = EMBEDDINGS[case]
    act(make_cub(tmp_path / "src"))
    assert prepare(tmp_path / "src", tmp_path / "out") == 1
    reason = problems(tmp_path / "out")["train/char-CNN-RNN-embeddings.pickle"]
    assert reason.startswith("not carried over: ") and message in reason
    assert PreparedFolder.open(tmp_path / "out").splits["train"].embedding_names() == []


# --- download ----------------------------------------------------------------------------------


def test_download_then_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, src, served = make_cub(tmp_path / "whole"), tmp_path / "src", tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "CUB_200_2011.tgz", "w:gz") as tar:
        tar.add(whole / "CUB_200_2011", "CUB_200_2011")
    md5 = hashlib.md5((served / "CUB_200_2011.tgz").read_bytes()).hexdigest()
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=served))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/CUB_200_2011.tgz"
    options = ("--download", "--archive-url", url, "--archive-md5", md5)
    try:
        assert prepare(src, tmp_path / "out", *options) == 2  # reported before the download of 1 GB
        assert "no captions" in capsys.readouterr().err and not src.exists()
        src.mkdir()
        for name in ("text", "train", "test"):
            shutil.copytree(whole / name, src / name)
        assert prepare(src, tmp_path / "out", *options[:-1], "0" * 32) == 2
        assert f"md5 is {md5}, expected {'0' * 32}" in capsys.readouterr().err
        assert prepare(src, tmp_path / "out", *options) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert "photos found: 9 of 9" in capsys.readouterr().out
    (src / "CUB_200_2011.tgz").unlink()
    assert prepare(src, tmp_path / "again", *options) == 0  # complete: nothing is downloaded
    assert files(tmp_path / "out") == files(tmp_path / "again")


# --- interruption ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose preparation takes many seconds: the same large photo under many names."""
    src = make_cub(tmp_path_factory.mktemp("slow") / "src")
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    names = [f"001.Wren/Many_{i:04d}" for i in range(2000)]
    first = src / "CUB_200_2011" / "images" / f"{names[0]}.jpg"
    Image.fromarray(noise).save(first, quality=95)
    for i, name in enumerate(names):
        if i:
            os.link(first, src / "CUB_200_2011" / "images" / f"{name}.jpg")
        (src / "text" / f"{name}.txt").write_text("a bird\n")
    for file, line in (("images.txt", "{i} {name}.jpg\n"), ("bounding_boxes.txt", "{i} 9 9 900 900\n")):
        with (src / "CUB_200_2011" / file).open("a") as stream:
            stream.writelines(line.format(i=i, name=name) for i, name in enumerate(names, 100))
    break_split([*names, *NAMES["train"]])(src)
    return src


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_interrupted_in_the_middle(number: int, code: int, slow: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stackgan", "prepare", "cub", str(slow), str(out), "--workers", "2"]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        # background jobs of a shell, which the tests may be, inherit an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # type: ignore[arg-type, return-value]
    )
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 100_000 for p in tmp_path.glob("out.partial-*/train/images.npy")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in error
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir()]
    if number == signal.SIGKILL:
        assert left == [f"out.partial-{process.pid}"]
        prepare_cub(make_cub(tmp_path / "src"), out, progress=False)  # removed by the next run
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "src"]
    else:
        assert left == []
