"""Merging of prepared folders: all images once, and a stable held-out share."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.merge import prepare_merged
from stackgan.cli.main import main
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter


def _folder(
    path: Path, ids: str, *, size: int = 64, test: str = "", kind: str = "folder", species: str = "{split} {id}"
) -> Path:
    side = size * 76 // 64
    with PreparedWriter(path, kind=kind, size=size, crop="as drawn", source={}) as writer:  # type: ignore[arg-type]
        for split, names in (("train", ids), ("test", test)):
            for name in names:
                image = np.full((side, side, 3), ord(name), np.uint8)
                writer.add(
                    split, image, Record(name, (f"a bird called {name}",), species.format(split=split, id=name))
                )
    return path


def _pixels(folder: PreparedFolder) -> dict[str, tuple[str, int]]:
    """Split and grey level of each id."""
    return {
        record.id: (name, int(image[0, 0, 0]))
        for name, split in folder.splits.items()
        for image, record in zip(split.images, split.records, strict=True)
    }


def test_merging_keeps_every_image_with_its_record(tmp_path: Path) -> None:
    first, second = _folder(tmp_path / "a", "abc", test="x", kind="cub"), _folder(tmp_path / "b", "de")
    merged = prepare_merged([first, second], tmp_path / "out")
    merged.verify()
    assert merged.kind == "cub" and merged.meta["species_disjoint"]
    assert _pixels(merged) == {n: ("test" if n == "x" else "train", ord(n)) for n in "abcdex"}
    assert list(merged.splits["train"].captions) == [f"a bird called {n}" for n in "abcde"]
    assert [part["kind"] for part in merged.meta["source"]["merged"]] == ["cub", "folder"]


def test_held_out_images_stay_when_others_are_added(tmp_path: Path) -> None:
    names = "abcdefghijklmnopqrst"
    few, many = _folder(tmp_path / "few", names[:12]), _folder(tmp_path / "rest", names[12:])
    one = _pixels(prepare_merged([few], tmp_path / "one", hold_out=0.4))
    two = prepare_merged([few, many], tmp_path / "two", hold_out=0.4)
    held = {name for name, (split, _) in _pixels(two).items() if split == "test"}
    assert {name for name, (split, _) in one.items() if split == "test"} == held & set(names[:12])
    assert 3 <= len(held) <= 13 and not two.meta["species_disjoint"]
    other = _pixels(prepare_merged([few, many], tmp_path / "three", hold_out=0.4, seed=1))
    assert {name for name, (split, _) in other.items() if split == "test"} != held


def test_the_command_reports_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, same, large = (
        _folder(tmp_path / "a", "ab"),
        _folder(tmp_path / "b", "ab"),
        _folder(tmp_path / "c", "d", size=128),
    )
    cases = [
        ([a, same], [], "holds the same data as"),
        ([a, a], [], "name each source once"),
        ([a, large], [], "prepare both with the same --size"),
        ([a], ["--hold-out", "0.9999"], "leaves no photos"),
        ([a], ["--hold-out", "1"], "below 1"),
        ([tmp_path / "nowhere"], [], "nowhere"),
    ]
    for sources, options, message in cases:
        assert main(["prepare", "merge", *map(str, sources), str(tmp_path / "out"), *options]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert main(["prepare", "merge", str(a), str(tmp_path / "out")]) == 0
    assert "train: 2 photos" in capsys.readouterr().out


def _names(folder: PreparedFolder) -> dict[str, set[str]]:
    return {name: {record.id for record in split.records} for name, split in folder.splits.items()}


def test_ids_that_clash_get_the_name_of_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = _folder(tmp_path / "camera-a", "pq"), _folder(tmp_path / "camera-b", "qr"), _folder(tmp_path / "c", "s")
    assert main(["prepare", "merge", str(a), str(b), str(c), str(tmp_path / "out")]) == 0
    assert "ids with their folder's name, as several folders have them: 2\n" in capsys.readouterr().out
    merged = PreparedFolder.open(tmp_path / "out")
    assert _names(merged) == {"train": {"p", "camera-a/q", "camera-b/q", "r", "s"}}
    assert merged.splits["train"].records[1].captions == ("a bird called q",)
    again = prepare_merged([a, b, c], tmp_path / "again")
    assert again.identity == merged.identity


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["x/out", "y/out"], {"out-1/p", "out-2/p"}),  # folders of one name
        (["x/out", "y/out", "z/other"], {"out-1/p", "out-2/p", "other-3/p"}),
        (["caf\xe9", "b"], {"caf\xe9/p", "b/p"}),
        (["a b", "c"], {"a b/p", "c/p"}),
    ],
)
def test_names_of_folders(paths: list[str], expected: set[str], tmp_path: Path) -> None:
    sources = [_folder(tmp_path / path, f"p{number}") for number, path in enumerate(paths)]
    merged = prepare_merged(sources, tmp_path / "merged")
    assert _names(merged)["train"] == expected | {str(number) for number in range(len(paths))}


def test_ids_that_clash_with_a_renamed_one_and_across_splits(tmp_path: Path) -> None:
    first = _folder(tmp_path / "a", "p", test="q")
    second = _folder(tmp_path / "b", "q", test="p")
    merged = prepare_merged([first, second], tmp_path / "one")
    assert _names(merged) == {"train": {"a/p", "b/q"}, "test": {"a/q", "b/p"}}
    third = _folder(tmp_path / "a2" / "a", "pr")
    again = prepare_merged([merged.path, third], tmp_path / "two")  # no clash: a/p and p
    assert _names(again)["train"] == {"a/p", "b/q", "p", "r"}
    fourth = _folder(tmp_path / "a4" / "a", "ps")
    last = prepare_merged([again.path, fourth], tmp_path / "three")
    assert {"two/p", "a-2/p"} & _names(last)["train"] or {"two-1/p", "a-2/p"} <= _names(last)["train"]
    assert len(last.splits["train"]) == 6


def test_a_species_in_the_train_split_of_one_folder_and_the_test_split_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = _folder(tmp_path / "a", "pq", test="r", species="{id}")
    b = _folder(tmp_path / "b", "r", test="ps", species="{id}")
    assert main(["prepare", "merge", str(a), str(b), str(tmp_path / "out")]) == 0
    assert "species in several splits, as the folders have them: 2\n" in capsys.readouterr().out
    merged = PreparedFolder.open(tmp_path / "out")
    assert _names(merged) == {"train": {"a/p", "q", "b/r"}, "test": {"a/r", "b/p", "s"}}
    assert not merged.meta["species_disjoint"]


@pytest.mark.parametrize("spelling", ["a/", "./a", "b/../a", "linked"])
def test_a_folder_given_twice_in_two_spellings(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _folder(tmp_path / "a", "p")
    _folder(tmp_path / "b", "q")
    (tmp_path / "linked").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "merge", "a", "b", spelling, "out"]) == 2
    assert "holds the same data as" in capsys.readouterr().err and not Path("out").exists()


@pytest.mark.parametrize("names", [["A", "a"], ["p", "p/p"], ["..x", "x."], ["a\x1bb", "c"], ["1", "1-1"]])
def test_folders_with_unusual_names(names: list[str], tmp_path: Path) -> None:
    sources = [_folder(tmp_path / name, f"p{number}") for number, name in enumerate(names)]
    merged = prepare_merged(sources, tmp_path / "merged")
    ids = [record.id for record in merged.splits["train"].records]
    assert len(set(ids)) == 4 and all(name.isprintable() for name in ids)
    assert [name.endswith("p") for name in ids] == [True, False, True, False]


def test_what_is_held_out_stays_when_an_id_clashes(tmp_path: Path) -> None:
    names = "abcdefghijklmnopqrst"
    first, other = _folder(tmp_path / "first", names), _folder(tmp_path / "other", names + "u")
    alone = _names(prepare_merged([first], tmp_path / "alone", hold_out=0.4))["test"]
    both = _names(prepare_merged([first, other], tmp_path / "both", hold_out=0.4))["test"]
    assert {name.removeprefix("first/") for name in both if name.startswith("first/")} == alone
