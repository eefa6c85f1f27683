"""A grid of captions × seeds × truncation (an X/Y plot) that is painted again as one edits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from stackgan.app.components import CONCURRENT, html, html_text, opened_tab, reporting_errors
from stackgan.app.data_urls import jpeg_url
from stackgan.app.endpoints import endpoint
from stackgan.app.gallery import EMPTY
from stackgan.app.image_grid import AXES, MAX_CELLS, CheckedGrid, GridRequest, generate_grid, grid_png
from stackgan.app.latest import Work, connect_newest
from stackgan.app.painting import OutOfDate
from stackgan.app.served_files import served_folder
from stackgan.app.static_files import read_static
from stackgan.config import Config
from stackgan.generation.image_settings import link_query
from stackgan.pipeline import StackGANPipeline

__all__ = ["available", "build"]

SEEDS = "1-4"
HINT = (
    '<p class="hint">Every change repaints the grid. What is neither across nor down has its first value everywhere. '
    f"Up to {MAX_CELLS} images.</p>"
)
GRID: dict[str, Any] = {"concurrency_id": "grid", "concurrency_limit": 1}  # beside the other tabs' images


def available(config: Config) -> bool:
    return config.text.conditional


def build(pipe: StackGANPipeline) -> None:
    variety = ", ".join(f"{value:g}" for value in dict.fromkeys((0.5, pipe.truncation)))
    with gr.Row(elem_id="grid-controls", equal_height=False):
        with gr.Column(scale=2):
            captions = gr.Textbox(
                "\n".join(pipe.examples[:3]),
                label="Captions, one on each line",
                lines=4,
                max_lines=10,
                elem_id="grid-captions",
            )
        with gr.Column(scale=1):
            seeds = gr.Textbox(SEEDS, label="Seeds", max_lines=1, elem_id="grid-seeds")
            truncations = gr.Textbox(variety, label="Variety (truncation)", max_lines=1, elem_id="grid-variety")
        with gr.Column(scale=1):
            across = gr.Dropdown(list(AXES), value=AXES[1], label="Across (X)", filterable=False, elem_id="grid-x")
            down = gr.Dropdown(list(AXES), value=AXES[0], label="Down (Y)", filterable=False, elem_id="grid-y")
    html(HINT)
    output = html(
        EMPTY,
        html_template=read_static("grid.handlebars"),
        js_on_load=read_static("grid.js"),
        elem_id="grid-result",
    )
    _connect(pipe, [captions, seeds, truncations, across, down], output)


def _connect(pipe: StackGANPipeline, inputs: list[Any], output: Any) -> None:
    shown = gr.State(None)

    def on_grid(work: Work[GridRequest], shown: CheckedGrid | None) -> Iterator[Any]:
        try:
            grid = work.request.checked()
            if grid == shown:
                return
            for value in _painted(pipe, grid, lambda: work.current):
                yield value, grid if value["finished"] else None
        except OutOfDate:
            return
        except ValueError as error:
            yield {"problem": html_text(str(error))}, None

    def on_save(shown: CheckedGrid | None) -> Any:
        def work() -> Any:
            if shown is None:
                raise ValueError("Wait until the grid is complete.")
            return _download(_grid_file(pipe, shown))

        return reporting_errors(work, None)

    def grid(captions: str, seeds: str, truncation: str, across: str, down: str) -> str:
        """Generate a grid of images with labels, as one PNG.

        Args:
            captions: one on each line.
            seeds: such as 1-4 or 1, 5, 9.
            truncation: variety, such as 0.5, 0.8, 1.
            across: Captions, Seeds or Variety along the rows; the third has its first value everywhere.
            down: another of them along the columns.
        """
        return _grid_file(pipe, GridRequest(captions, seeds, truncation, across, down).checked())

    edited = [text.change for text in inputs[:3]] + [axis.input for axis in inputs[3:]]
    edits = partial(gr.on, [*edited, opened_tab().select])
    connect_newest([edits], GridRequest, inputs, on_grid, [shown], [output, shown], show_progress="hidden", **GRID)
    file = html(None, html_template=read_static("download.handlebars"), elem_id="grid-file")
    saved = output.save(on_save, shown, file, api_visibility="private", show_progress_on=output, **GRID)
    saved.success(None, js=read_static("save_grid.js"))
    endpoint("grid", grid, inputs, [gr.File(label="Grid", visible=False)], **CONCURRENT)


def _painted(pipe: StackGANPipeline, grid: CheckedGrid, current: Any) -> Iterator[dict[str, Any]]:
    """Values of the component after each row."""
    cells: list[list[str]] = [[""] * len(grid.columns) for _ in grid.rows]
    yield _grid_value(pipe, grid, cells, finished=False)
    for row in generate_grid(pipe, grid, current):
        cells[row.number] = [jpeg_url(image) for image in row.images]
        last = row.number == len(grid.rows) - 1 and row.size == pipe.sizes[-1]
        yield _grid_value(pipe, grid, cells, finished=last)


def _grid_value(
    pipe: StackGANPipeline, grid: CheckedGrid, cells: Sequence[Sequence[str]], finished: bool
) -> dict[str, Any]:
    rows = []
    for number, label in enumerate(grid.rows):
        row = []
        for column, url in enumerate(cells[number]):
            cell = grid.settings(number, column, pipe)
            text = f"{cell.caption}, seed {cell.seed}, variety {cell.truncation:g}"
            row.append({"url": url, "text": text, "label": html_text(text), "query": link_query(cell)})
        rows.append({"label": html_text(label), "cells": row})
    images = "1 image" if grid.cells == 1 else f"{grid.cells} images"
    return {
        "title": images,
        "detail": html_text(grid.title),
        "columns": [html_text(label) for label in grid.columns],
        "rows": rows,
        "size": pipe.sizes[-1],
        "finished": finished,
    }


def _download(file: str) -> dict[str, Any]:
    return {"name": Path(file).name, "file": gr.FileData(path=file).model_dump()}


def _grid_file(pipe: StackGANPipeline, grid: CheckedGrid) -> str:
    with served_folder("*.png") as folder:
        file = folder / f"grid_{len(grid.columns)}x{len(grid.rows)}.png"
        file.write_bytes(grid_png(pipe, grid))
    return str(file)
