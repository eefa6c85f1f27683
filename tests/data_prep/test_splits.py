"""Splits that the user gives by folders or in the metadata are used as they are."""

from pathlib import Path

import pytest
from PIL import Image

from data_prep.splits import named_split
from stackgan.data.prepared import PreparedFolder
from tests.data_prep.folders import homes, photo, prepare, problems, with_text, write_rows

SPELLINGS = {
    "train": ["train", "TRAIN", "Training", "training_set", "train2017", "train-images", "TrainImages", "trainval"],
    "test": ["test", "Testing", "TEST", "test_set", "eval", "Evaluation", "test-data", "testset"],
    "val": ["val", "Valid", "VALIDATION", "dev", "val2014", "validation_set", "Dev-Set", "development"],
}


@pytest.mark.parametrize("split", SPELLINGS)
def test_usual_spellings_of_split_folders(split: str, tmp_path: Path) -> None:
    src = tmp_path / "src"
    for number, name in enumerate(SPELLINGS[split]):
        with_text(src / name / f"{number}.png")
    with_text(src / "train" / "other.png")
    code, out = prepare(src)
    expected = {f"{name}/{number}.png" for number, name in enumerate(SPELLINGS[split])}
    assert code == 0 and expected <= set(homes(out)[split])


@pytest.mark.parametrize("name", ["images", "trainer", "attest", "red devs", "train test", "devon", "value", "2017"])
def test_names_that_are_no_split(name: str) -> None:
    assert named_split(name) is None


PAIRS = {
    "letters": (["trainA/1", "trainB/2"], ["testA/3", "testB/4"]),
    "a word before": (["seg_train/seg_train/forest/1"], ["seg_test/seg_test/forest/2"]),
    "words around": (["DIV2K_train_HR/1"], ["DIV2K_Test_HR/2"]),
    "below a folder": (["photos/birds-train/1"], ["photos/Birds-TESTING/2"]),
    "copies": (["train - Copy/1"], ["test - Copy/2"]),
    "in front": (["train_birds/1", "train_birds/more/2"], ["eval_birds/3"]),
}


@pytest.mark.parametrize("case", PAIRS)
def test_folders_that_differ_in_the_word_of_the_split_alone(case: str, tmp_path: Path) -> None:
    train, test = ([f"{path}.png" for path in paths] for paths in PAIRS[case])
    for path in train + test:
        with_text(tmp_path / "src" / path)
    code, out = prepare(tmp_path / "src")
    assert code == 0 and homes(out) == {"train": train, "test": test}


@pytest.mark.parametrize("names", [["my_test", "birds"], ["seg_train", "div_test"], ["a/seg_train", "b/seg_test"]])
def test_a_folder_without_its_pair_names_no_split(names: list[str], tmp_path: Path) -> None:
    for name in names:
        with_text(tmp_path / "src" / name / "a.png")
    code, out = prepare(tmp_path / "src", "--test-fraction", "0")
    assert code == 0 and len(homes(out)["train"]) == 2


def test_three_splits_and_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = tmp_path / "src"
    for split, count in (("Train", 9), ("test", 4), ("VAL", 4)):
        for i in range(count):
            with_text(src / split / f"p{i}.png")
    code, out = prepare(src)
    assert code == 0
    assert {name: len(ids) for name, ids in homes(out).items()} == {"train": 9, "test": 4, "val": 4}
    assert all(path.startswith("test/") for path in homes(out)["test"])
    assert "split: given by folders (test: test/; train: Train/; val: VAL/)" in capsys.readouterr().out


@pytest.mark.parametrize("above", ["birds", "data/images", "a/b/c"])
def test_split_folders_below_other_folders(above: str, tmp_path: Path) -> None:
    """Also with folders of species below the split, as in ImageFolder, and above it."""
    src = tmp_path / "src"
    with_text(src / above / "train" / "wren" / "a.png")
    with_text(src / above / "robin" / "test" / "b.png")
    code, out = prepare(src)
    assert code == 0
    assert homes(out) == {"train": [f"{above}/train/wren/a.png"], "test": [f"{above}/robin/test/b.png"]}


