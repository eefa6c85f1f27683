"""`batch`: its files, and that an image depends only on its caption and its seed."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stackgan
from stackgan import StackGANPipeline
from stackgan.cli.main import main
from stackgan.generation.batch import BLOCK, batch, image_seed
from stackgan.generation.generate import generate
from stackgan.generation.image_settings import ImageSettings, read_png
from stackgan.io.checkpoint_names import checkpoint_title
from tests.generation.folders import manifest, pixels
from tests.tiny import CAPTIONS, tiny_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_batch_writes_images_a_manifest_and_a_grid(
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
    assert {file.name for file in out.iterdir()} == {
        *names,
        "manifest.jsonl",
        "metadata.jsonl",
        "grid.png",
        "batch.json",
    }
    assert [record["line"] for record in records] == [1, 1, 3, 3, 4, 4, 5, 5, 6, 6, 8, 8]
    for record in records:
        assert record["seed"] == image_seed(5, record["caption"], record["copy"])
        image = Image.open(out / record["file"])
        assert image.size == (128, 128)
        assert image.info["Software"] == f"stackgan {stackgan.__version__}"
        settings = ImageSettings(
            record["caption"], record["seed"], 0.8, pipe.fingerprint, checkpoint_title(checkpoint), 128
        )
        assert read_png(out / record["file"]) == settings
        assert (record["truncation"], record["size"]) == (0.8, 128)
        assert record["checkpoint"] == pipe.fingerprint
    assert records[6]["notices"] == ['unknown word "zebra": no training caption has it']
    assert records[0]["notices"] == []
    assert Image.open(out / "grid.png").width > 1000

    said = capsys.readouterr()
    assert said.out.startswith(f"12 images in {out}: 12 generated in ")
    assert "skipped as blank or a comment: 2 (line 2, 7)" in said.err
    assert said.err.count('line 5: unknown word "zebra"') == 1


def test_a_checkpoint_may_recommend_a_truncation(tmp_path: Path, captions: Path) -> None:
    pipe = tiny_pipeline()
    pipe.facts = replace(pipe.facts, truncation=0.5)
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
    assert pixels(tmp_path / "1" / names[0]).std() > 10, "not a uniform image"


def test_an_image_does_not_depend_on_the_rest_of_the_file(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
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


def test_the_base_seed_and_the_copy_change_the_image() -> None:
    seeds = {image_seed(seed, "a red bird", copy) for seed in range(20) for copy in range(20)}
    assert len(seeds) == 400
    assert image_seed(0, "a red bird", 1) != image_seed(0, "a blue bird", 1)
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
        (1, 1): image_seed(0, "a blue bird", 1),
        (1, 2): image_seed(0, "a blue bird", 2),
        (2, 1): image_seed(0, "été", 1),
    }
    names = [record["file"] for record in manifest(out)]
    assert names == sorted(names)
    assert names[0] == f"{first:05}-01_a-red-bird-small.png"
    assert names[-1] == f"{first + 2:05}-01_ete.png"
    image = Image.open(out / names[-1])
    assert image.size == (64, 64)
    assert image.info["caption"] == "été"


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
    asked = encoded[1:]  # the first call checks that there is an encoder
    assert len(asked) == -(-60 // (2 * BLOCK))
    assert asked[0] == [CAPTIONS[0], CAPTIONS[1]]
    assert sum(map(len, asked)) < 12


def test_a_manifest_and_the_metadata_generate_the_same_images_again(
    tmp_path: Path, checkpoint: Path, captions: Path
) -> None:
    batch(captions, checkpoint=checkpoint, out=tmp_path / "a", count=2, seed=5, truncation=0.8)
    records = manifest(tmp_path / "a")
    entries = [json.loads(line) for line in (tmp_path / "a/metadata.jsonl").read_text("utf-8").splitlines()]
    assert [(entry["file_name"], entry["text"]) for entry in entries] == [(r["file"], r["caption"]) for r in records]
    for name in ("manifest.jsonl", "metadata.jsonl"):
        again = tmp_path / name.partition(".")[0]
        batch(tmp_path / "a" / name, checkpoint=checkpoint, out=again, truncation=0.8)
        found = manifest(again)
        assert [(r["caption"], r["seed"]) for r in found] == [(r["caption"], r["seed"]) for r in records]
        for one, other in zip(records, found, strict=True):
            difference = pixels(tmp_path / "a" / one["file"]).astype(int) - pixels(again / other["file"])
            assert np.abs(difference).max() <= 1  # other neighbours in a batch: rounding


@pytest.mark.parametrize(
    "lines", ["a red bird\n# a comment\na blue bird\n", '{"text": "a red bird"}\n{"text": "a blue bird"}\n']
)
def test_captions_come_from_the_standard_input(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    command = ["batch", "-", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
    for _ in range(2):  # the second call finds everything there
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        assert main(command) == 0
    assert [record["caption"] for record in manifest(tmp_path / "out")] == ["a red bird", "a blue bird"]
