"""The table of data set kinds: its rows resolve, and a new row is sufficient for reading and writing."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import data_prep
from data_prep import cub, folder, painted
from data_prep.merge import prepare_merged
from stackgan.config import PRESETS
from stackgan.data.format import Record
from stackgan.data.kinds import KINDS, DataKind
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side


@pytest.mark.parametrize("name", KINDS)
def test_a_row_names_what_exists(name: str) -> None:
    module, _, function = KINDS[name].prepare.partition(":")
    assert callable(getattr(import_module(module), function)) and name == import_module(module).KIND
    assert KINDS[name].preset in PRESETS and KINDS[name].summary and KINDS[name].title


def test_commands_are_the_kinds_and_two_that_write_folders_of_these_kinds() -> None:
    assert list(data_prep.KINDS) == [*KINDS, "datasets", "merge"]
    assert {name: data_prep.KINDS[name][0] for name in KINDS} == {name: kind.prepare for name, kind in KINDS.items()}
    assert {cub.KIND, folder.KIND, painted.KIND} <= set(KINDS)


def _write(out: Path, kind: str, ids: str) -> Path:
    side = load_side(64)
    with PreparedWriter(out, kind=kind, size=64, crop="none", source={}) as writer:
        for identifier in ids:
            image = np.zeros((side, side, 3), np.uint8)
            writer.add("train", image, Record(identifier, ("a red boat",), species="boat"))
            writer.add("test", image, Record(identifier * 2, ("a blue boat",), species="boat"))
    return out


def test_a_kind_is_one_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing, reading and merging use only the row of a kind."""
    with pytest.raises(ValueError, match="kind: 'boats' is not one of cub, folder, painted"):
        _write(tmp_path / "boats", "boats", "a")
    row = DataKind("data_prep.boats:prepare_boats", "boats", "drawn boats", drawn=True, examples=("a red boat",))
    monkeypatch.setitem(KINDS, "boats", row)
    boats = _write(tmp_path / "boats", "boats", "ab")  # one species in both splits, as for drawn images
    assert PreparedFolder.open(boats).kind == "boats" and len(PreparedFolder.open(boats).train) == 2
    with pytest.raises(ValueError, match="drawn boats have their own kind of test split"):
        prepare_merged([boats], tmp_path / "both")
    monkeypatch.setitem(KINDS, "boats", DataKind(row.prepare, "boats", "boats", examples=("a red boat",)))
    side = load_side(64)
    with PreparedWriter(tmp_path / "own", kind="folder", size=64, crop="none", source={}) as writer:
        writer.add("train", np.zeros((side, side, 3), np.uint8), Record("c", ("mine",)))
    merged = prepare_merged([tmp_path / "own", boats], tmp_path / "both")
    assert merged.kind == "boats"  # a kind with example captions, whose own captions are not published