def test_photos_outside_of_the_split_folders(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for name in ("test/a.png", "b.png", "more/c.png"):
        with_text(src / name)
    code, out = prepare(src)
    assert code == 0 and homes(out) == {"train": ["b.png", "more/c.png"], "test": ["test/a.png"]}
    with_text(src / "train" / "d.png")
    code, out = prepare(src)
    assert code == 1 and homes(out) == {"train": ["train/d.png"], "test": ["test/a.png"]}
    assert problems(out)["b.png"].startswith(
        "in no split, although others are (by the folder test/, the folder train/); move it"
    )


def test_only_training_photos_stay_in_the_training_split(tmp_path: Path) -> None:
    for i in range(30):
        with_text(tmp_path / "src" / "train" / f"{i}.png")
    code, out = prepare(tmp_path / "src", "--test-fraction", "0.5")
    assert code == 0 and len(homes(out)["train"]) == 30 and list(homes(out)) == ["train"]


def test_only_test_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_text(tmp_path / "src" / "test" / "a.png")
    assert prepare(tmp_path / "src")[0] == 2
    assert "no photos for training: all are in other splits, named by the folder test/" in capsys.readouterr().err


def test_splits_without_captions(tmp_path: Path) -> None:
    for name in ("train/a.png", "valid/b.png"):
        photo(tmp_path / "src" / name)
    code, out = prepare(tmp_path / "src", "--no-captions")
    assert code == 0 and homes(out) == {"train": ["train/a.png"], "val": ["valid/b.png"]}


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])
def test_split_column(table: str, tmp_path: Path) -> None:
    src = tmp_path / "src"
    values = {"a": "Training", "b": "TEST", "c": "validation", "d": "eval", "e": "other", "f": ""}
    for name in values:
        photo(src / f"{name}.png")
    if table.endswith("jsonl"):
        write_rows(src / table, *({"file_name": f"{n}.png", "text": "x", "split": v} for n, v in values.items()))
    else:
        lines = "".join(f"{n}.png,x,{v}\n" for n, v in values.items())
        (src / table).write_text("file_name,text,split\n" + lines)
    code, out = prepare(src)
    assert code == 1 and homes(out) == {"train": ["a.png"], "test": ["b.png", "d.png"], "val": ["c.png"]}
    row = 5 if table.endswith("jsonl") else 6
    assert problems(out)[f"{table}, line {row}"].startswith("'split' is 'other', not one of train, training")
    assert problems(out)["f.png"].startswith("in no split, although others are (by the metadata)")


def test_contradictions_are_left_out(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for name in ("train/a.png", "test/b.png", "test/train/c.png", "train/d.png", "train/e.png"):
        photo(src / name)
    rows = [("train/a.png", "train"), ("test/b.png", "train"), ("test/train/c.png", None), ("train/d.png", "train")]
    rows += [("train/d.png", "test"), ("train/e.png", None), ("train/e.png", "train")]
    write_rows(src / "metadata.jsonl", *({"file_name": n, "text": f"x {s}", "split": s} for n, s in rows))
    code, out = prepare(src)
    assert code == 1 and homes(out) == {"train": ["train/a.png", "train/e.png"]}
    assert problems(out) == {
        "test/b.png": "contradictory splits: 'test' by the folder test/, 'train' by the metadata; keep one",
        "test/train/c.png": "contradictory splits: 'test' by the folder test/, 'train' by the folder train/; "
        "keep one",
        "metadata.jsonl, line 5": "train/d.png: split 'test' here, 'train' in metadata.jsonl, line 4; "
        "the photo is left out",
    }


def test_one_photo_linked_into_two_splits(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for name in "abc":
        with_text(src / "all" / f"{name}.png")
    for link, name in (("train", "a"), ("test", "b"), ("test", "c"), ("train", "c")):
        (src / link).mkdir(exist_ok=True)
        (src / link / f"{name}.png").symlink_to(src / "all" / f"{name}.png")
    code, out = prepare(src)
    assert code == 1 and homes(out) == {"train": ["all/a.png"], "test": ["all/b.png"]}
    assert problems(out)["all/c.png"].startswith("contradictory splits: ")


def test_split_folders_that_are_links(tmp_path: Path) -> None:
    src = tmp_path / "src"
    with_text(src / "all" / "one" / "deep" / "a.png")
    with_text(src / "all" / "two" / "b.png")
    with_text(tmp_path / "elsewhere" / "c.png")
    (src / "train").symlink_to(src / "all" / "one")
    (src / "test").symlink_to(src / "all" / "two")
    (src / "val").symlink_to(tmp_path / "elsewhere")
    code, out = prepare(src)
    assert code == 0
    assert homes(out) == {"train": ["all/one/deep/a.png"], "test": ["all/two/b.png"], "val": ["val/c.png"]}


def test_a_photo_that_is_stored_in_two_splits_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its pixels, so under another name and in another format too; photos of one split alone are not."""
    src = tmp_path / "src"
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(photo(src / "train" / f"{number}.png"))
    for name, red in (("copy.png", 40), ("other.bmp", 80), ("own.png", 200), ("again.png", 200)):
        photo(src / "test" / name)
        Image.new("RGB", (8, 8), (red, 0, 0)).save(src / "test" / name)
    photo(src / "val" / "own.png")
    Image.new("RGB", (8, 8), (200, 0, 0)).save(src / "val" / "own.png")
    code, out = prepare(src, "--no-captions")
    report = capsys.readouterr().out
    assert code == 0, report
    assert PreparedFolder.open(out).meta["source"]["photos_in_several_splits"] == {
        "count": 3,
        "examples": [
            "test: test/copy.png = train: train/1.png",
            "test: test/other.bmp = train: train/2.png",
            "val: val/own.png = test: test/again.png",
        ],
    }
    assert "photos with the same pixels in several splits: 3; keep each in one of them:" in report
    assert "  test: test/copy.png = train: train/1.png\n" in report


def test_photos_in_two_splits_are_named_up_to_five(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = tmp_path / "src"
    for split in ("train", "test"):
        for number in range(9):
            Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(photo(src / split / f"{number}.png"))
    prepare(src, "--no-captions")
    report = capsys.readouterr().out
    assert "in several splits: 9;" in report and report.count(" = train: ") == 5
