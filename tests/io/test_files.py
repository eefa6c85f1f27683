"""Atomic writing of files and folders, for any previous content and any time of interruption."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stackgan.io.files import (
    atomic_file,
    atomic_folder,
    clear_leftovers,
    copy_folder,
    full_disk,
    replace_folder,
    write_atomic,
)
from tests.limits import largest_file


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_atomic(file, b"one")
    with atomic_file(file, ".gif") as partial:
        assert partial.parent == tmp_path and partial.name.startswith(".a.txt.partial-") and partial.suffix == ".gif"
        partial.write_bytes(b"two")
        assert file.read_bytes() == b"one"
    assert file.read_bytes() == b"two" and names(tmp_path) == ["a.txt"]


def test_an_interrupted_file_leaves_what_was_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", b"one")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a.txt") as partial:
        partial.write_bytes(b"tw")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_bytes() == b"one" and names(tmp_path) == ["a.txt"]


def fill(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{folder.name}/{name}")


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_replaced_whole(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "deep" / "f"
    if there:
        fill(target, "old", "both")
    with atomic_folder(target) as partial:
        assert partial.parent == target.parent and ".partial-" in partial.name and not any(partial.iterdir())
        fill(partial, "both", "sub/new")
        assert not there or names(target) == ["both", "old"]
    assert names(tmp_path) == ["deep", "deep/f", "deep/f/both", "deep/f/sub", "deep/f/sub/new"]


def test_merging_leaves_other_files(tmp_path: Path) -> None:
    fill(tmp_path / "f", "old", "both", "sub/old")
    with atomic_folder(tmp_path / "f", merge=True) as partial:
        fill(partial, "both", "sub/new")
    assert names(tmp_path) == ["f", "f/both", "f/old", "f/sub", "f/sub/new"]
    assert (tmp_path / "f" / "both").read_text() != "f/both"


@pytest.mark.parametrize("merge", [False, True])
def test_an_interrupted_folder_leaves_what_was_there(tmp_path: Path, merge: bool) -> None:
    fill(tmp_path / "f", "old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "f", merge=merge) as partial:
        fill(partial, "new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["f", "f/old"]


def test_a_folder_that_cannot_be_replaced_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "f", "old")
    fill(tmp_path / "g", "new")
    rename = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "g":
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        replace_folder(tmp_path / "g", tmp_path / "f")
    assert names(tmp_path) == ["f", "f/old", "g", "g/new"]


def test_a_copy_does_not_replace(tmp_path: Path) -> None:
    fill(tmp_path / "f", "a", "sub/b")
    copy_folder(tmp_path / "f", tmp_path / "new" / "g")
    assert names(tmp_path / "new" / "g") == ["a", "sub", "sub/b"]
    with pytest.raises(FileExistsError, match=r"exists, so .* is not copied there"):
        copy_folder(tmp_path / "f", tmp_path / "new" / "g")


def test_leftovers_are_cleared_and_what_is_complete_is_put_back(tmp_path: Path) -> None:
    for name in (".state.pt.partial-12", ".1.png.partial-3.png", ".other.partial-12", "state.pt", "partial-1"):
        (tmp_path / name).write_text("x")
    fill(tmp_path / "best.partial-12", "half")
    fill(tmp_path / "checkpoint.replaced-12", "whole")
    fill(tmp_path / "best.replaced-12", "old")
    fill(tmp_path / "best", "new")
    cleared = clear_leftovers(tmp_path, lambda name: name != "other")
    assert cleared == [
        ".1.png.partial-3.png", ".state.pt.partial-12",
        "best.partial-12", "best.replaced-12", "checkpoint.replaced-12",
    ]  # fmt: skip
    assert names(tmp_path) == [
        ".other.partial-12", "best", "best/new", "checkpoint", "checkpoint/whole", "partial-1", "state.pt",
    ]  # fmt: skip


def test_a_full_disk_is_recognised_in_the_errors_of_libraries(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(Exception, match="too large") as caught:
        save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    assert full_disk(caught.value) == "File too large"
    with pytest.raises(OSError) as found, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert full_disk(found.value) == "No space left on device"
    try:
        raise ValueError("no disk") from found.value
    except ValueError as error:
        assert full_disk(error) == "No space left on device"
    assert full_disk(ValueError("(os error 2)")) is None
