"""`stackgan prepare`: a kind of preparation is one module and one row of its table."""

from pathlib import Path

import pytest

from data_prep import KINDS
from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder

SQUARES = """
import numpy as np

from stackgan.data.format import Record
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side


def add_arguments(parser):
    parser.add_argument("out")
    parser.add_argument("--count", type=int, help="squares")


def prepare_squares(out, *, count=3):
    side = load_side(64)
    with PreparedWriter(out, kind="folder", size=64, crop="none", source={}) as writer:
        for i in range(count):
            writer.add("train", np.full((side, side, 3), i, np.uint8), Record(id=f"{i}", captions=("a square",)))
"""


@pytest.mark.parametrize(("options", "count"), [((), 3), (("--count", "5"), 5)])
def test_a_kind_is_one_module_and_one_row(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    count: int,
) -> None:
    (tmp_path / "squares_kind.py").write_text(SQUARES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(KINDS, "squares", ("squares_kind:prepare_squares", "squares of one colour"))
    out = tmp_path / "out"
    assert main(["prepare", "squares", str(out), *options]) == 0
    assert len(PreparedFolder.open(out).train) == count
    shown = capsys.readouterr().out
    assert f"train: {count} photos, {count} captions" in shown and "next: stackgan train --data" in shown
    with pytest.raises(SystemExit):
        main(["prepare", "squares", "--help"])
    assert "squares (default: 3)" in capsys.readouterr().out
