"""Shards of a batch: together the bytes of one call, whoever generates them; joined by ``--merge``."""

import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import stackgan.generation.batch
from stackgan.captions.file import read_captions
from stackgan.cli.main import main
from stackgan.generation.batch import batch
from stackgan.generation.merge import merge
from tests.generation.folders import contents, manifest

pytestmark = pytest.mark.usefixtures("one_thread")

USUAL: dict[str, Any] = {"count": 3, "batch_size": 2, "size": 64}


@pytest.fixture(scope="module")
def parts(one_thread: None, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captions.txt, ``whole``, and the shards 1-3 and of-6-1 to of-6-6; blocks have two images."""
    folder = tmp_path_factory.mktemp("shards")
    captions = folder / "captions.txt"
    captions.write_text("a red bird\n\na blue bird\na small bird with a long tail\na\x07b\n", "utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stackgan.generation.batch, "BLOCK", 1)
        batch(captions, checkpoint=checkpoint, out=folder / "whole", **USUAL)
        for part in (1, 2, 3):
            batch(captions, checkpoint=checkpoint, out=folder / f"{part}", shard=f"{part}/3", **USUAL)
        for part in range(1, 7):
            batch(captions, checkpoint=checkpoint, out=folder / f"of-6-{part}", shard=f"{part}/6", **USUAL)
    return folder


@pytest.mark.parametrize("names", [["3", "1", "2"], [f"of-6-{part}" for part in range(1, 7)]])
def test_joined_shards_equal_one_call(parts: Path, names: list[str], tmp_path: Path) -> None:
    arguments = ["batch", "--merge", *(str(parts / name) for name in names), "--out", str(tmp_path / "all")]
    assert main(arguments) == 0
    assert contents(tmp_path / "all") == contents(parts / "whole")
    (tmp_path / "all" / "manifest.jsonl").unlink()  # as after a kill
    broken = next((tmp_path / "all").glob("00003-2*"))
    broken.unlink()
    broken.write_bytes(b"")
    assert main(arguments) == 0
    assert contents(tmp_path / "all") == contents(parts / "whole")


def test_shards_have_disjoint_whole_blocks(parts: Path) -> None:
    names = [[record["file"] for record in manifest(parts / f"{part}")] for part in (1, 2, 3)]
    every = [record["file"] for record in manifest(parts / "whole")]
    assert sorted(chain(*names)) == every
    blocks = [every[start : start + 2] for start in range(0, len(every), 2)]
    assert names == [list(chain(*blocks[part::3])) for part in range(3)]
    assert manifest(parts / "of-6-6") == []
    assert not (parts / "of-6-6" / "grid.png").exists()


@pytest.mark.parametrize(("images", "block", "parts"), [(0, 4, 2), (3, 4, 2), (17, 4, 3), (24, 4, 3), (25, 4, 6)])
def test_the_announced_numbers_of_images(images: int, block: int, parts: int) -> None:
    blocks = [list(range(images))[start : start + block] for start in range(0, images, block)]
    for part in range(1, parts + 1):
        announced = stackgan.generation.batch._images_of(part, parts, images, block)
        assert announced == len(list(chain(*blocks[part - 1 :: parts])))


def test_a_joined_manifest_is_a_captions_file(parts: Path, tmp_path: Path) -> None:
    merge([parts / name for name in "123"], out=tmp_path / "all")
    lines = list(read_captions(tmp_path / "all" / "manifest.jsonl", count=1))
    assert [line.caption for line in lines] == [record["caption"] for record in manifest(parts / "whole")]


def test_what_cannot_be_joined_is_refused(
    parts: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (parts / name for name in "123")
    out = tmp_path / "all"
    for folders, said in (
        ([one, three], "shards 2/3 are missing"),
        ([one, two, two], "named twice"),
        ([one, two, parts / "of-6-3"], "6 shards there, 3 here"),
        ([one, parts / "whole"], "is a whole batch and no shard"),
    ):
        with pytest.raises(ValueError, match=said):
            merge(folders, out=out)
    with pytest.raises(FileNotFoundError, match=r"no batch\.json"):
        merge([tmp_path], out=out)
    copy = tmp_path / "copy"
    shutil.copytree(two, copy)
    with pytest.raises(ValueError, match="is shard 2/3 like"):
        merge([one, two, copy, three], out=out)
    settings = json.loads((copy / "batch.json").read_text())
    (copy / "batch.json").write_text(json.dumps(settings | {"seed": 5}))
    with pytest.raises(ValueError, match=r"another batch than .* \(seed\)"):
        merge([one, copy, three], out=out)
    (copy / "batch.json").write_text(json.dumps(settings | {"threads": 7}))
    victim = sorted(copy.glob("0*.png"))[0]
    victim.unlink()
    with pytest.raises(ValueError, match=f"{victim.name}' is missing or not complete"):
        merge([one, copy, three], out=out)
    assert "with 1, 7 threads" in capsys.readouterr().err
    (copy / "manifest.jsonl").unlink()
    with pytest.raises(ValueError, match="shard 2/3 is not complete; run its command again"):
        merge([one, copy, three], out=out)
    assert main(["batch", "--merge", str(one), "--out", str(out), "--seed", "3"]) == 2
    assert main(["batch", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "remove seed" in said
    assert "name a captions file" in said


def test_a_name_that_leads_out_of_the_folder_is_refused(parts: Path, tmp_path: Path) -> None:
    for part in "123":
        shutil.copytree(parts / part, tmp_path / part)
    text = (tmp_path / "1" / "manifest.jsonl").read_text()
    name = manifest(tmp_path / "1")[0]["file"]
    (tmp_path / "1" / "manifest.jsonl").write_text(text.replace(name, f"../2/{name}", 1))
    with pytest.raises(ValueError, match="is missing or not complete"):
        merge([tmp_path / part for part in "123"], out=tmp_path / "all")


def test_the_folder_of_a_shard_is_not_resumed_as_another(parts: Path, checkpoint: Path) -> None:
    usual = USUAL | {"checkpoint": checkpoint, "out": parts / "1"}
    for changed, said in (
        ({}, "shard 1/3 there, not set here"),
        ({"shard": "2/3"}, "shard 1/3 there, 2/3 here"),
        ({"shard": "1/3", "best_of": 2}, "best_of not set there, 2 here"),
    ):
        with pytest.raises(ValueError, match=said):
            batch(parts / "captions.txt", **(usual | changed))
    with pytest.raises(ValueError, match="expected i/n"):
        batch(parts / "captions.txt", **(usual | {"shard": "4/3"}))
