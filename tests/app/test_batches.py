"""Batches on the page, without Gradio."""

import json
import zipfile
from pathlib import Path

import pytest

from stackgan.app import batches
from stackgan.app.batches import BatchProgress, BatchRequest, run_batch
from stackgan.generation.batch import batch, image_seed
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS, save_tiny_checkpoint


def _last(
    pipe: StackGANPipeline, folder: Path, file: Path | None, text: str = "", count: float | None = 1
) -> BatchProgress:
    *_, last = run_batch(pipe, BatchRequest(file, text, count, 3, 0.8, 64), folder)
    return last


def test_the_archive_has_the_files_of_the_command(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny")
    file = tmp_path / "birds.csv"
    file.write_text(f'caption;seed\n{CAPTIONS[0]};7\n\n{CAPTIONS[1]};x\n"{CAPTIONS[2]}";\n', "utf-8")
    folder, out = tmp_path / "page", tmp_path / "out"
    folder.mkdir()
    last = _last(StackGANPipeline.from_pretrained(checkpoint), folder, file, count=3)
    settings = {"count": 3, "seed": 3, "truncation": 0.8, "size": 64, "batch_size": batches.BATCH_SIZE}
    assert batch(file, checkpoint=checkpoint, out=out, **settings) == 1
    assert last.archive is not None and last.rejects is not None
    with zipfile.ZipFile(last.archive) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {made.name: made.read_bytes() for made in out.iterdir()}
    assert (last.done, last.total, last.stopped, last.rejected, last.blank) == (6, 6, False, 1, 1)
    assert last.first_rejected[0].number == 4 and last.rejects.read_bytes() == (out / "rejects.jsonl").read_bytes()


def test_pasted_captions_that_are_stopped_keep_what_was_made(
    pipe: StackGANPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "UPDATE_SECONDS", 0)
    request = BatchRequest(None, "\n".join([*CAPTIONS, "a red zebra"]), 4, 3)
    reports = list(run_batch(pipe, request, tmp_path, stop=lambda: True))
    last = reports[-1]
    assert [report.done for report in reports] == [0, 4, 4] and last.stopped and last.total == 20
    assert [record["seed"] for record in reports[1].new] == [image_seed(3, CAPTIONS[0], copy) for copy in range(1, 5)]
    assert last.archive is not None and last.manifest is not None and last.rejects is None
    with zipfile.ZipFile(last.archive) as archive:
        names = archive.namelist()
    manifest = [json.loads(line)["file"] for line in last.manifest.read_text("utf-8").splitlines()]
    assert [name for name in names if name.endswith(".png") and name != "grid.png"] == manifest and len(manifest) == 4


def test_warnings_name_the_line(pipe: StackGANPipeline, tmp_path: Path) -> None:
    last = _last(pipe, tmp_path, None, f"{CAPTIONS[0]}\na red zebra", count=2)
    assert last.warnings == ['Line 2: unknown word "zebra": no training caption has it']


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "^empty.txt: holds no captions: write one per line"),
        ("utf16.txt", "a red bird".encode("utf-16"), "^utf16.txt:1: not UTF-8 text .* save the file as UTF-8"),
        ("birds.tsv", b"a red bird", r"^birds.tsv: the extension of a captions file is .txt, .jsonl, .csv, not .tsv"),
        ("bad.jsonl", b"{}\n", "^bad.jsonl:1: "),
        ("many.txt", b"a red bird\n" * 501, "^many.txt asks for 1,002 images; this page makes up to 1,000 at once"),
        (
            "a b.txt",
            b"bird\n" * 501,
            "stackgan batch 'a b.txt' --checkpoint CHECKPOINT --out batch --count 2 --seed 3",
        ),
    ],
)
def test_files_are_refused_in_words(
    pipe: StackGANPipeline, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        _last(pipe, tmp_path, file, count=2)
    assert str(tmp_path) not in str(refused.value)


def test_large_files_and_missing_input_are_refused(
    pipe: StackGANPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_FILE", 2**20)
    file = tmp_path / "large.txt"
    file.write_bytes(b"a bird\n" * 2**18)
    for given, text, count, message in (
        (
            file,
            "",
            1,
            "^large.txt has 1.8 MB; this page takes up to 1 MB: split it, or use the command line: stackgan",
        ),
        (None, " \n", 1, "^Write captions, one on each line, or choose a captions file"),
        (file, "a bird", 1, "^There are captions in the box and a file: remove one of the two"),
        (None, "a bird", None, "^The number of images per caption is missing"),
        (None, "a bird", 1001, "^The number of images per caption is 1001: the largest is 1000"),
    ):
        with pytest.raises(ValueError, match=message):
            _last(pipe, tmp_path, given, text, count)
