"""Data sets that the package ``datasets`` streams: Parquet, WebDataset and image folders give the same images."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder

COUNT = 12


def test_without_the_package_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert main(["prepare", "datasets", str(tmp_path), str(tmp_path.parent / "never")]) == 2
    assert 'pip install "stackgan[datasets]"' in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    """The package, with its cache in a temporary folder; only for the tests that need it."""
    if "without" not in request.node.name:
        config = pytest.importorskip("datasets").config
        patch = request.getfixturevalue("monkeypatch")
        patch.setattr(config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def _png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 20 + number, 3), 20 * number, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _parquet(folder: Path) -> None:
    """With a description of the columns, as ``datasets`` writes it, in two files."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {
        "image": [{"bytes": _png(i), "path": None} for i in range(COUNT)],
        "caption": [[f"bird {i}", f"a {i}"] for i in range(COUNT)],
        "label": [i % 3 for i in range(COUNT)],
    }
    features = datasets.Features(
        image=datasets.Image(),
        caption=datasets.List(datasets.Value("string")),
        label=datasets.ClassLabel(names=["wren", "robin", "tit"]),
    )
    table = pa.table(rows, schema=features.arrow_schema)
    for part in range(2):
        half = table.slice(part * COUNT // 2, COUNT // 2)
        pq.write_table(half, folder / f"train-{part:05d}-of-00002.parquet")


def _plain_parquet(folder: Path) -> None:
    """Bytes in a column, without a description of the columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"photo": [_png(i) for i in range(COUNT)], "text": [f"bird {i}" for i in range(COUNT)]})
    pq.write_table(table, folder / "data.parquet")


def _tars(folder: Path) -> None:
    for part in range(2):
        with tarfile.open(folder / f"shard-{part:06d}.tar", "w") as tar:
            for i in range(part * COUNT // 2, (part + 1) * COUNT // 2):
                for ending, data in (("png", _png(i)), ("txt", f"bird {i}".encode())):
                    info = tarfile.TarInfo(f"{i:04d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def _images(folder: Path) -> None:
    lines = []
    for i in range(COUNT):
        (folder / f"{i:04d}.png").write_bytes(_png(i))
        lines.append(json.dumps({"file_name": f"{i:04d}.png", "text": f"bird {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


SOURCES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "parquet": (_parquet, []),
    "plain parquet": (_plain_parquet, ["--image-column", "photo"]),
    "webdataset": (_tars, []),
    "images": (_images, []),
}


def _prepared(tmp_path: Path, name: str, *arguments: str) -> PreparedFolder:
    write, usual = SOURCES[name]
    folder, out = tmp_path / name, tmp_path / "out"
    if not folder.exists():
        folder.mkdir()
        write(folder)
    assert main(["prepare", "datasets", str(folder), str(out), "--overwrite", *usual, *arguments]) == 0
    return PreparedFolder.open(out)


@pytest.mark.parametrize("name", SOURCES)
def test_every_format_gives_the_images_and_captions_in_order(name: str, tmp_path: Path) -> None:
    split = _prepared(tmp_path, name, "--test-fraction", "0").train
    assert [record.id for record in split.records] == [f"train/{i:09d}" for i in range(COUNT)]
    assert split.images[:, 38, 38, 0].tolist() == [20 * i for i in range(COUNT)]
    if name == "parquet":
        assert split.records[4].captions == ("bird 4", "a 4") and split.records[4].species == "robin"
    else:
        assert list(split.captions) == [f"bird {i}" for i in range(COUNT)]


def test_the_same_rows_give_the_same_bytes_with_any_number_of_threads(tmp_path: Path) -> None:
    one, two = (_prepared(tmp_path, "webdataset", "--workers", workers).identity for workers in "14")
    assert one == two
    folder = PreparedFolder.open(tmp_path / "out")
    assert set(folder.splits) == {"train", "test"} and folder.meta["source"]["split"] == "rows"


def test_splits_are_used_by_their_names_and_rows_can_be_limited(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for split in ("train", "validation"):
        (source / split).mkdir(parents=True)
        _images(source / split)
    assert main(["prepare", "datasets", str(source), str(tmp_path / "out"), "--limit", "5", "--no-captions"]) == 0
    folder = PreparedFolder.open(tmp_path / "out")
    assert {name: len(split) for name, split in folder.splits.items()} == {"train": 5, "val": 5}
    assert not folder.train.captions


def test_unusable_rows_are_listed_and_the_others_prepared(tmp_path: Path) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: dict[str, list[Any]] = {
        "image": [{"bytes": _png(3), "path": None}, {"bytes": b"no image", "path": None}, None],
        "text": ["a bird", "b", "c"],
    }
    features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(rows, schema=features.arrow_schema), tmp_path / "data" / "a.parquet")
    command = ["prepare", "datasets", str(tmp_path / "data"), str(tmp_path / "out"), "--test-fraction", "0"]
    assert main(command) == 1
    folder = PreparedFolder.open(tmp_path / "out")
    assert folder.meta["problems"] == [
        {"path": "train/000000001", "reason": "not an image in a format that can be read"},
        {"path": "train/000000002", "reason": "no image"},
    ]
    assert list(folder.train.captions) == ["a bird"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-column", "picture"], "there is no column 'picture'; it has photo, text"),
        ([], "no column of images among photo, text; name one with --image-column"),
        (["--image-column", "text"], "the column 'text' holds Value('string'), no images"),
    ],
)
def test_a_wrong_column_is_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    _plain_parquet(tmp_path / "data")
    assert main(["prepare", "datasets", str(tmp_path / "data"), str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
