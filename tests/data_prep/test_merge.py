"""Merging of prepared folders: all images once, and a stable held-out share."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.merge import prepare_merged
from stackgan.cli.main import main
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter


def _folder(path: Path, ids: str, *, size: int = 64, test: str = "", kind: str = "folder") -> Path:
    side = size * 76 // 64
    with PreparedWriter(path, kind=kind, size=size, crop="as drawn", source={}) as writer:  # type: ignore[arg-type]
        for split, names in (("train", ids), ("test", test)):
            for name in names:
                image = np.full((side, side, 3), ord(name), np.uint8)
                writer.add(split, image, Record(name, (f"a bird called {name}",), f"{split} {name}"))
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
    assert merged.splits["train"].captions == [f"a bird called {n}" for n in "abcde"]
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
        _folder(tmp_path / "b", "bc"),
        _folder(tmp_path / "c", "d", size=128),
    )
    cases = [
        ([a, same], [], "appears twice"),
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
