"""States of runs: two generations, damaged files, full disks."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stackgan.io.files import full_disk
from stackgan.io.run_state import DamagedState, has_state, load_state, newest_state, save_state
from tests.limits import largest_file


def _save(folder: Path, step: int) -> None:
    save_state(folder / "state.pt", {"step": step, "weights": torch.full((1000,), float(step))})


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def _zeros_inside(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[1024:1536] = bytes(512)
    file.write_bytes(content)


def _one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def test_a_state_is_read_back_and_the_one_before_is_kept(tmp_path: Path) -> None:
    assert newest_state(tmp_path) is None and not has_state(tmp_path)
    for step in (1, 2, 3):
        _save(tmp_path, step)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]
    assert load_state(tmp_path / "state.previous.pt")["step"] == 2
    saved = newest_state(tmp_path)
    assert saved is not None and saved.state["step"] == 3 and saved.reason == "" and saved.damaged is None
    assert torch.equal(saved.state["weights"], torch.full((1000,), 3.0))
    assert zipfile.ZipFile(tmp_path / "state.pt").comment.startswith(b"sha256:")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3


@pytest.mark.parametrize("damage", [_cut, _zeros_inside, _one_bit, _empty])
def test_of_a_damaged_newest_state_the_one_before_is_used(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    for step in (1, 2):
        _save(tmp_path, step)
    damage(tmp_path / "state.pt")
    with pytest.raises(DamagedState):
        load_state(tmp_path / "state.pt")
    saved = newest_state(tmp_path)
    assert saved is not None and saved.state["step"] == 1
    assert "state.pt: " in saved.reason and "using the one saved before it, state.previous.pt" in saved.reason
    saved.set_damaged_aside()
    _save(tmp_path, 3)  # does not move the damaged one over the readable one
    assert load_state(tmp_path / "state.previous.pt")["step"] == 1 and load_state(tmp_path / "state.pt")["step"] == 3
    assert (tmp_path / "state.damaged.pt").is_file()


def test_between_two_renames_the_state_before_is_used(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (tmp_path / "state.pt").rename(tmp_path / "state.previous.pt")
    saved = newest_state(tmp_path)
    assert has_state(tmp_path) and saved is not None and saved.state["step"] == 1 and "missing" in saved.reason


def test_two_damaged_states_are_an_error_that_names_both(tmp_path: Path) -> None:
    for step in (1, 2):
        _save(tmp_path, step)
    _cut(tmp_path / "state.pt")
    _one_bit(tmp_path / "state.previous.pt")
    with pytest.raises(ValueError, match=r"state\.pt: .*previous\.pt: damaged.* delete state\.pt and state\.p"):
        newest_state(tmp_path)


def test_states_of_earlier_versions_are_read(tmp_path: Path) -> None:
    torch.save({"step": 7}, tmp_path / "state.pt")
    saved = newest_state(tmp_path)
    assert saved is not None and saved.state == {"step": 7}


class _Touch:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"step": _Touch(tmp_path / "made")})
    with pytest.raises(ValueError, match="unreadable run state"):
        newest_state(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_what_does_not_fit_leaves_the_states(tmp_path: Path, size: int) -> None:
    for step in (1, 2):
        _save(tmp_path, step)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with largest_file(size), pytest.raises(OSError) as caught:
        _save(tmp_path, 3)
    assert full_disk(caught.value) == "File too large"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_copied_state_is_intact(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    shutil.copyfile(tmp_path / "state.pt", tmp_path / "copy.pt")
    assert load_state(tmp_path / "copy.pt")["step"] == 1
