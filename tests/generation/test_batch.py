"""Captions in, PNG files out: what is written, that only caption and seed matter, interruptions."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stackgan.generation.batch
from stackgan import StackGANPipeline
from stackgan.captions.file import Line, read_captions
from stackgan.cli.main import main
from stackgan.generation.batch import batch, generate, picture_seed, slug
from tests.tiny import CAPTIONS, save_tiny_checkpoint, tiny_pipeline

TEXT = "\n".join([CAPTIONS[0], "", CAPTIONS[1], CAPTIONS[2], "a red zebra", CAPTIONS[0], "  ", CAPTIONS[3], ""])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    file = tmp_path / "captions.txt"
    file.write_text(TEXT, "utf-8")
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


# --- what is written ----------------------------------------------------------------------------------------


def test_a_batch_writes_pictures_a_manifest_and_a_grid(
    tmp_path: Path, checkpoint: Path, captions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert batch(captions, checkpoint=checkpoint, out=out, count=2, seed=5, truncation=0.8, batch_size=5) == 0
    records, pipe = manifest(out), StackGANPipeline.from_pretrained(checkpoint)
    names = [record["file"] for record in records]
    assert names == sorted(names)
    assert names[:3] == [
        "00001-1_a-small-red-bird-with-black-wings.png",
        "00001-2_a-small-red-bird-with-black-wings.png",
        "00003-1_a-large-blue-bird-with-a-white-belly-and-a-short-beak.png",
    ]
    assert {file.name for file in out.iterdir()} == {*names, "manifest.jsonl", "grid.png", "batch.json"}
    assert [record["line"] for record in records] == [1, 1, 3, 3, 4, 4, 5, 5, 6, 6, 8, 8]
    for record in records:
        assert record["seed"] == picture_seed(5, record["caption"], record["copy"])
        image = Image.open(out / record["file"])
        assert image.size == (128, 128)
        assert image.info == {
            "Software": f"stackgan {stackgan.__version__}",
            "caption": record["caption"],
            "seed": str(record["seed"]),
            "truncation": "0.8",
            "checkpoint": pipe.fingerprint,
        }
        assert (record["truncation"], record["size"]) == (0.8, 128)
        assert record["checkpoint"] == pipe.fingerprint
    assert records[6]["notices"] == ['unknown word "zebra": no training caption has it']
    assert records[0]["notices"] == []
    assert Image.open(out / "grid.png").width > 1000

    said = capsys.readouterr()
    assert said.out.startswith(f"12 pictures in {out}: 12 painted in ")
    assert "2 blank lines skipped (2, 7)" in said.err
    assert said.err.count('line 5: unknown word "zebra"') == 1


def test_generate_repeats_a_picture_of_the_batch(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    batch(captions, checkpoint=checkpoint, out=tmp_path / "batch", truncation=0.7)
    for record in manifest(tmp_path / "batch"):
        (file,) = generate(
            [record["caption"]],
            seeds=[record["seed"]],
            checkpoint=checkpoint,
            out=tmp_path / "single",
            truncation=record["truncation"],
        )
        difference = pixels(file) - pixels(tmp_path / "batch" / record["file"])
        assert np.abs(difference).max() <= 1


def test_a_checkpoint_may_recommend_a_truncation(tmp_path: Path, captions: Path) -> None:
    pipe = tiny_pipeline()
    pipe.facts["truncation"] = 0.5
    pipe.save_pretrained(tmp_path / "careful")
    assert StackGANPipeline.from_pretrained(tmp_path / "careful").truncation == 0.5 != tiny_pipeline().truncation
    for name, asked in (("as recommended", None), ("said", 0.5), ("the model's own", 1.0)):
        batch(captions, checkpoint=tmp_path / "careful", out=tmp_path / name, truncation=asked)
    records = manifest(tmp_path / "as recommended")
    assert {record["truncation"] for record in records} == {0.5}
    for record in records:
        taken, said, own = (
            pixels(tmp_path / name / record["file"]) for name in ("as recommended", "said", "the model's own")
        )
        assert np.array_equal(taken, said) and not np.array_equal(taken, own)
    (file,) = generate([CAPTIONS[0]], seeds=[3], checkpoint=tmp_path / "careful", out=tmp_path / "one")
    assert Image.open(file).info["truncation"] == "0.5"
    wanted = np.asarray(pipe(CAPTIONS[0], seeds=3, truncation=0.5).images[0]).astype(int)
    assert np.abs(pixels(file) - wanted).max() <= 1


def test_the_batch_size_does_not_matter_beyond_rounding(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    for size in (1, 16):
        batch(captions, checkpoint=checkpoint, out=tmp_path / str(size), count=4, batch_size=size)
    names = [record["file"] for record in manifest(tmp_path / "1")]
    assert names == [record["file"] for record in manifest(tmp_path / "16")]
    assert len(names) == 24
    for name in names:
        assert np.abs(pixels(tmp_path / "1" / name) - pixels(tmp_path / "16" / name)).max() <= 1
    assert pixels(tmp_path / "1" / names[0]).std() > 10, "a picture, not one colour"


def test_a_picture_does_not_depend_on_the_rest_of_the_file(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    batch(captions, checkpoint=checkpoint, out=tmp_path / "all", count=2)
    other = tmp_path / "other.txt"
    other.write_text(f"the bird is green\n{CAPTIONS[3]}\n{CAPTIONS[0]}\n", "utf-8")
    batch(other, checkpoint=checkpoint, out=tmp_path / "other", count=1)
    known = {(record["caption"], record["copy"]): record for record in manifest(tmp_path / "all")}
    for record in manifest(tmp_path / "other")[1:]:
        twin = known[record["caption"], record["copy"]]
        assert record["seed"] == twin["seed"]
        difference = pixels(tmp_path / "other" / record["file"]) - pixels(tmp_path / "all" / twin["file"])
        assert np.abs(difference).max() <= 1


def test_the_base_seed_and_the_copy_change_the_picture() -> None:
    seeds = {picture_seed(seed, "a red bird", copy) for seed in range(20) for copy in range(20)}
    assert len(seeds) == 400
    assert picture_seed(0, "a red bird", 1) != picture_seed(0, "a blue bird", 1)
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_lines_may_bring_their_own_seed_and_count(
    tmp_path: Path, checkpoint: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"captions.{kind}"
    if kind == "jsonl":
        rows = [
            {"caption": "a red bird, small", "seed": 7, "count": 10},
            {"caption": "a blue bird"},
            {"caption": "été", "count": 1},
        ]
        file.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    else:
        file.write_text(
            '\ufeffcaption,seed,count\r\n"a red bird, small",7,10\r\na blue bird,,\r\nété,,1\r\n', "utf-8"
        )
    out = tmp_path / "out"
    batch(file, checkpoint=checkpoint, out=out, count=2, size=64)
    first = 1 if kind == "jsonl" else 2
    seeds = {(r["line"] - first, r["copy"]): r["seed"] for r in manifest(out)}
    assert seeds == {(0, copy): 6 + copy for copy in range(1, 11)} | {
        (1, 1): picture_seed(0, "a blue bird", 1),
        (1, 2): picture_seed(0, "a blue bird", 2),
        (2, 1): picture_seed(0, "été", 1),
    }
    names = [record["file"] for record in manifest(out)]
    assert names == sorted(names)
    assert names[0] == f"{first:05}-01_a-red-bird-small.png"
    assert names[-1] == f"{first + 2:05}-01_ete.png"
    image = Image.open(out / names[-1])
    assert image.size == (64, 64)
    assert image.info["caption"] == "été"


def test_generate_names_its_files_after_caption_and_seed(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "this bird has " + "very " * 30 + "red wings"
    texts = ["a red bird", "A red bird", "赤い鳥", long, long + "!", "a red bird"]
    files = generate(texts, seeds=[0, 7, 7], checkpoint=checkpoint, out=tmp_path / "out", size=64, batch_size=3)
    assert len(files) == len(set(files)) == 5 * 2
    assert files[:2] == [tmp_path / "out" / f"a-red-bird_seed-{seed}.png" for seed in (0, 7)]
    assert all(file.name.isascii() and len(file.name) < 100 for file in files)
    assert {Image.open(file).info["caption"] for file in files} == set(texts)
    error = capsys.readouterr().err
    assert '"赤い鳥": unknown word' in error
    assert f'"{long}": kept 22 of ' in error
    before = contents(tmp_path / "out")
    generate(texts, seeds=[0, 7], checkpoint=checkpoint, out=tmp_path / "out", size=64, batch_size=3)
    assert contents(tmp_path / "out") == before


def test_slugs_are_safe_and_end_with_a_word() -> None:
    assert slug("../../etc/passwd\t*?") == "etc-passwd"
    assert slug("  ") == slug("火") == ""
    assert slug("word " * 30) == "-".join(["word"] * 12)
    assert len(slug("x" * 500)) == 60


def test_a_checkpoint_without_text_paints_seeds(tmp_path: Path, captions: Path) -> None:
    plain = save_tiny_checkpoint(tmp_path / "plain", stages=1, text=False)
    files = generate([], seeds=[3, 4], checkpoint=plain, out=tmp_path / "out")
    assert [file.name for file in files] == ["seed-3.png", "seed-4.png"]
    assert (pixels(files[0]) != pixels(files[1])).any()
    with pytest.raises(ValueError, match="without text: leave the captions out"):
        generate(["a bird"], seeds=[3], checkpoint=plain, out=tmp_path / "other")
    with pytest.raises(ValueError, match="without text: use generate"):
        batch(captions, checkpoint=plain, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


# --- interruptions ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a batch that ran through."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "captions.txt").write_text(TEXT, "utf-8")
    batch(folder / "captions.txt", checkpoint=checkpoint, out=folder / "out", count=3, batch_size=4, size=64)
    return contents(folder / "out")


KILLED = """
import itertools, os, random, signal, sys, threading
from pathlib import Path
import stackgan.generation.batch as b
import stackgan.io.files as c
import torch

