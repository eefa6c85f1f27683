"""Grids of captions × seeds × truncation."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stackgan.app.image_grid import AXES, GridRequest, generate_grid, grid_png
from stackgan.app.painting import OutOfDate
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS

GRID = GridRequest(f"{CAPTIONS[0]}\n\n {CAPTIONS[1]} \n", "1-2, 9", "0.5, 1")


def test_every_cell_is_what_the_pipeline_generates(pipe: StackGANPipeline) -> None:
    grid = GRID.checked()
    assert (grid.rows, grid.columns) == (list(CAPTIONS[:2]), ["seed 1", "seed 2", "seed 9"])
    assert grid.title == "Captions down, seeds across; variety 0.5"
    rows = list(generate_grid(pipe, grid))
    assert [(row.size, row.number) for row in rows] == [(64, 0), (64, 1), (128, 0), (128, 1)]
    expected = pipe(CAPTIONS[1], seeds=9, truncation=0.5).stages
    for row, stage in zip((rows[1], rows[3]), expected, strict=True):
        assert np.array_equal(np.asarray(row.images[2]), np.asarray(stage[0]))


@pytest.mark.parametrize("x", AXES)
@pytest.mark.parametrize("y", AXES)
def test_any_two_go_along_the_axes(x: str, y: str) -> None:
    asked = replace(GRID, x=x, y=y)
    if x == y:
        with pytest.raises(ValueError, match="go both across and down"):
            asked.checked()
        return
    grid = asked.checked()
    counts = {"Captions": 2, "Seeds": 3, "Variety": 2}
    assert (len(grid.columns), len(grid.rows)) == (counts[x], counts[y])
    cells = {grid.values(row, column) for row in range(len(grid.rows)) for column in range(len(grid.columns))}
    assert len(cells) == grid.cells == counts[x] * counts[y]


def test_a_newer_request_stops_it(able: StackGANPipeline) -> None:
    answers = iter([True, True, True, True, False])
    rows = generate_grid(able, GRID.checked(), lambda: next(answers))
    assert len(next(rows).images) == 3
    with pytest.raises(OutOfDate):
        next(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": " \n"}, "Write captions first, one on each line"),
        ({"seeds": "1-"}, r"The seeds are '1-': seeds are integers from 0, such as 0-7 or 1,5,9\."),
        ({"seeds": "1-100"}, "more than 64 seeds"),
        ({"seeds": str(2**60)}, "the largest is"),
        ({"truncations": "0,5; 1"}, "write numbers from 0 to 2, such as"),
        ({"truncations": "3"}, "The variety is 3.0: it must be from 0 to 2"),
        ({"seeds": "1-33"}, "The grid has 33 × 2 = 66 images, and 64 are the most: take away some of the seeds"),
        ({"x": "Size"}, "'Size' cannot go across: choose Captions, Seeds or Variety"),
    ],
)
def test_what_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GRID, **change).checked()


def test_the_whole_grid_as_one_png(able: StackGANPipeline) -> None:
    with Image.open(io.BytesIO(grid_png(able, GRID.checked()))) as sheet:
        assert sheet.width > 3 * 64 and sheet.height > 2 * 64
        assert sheet.text["seeds"] == "1, 2, 9" and sheet.text["captions"] == "\n".join(CAPTIONS[:2])
