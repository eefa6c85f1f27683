"""Choice of the captions of a split to generate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.painted import (
    prepare_painted,
)
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.attribute_classifier import (
    PARTS,
)
from stackgan.evaluation.caption_choice import caption_rows, full_caption_rows, spread_rows


def test_full_captions_name_the_truth(painted: Path) -> None:
    split = PreparedFolder.open(painted).splits["test"]
    rows, named = full_caption_rows(split, 100)
    captions = [split.captions[row] for row in rows]
    assert len(captions) == 100 and len(set(captions[:60])) > 50
    truth = [[record.parameters[part]["colour"] for part in PARTS] for record in split.records]  # type: ignore[index]
    assert named[:60].tolist() == truth
    many, again = full_caption_rows(split, 5000)  # more than there are: repeated from the start
    distinct = len(set(many.tolist()))
    assert (many[:100] == rows).all() and (many[distinct : distinct + 100] == rows).all()
    assert (again[distinct : distinct + 100] == named).all()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=2, seed=1, test_count=11, workers=1)
    return PreparedFolder.open(folder).splits["test"]


def test_caption_rows_take_turns_and_start_again(split: PreparedSplit) -> None:
    rows = caption_rows(split, 11 * 2)
    photo = np.searchsorted(split.offsets, rows, side="right") - 1
    assert photo.tolist() == [*range(11)] * 2 and len(set(rows.tolist())) == 22
    total = len(split.captions)
    many = caption_rows(split, total + 5)
    assert sorted(many[:total].tolist()) == list(range(total)) and (many[total:] == many[:5]).all()
    assert spread_rows(3, 10).tolist() == [0, 1, 2]