torch.set_num_threads(1)
captions, checkpoint, out, moment = sys.argv[1:]
die, written = lambda: os.kill(os.getpid(), signal.SIGKILL), itertools.count(1)


def write(path, content):
    if path.suffix == ".png":
        number = next(written)
        if moment.startswith("after") and number == 1:
            threading.Timer(float(moment.split()[1]), die).start()
        elif number == int(moment.split()[1]) and moment.startswith("inside"):
            path.with_name(f".{path.name}.partial-{os.getpid()}").write_bytes(content[: len(content) // 2])
            die()
    c.write_atomic(path, content)


b.write_atomic = write
b.batch(Path(captions), checkpoint=Path(checkpoint), out=Path(out), count=3, batch_size=4, size=64)
"""


@pytest.mark.parametrize("moment", ["inside 7", "after"])
def test_a_killed_batch_goes_on_to_the_same_bytes(
    tmp_path: Path, checkpoint: Path, captions: Path, whole: dict[str, bytes], moment: str
) -> None:
    if moment == "after":  # anywhere in the run: what is asserted holds for every moment
        moment = f"after {random.SystemRandom().uniform(0, 0.15)}"
    out = tmp_path / "out"
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(captions), str(checkpoint), str(out), moment],
        env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    left = contents(out)
    if moment.startswith("inside"):
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len([name for name in left if name.endswith(".png")]) < 12  # other threads may be before or behind
        assert len([name for name in left if name.startswith(".") and "partial" in name]) >= 2
    finished = {name: (out / name).stat() for name in left if name in whole and name.startswith("0")}
    batch(captions, checkpoint=checkpoint, out=out, count=3, batch_size=4, size=64)
    assert contents(out) == whole
    for name, before in finished.items():
        after = (out / name).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), "not written again"


@pytest.mark.parametrize("pictures", [0, 1, 4, 11, 17])
def test_a_stopped_batch_goes_on_to_the_same_bytes(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    whole: dict[str, bytes],
    pictures: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, real, left = tmp_path / "out", stackgan.generation.batch.write_atomic, [pictures]

    def stop(path: Path, content: bytes) -> None:
        if path.suffix == ".png":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        real(path, content)

    arguments = ["batch", str(captions), "--checkpoint", str(checkpoint), "--out", str(out)]
    arguments += ["--count", "3", "--batch-size", "4", "--size", "64"]
    monkeypatch.setattr(stackgan.generation.batch, "write_atomic", stop)
    assert main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not [name for name in contents(out) if "partial" in name]
    monkeypatch.undo()
    assert main(arguments) == 0
    assert contents(out) == whole


def test_lost_and_broken_files_are_painted_again_and_nothing_else(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, content in whole.items():
        (out / name).write_bytes(content)
    names = sorted(name for name in whole if name.startswith("0"))
    (out / names[5]).unlink()
    (out / names[12]).write_bytes(whole[names[12]][:-20])
    (out / names[13]).write_bytes(b"")
    written, real = [], stackgan.generation.batch.write_atomic

    def note(path: Path, content: bytes) -> None:
        written.append(path.name)
        real(path, content)

    monkeypatch.setattr(stackgan.generation.batch, "write_atomic", note)
    batch(captions, checkpoint=checkpoint, out=out, count=3, batch_size=4, size=64)
    assert contents(out) == whole
    assert sorted(written[:3]) == [names[5], names[12], names[13]]
    assert written[3:] == ["grid.png"]
    assert "3 painted" in (said := capsys.readouterr().out)
    assert "15 were there already" in said


def test_a_batch_keeps_the_number_of_threads_that_it_began_with(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, used = tmp_path / "out", []
    batch(captions, checkpoint=checkpoint, out=out, size=64)
    torch.set_num_threads(2)
    (out / "00001-1_a-small-red-bird-with-black-wings.png").unlink()
    real = stackgan.generation.batch._paint

    def spy(*arguments: Any) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(stackgan.generation.batch, "_paint", spy)
    batch(captions, checkpoint=checkpoint, out=out, size=64)
    assert used == [1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


# --- what overlaps ------------------------------------------------------------------------------------------


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("png", "captions"))]


def test_files_are_written_while_the_next_chunks_are_painted(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file waits for the third chunk's painting: without overlap, for ever."""
    third, painted, ahead = threading.Event(), [0], [0]
    paint, save = stackgan.generation.batch._paint, stackgan.generation.batch._save
    written: list[str] = []

    def counted(*arguments: Any) -> torch.Tensor:
        painted[0] += 1
        ahead.append(3 * painted[0] - len(written))
        if painted[0] == 3:
            third.set()
        return paint(*arguments)

    def held(file: Path, *arguments: Any) -> None:
        assert third.wait(30)
        save(file, *arguments)
        written.append(file.name)

    monkeypatch.setattr(stackgan.generation.batch, "_paint", counted)
    monkeypatch.setattr(stackgan.generation.batch, "_save", held)
    batch(captions, checkpoint=checkpoint, out=tmp_path / "out", count=6, batch_size=3, size=64)
    assert painted[0] == 12 and len(written) == 36
    assert max(ahead) <= 9, "three chunks at most are in memory"
    assert threads_left() == []


def test_the_grid_is_drawn_while_the_rest_is_painted(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last chunk waits for the grid of the first pictures: drawn at the end, for ever."""
    drawn, painted = threading.Event(), [0]
    paint, draw = stackgan.generation.batch._paint, stackgan.generation.batch._write_grid

    def last_waits(*arguments: Any) -> torch.Tensor:
        painted[0] += 1
        assert painted[0] < 6 or drawn.wait(30)
        return paint(*arguments)

    def told(out: Path, records: list[dict[str, Any]]) -> None:
        assert [record["copy"] for record in records] == [1, 2, 3, 1]
        draw(out, records)
        drawn.set()

    monkeypatch.setattr(stackgan.generation.batch, "GRID_PICTURES", 4)
    monkeypatch.setattr(stackgan.generation.batch, "_paint", last_waits)
    monkeypatch.setattr(stackgan.generation.batch, "_write_grid", told)
    batch(captions, checkpoint=checkpoint, out=tmp_path / "out", count=3, batch_size=3, size=64)
    assert painted[0] == 6
    assert (tmp_path / "out" / "grid.png").is_file()


def test_a_caption_is_encoded_once_for_all_its_copies_near_by(
    tmp_path: Path, checkpoint: Path, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[list[str]] = []
    encode = StackGANPipeline.encode

    def spy(self: StackGANPipeline, texts: list[str]) -> torch.Tensor:
        encoded.append(list(texts))
        return encode(self, texts)

    monkeypatch.setattr(StackGANPipeline, "encode", spy)
    batch(captions, checkpoint=checkpoint, out=tmp_path / "out", count=10, batch_size=2, size=64)
    asked = encoded[1:]  # the first is the check that there is an encoder
    assert len(asked) == -(-60 // (2 * stackgan.generation.batch.BLOCK))
    assert asked[0] == [CAPTIONS[0], CAPTIONS[1]]
    assert sum(map(len, asked)) < 12


@pytest.mark.parametrize("pictures", [1, 7, 13])
def test_blocks_of_captions_do_not_move_when_a_batch_is_stopped(
    tmp_path: Path, checkpoint: Path, captions: Path, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedding's roundings depend on what is encoded beside it, which must be the same after a stop."""
    monkeypatch.setattr(stackgan.generation.batch, "BLOCK", 2)
    usual: dict[str, Any] = {"checkpoint": checkpoint, "count": 3, "batch_size": 2, "size": 64}
    batch(captions, out=tmp_path / "whole", **usual)
    real, left = stackgan.generation.batch.write_atomic, [pictures]

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".png":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device", str(path))
        real(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(stackgan.generation.batch, "write_atomic", full)
        with pytest.raises(OSError, match="No space left"):
            batch(captions, out=tmp_path / "out", **usual)
    assert threads_left() == []
    assert len([name for name in contents(tmp_path / "out") if name.endswith(".png")]) == pictures
    batch(captions, out=tmp_path / "out", **usual)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_ctrl_c_keeps_what_has_been_painted(
    tmp_path: Path,
    checkpoint: Path,
    captions: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paint, painted = stackgan.generation.batch._paint, [0]

    def stop(*arguments: Any) -> torch.Tensor:
        painted[0] += 1
        if painted[0] == 4:
            raise KeyboardInterrupt
        return paint(*arguments)

    usual: dict[str, Any] = {"checkpoint": checkpoint, "count": 3, "batch_size": 4, "size": 64}
    with monkeypatch.context() as patched:
        patched.setattr(stackgan.generation.batch, "_paint", stop)
        with pytest.raises(KeyboardInterrupt):
            batch(captions, out=tmp_path / "out", **usual)
    assert "stopped at 12 of 18 pictures" in capsys.readouterr().err
    assert len([name for name in contents(tmp_path / "out") if name.startswith("0")]) == 12
    assert threads_left() == []
    batch(captions, out=tmp_path / "out", **usual)
    assert contents(tmp_path / "out") == whole


def test_the_folder_of_another_batch_is_refused(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    out = tmp_path / "out"
    usual: dict[str, Any] = {"checkpoint": checkpoint, "out": out, "size": 64}
    batch(captions, **usual)
    before = contents(out)
    for changed, said in (
        ({"seed": 1}, r"\(seed 0 there, 1 here\)"),
        ({"count": 2, "truncation": 0.5}, r"\(count 1 there, 2 here, truncation 1.0 there, 0.5 here\)"),
        ({"size": 128}, "size 64 there, 128 here"),
        ({"batch_size": 8}, "batch_size 16 there, 8 here"),
        ({"checkpoint": save_tiny_checkpoint(tmp_path / "other", seed=1)}, "another checkpoint"),
    ):
        with pytest.raises(ValueError, match=said):
            batch(captions, **(usual | changed))
    captions.write_text(TEXT + "\na new bird", "utf-8")
    with pytest.raises(ValueError, match=r"another captions file.*name another folder"):
        batch(captions, **usual)
    assert contents(out) == before

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="not empty and holds no batch"):
        batch(captions, checkpoint=checkpoint, out=tmp_path / "photos")
    (out / "batch.json").write_text("[]")
    with pytest.raises(ValueError, match="not a batch of this program"):
        batch(captions, **usual)


@pytest.mark.skipif(os.name != "posix", reason="locks of folders are POSIX")
def test_two_batches_at_once_in_one_folder_are_refused(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another batch is painting here"):
            batch(captions, checkpoint=checkpoint, out=out)
    assert batch(captions, checkpoint=checkpoint, out=out, size=64) == 0


# --- captions files -----------------------------------------------------------------------------------------


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
    "empty": ("a.txt", b"", "a.txt: holds no caption"),
    "blank": ("a.txt", b"\n  \n\t\n", "a.txt: holds no caption"),
    "kind": ("a.pdf", b"a bird", "a.pdf: a captions file ends in .txt, .jsonl, .csv, not in .pdf"),
    "no kind": (
        "captions",
        b"a bird",
        "captions: a captions file ends in .txt, .jsonl, .csv, not in nothing",
    ),
    "json": ("a.jsonl", b'{"caption": "a bird"}\n{"caption": \n', "a.jsonl:2: not JSON"),
    "deep": ("a.jsonl", b"[" * 19_000, "a.jsonl:1: not JSON"),
    "array": ("a.jsonl", b'["a bird"]', "a.jsonl:1: holds a JSON list"),
    "key": (
        "a.jsonl",
        b'{"caption": "a", "sede": 3}',
        "a.jsonl:1: unknown column 'sede'; known are caption, ",
    ),
    "no caption": ("a.jsonl", b'{"text": "a"}', "a.jsonl:1: there is no caption among text"),
    "no string": ("a.jsonl", b'{"caption": ["a"]}', "a.jsonl:1: caption is ['a']: it must be a string"),
    "null": ("a.jsonl", b'{"caption": null}', "a.jsonl:1: caption is None: it must be a string"),
    "no words": ("a.jsonl", b'\n{"caption": " "}', "a.jsonl:2: the caption is empty"),
    "two lines": ("a.jsonl", b'{"caption": "a\\nb"}', "a.jsonl:1: the caption holds a line break"),
    "surrogate": ("a.jsonl", b'{"caption": "a \\ud800"}', "the caption holds the control character U+D800"),
    "text seed": ("a.jsonl", b'{"caption": "a", "seed": "7"}', "a.jsonl:1: seed is '7': it must be a whole"),
    "true seed": (
        "a.jsonl",
        b'{"caption": "a", "seed": true}',
        "a.jsonl:1: seed is True: it must be a whole",
    ),
    "half seed": ("a.jsonl", b'{"caption": "a", "seed": 1.5}', "a.jsonl:1: seed is 1.5: it must be a whole"),
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
    "twice": ("a.csv", b"caption,caption\na,b\n", "a.csv:1: column 'caption' is there twice"),
    "cells": ("a.csv", b"caption,seed\na bird, red,3\n", "a.csv:2: has 3 cells, the header has 2; quote"),
    "csv seed": ("a.csv", b"caption,seed\na bird,\na bird,x\n", "a.csv:3: seed is 'x': it must be a whole"),
    "csv negative": ("a.csv", b"caption,seed\na bird,-4\n", "a.csv:2: seed -4 is out of range"),
    "csv count": ("a.csv", b"caption,count\na bird,0\n", "a.csv:2: count 0 is too small"),
    "csv empty": ("a.csv", b"caption,seed\n,4\n", "a.csv:2: the caption is empty"),
    "csv quote": ("a.csv", b'caption\n"a bird\n', "a.csv:2: not CSV"),
    "only a header": ("a.csv", b"caption,seed\n", "a.csv: holds no caption"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_captions_files_are_told_with_their_line(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, said = WRONG[case]
    (tmp_path / name).write_bytes(content)
    assert main(["batch", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_long_file_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("a red bird\n" * 1000 + "\0", "utf-8")
    lines = read_captions(file)
    assert [next(lines).number for _ in range(1000)] == list(range(1, 1001))
    with pytest.raises(ValueError, match=r"captions\.txt:1001"):
        next(lines)
