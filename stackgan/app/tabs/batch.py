"""Images for every line of a captions file, or of pasted captions, as a ZIP with a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from stackgan.app.batches import MAX_BATCH, MAX_FILE, BatchProgress, BatchRequest, run_batch
from stackgan.app.components import QUICK, html, html_text, reporting_errors
from stackgan.app.data_urls import jpeg_url
from stackgan.app.endpoints import endpoint
from stackgan.app.gallery import EMPTY
from stackgan.app.image_request import DEFAULT_SEED
from stackgan.app.latest import Latest
from stackgan.app.served_files import served_folder
from stackgan.app.static_files import read_static
from stackgan.config import Config
from stackgan.pipeline import StackGANPipeline

__all__ = ["available", "batch_files", "build", "progress_value"]

SHEET, SHEET_SIDE = 60, 96  # images on the contact sheet, and their side in pixels
HINT = (
    '<p class="hint">A .txt file has one caption on each line; .csv and .jsonl files have <code>caption</code>, and '
    "perhaps <code>seed</code> and <code>count</code>; the manifest of a batch is read, too. Up to "
    f"{MAX_BATCH:,} images and {MAX_FILE // 2**20} MB here; <code>stackgan batch</code> on the command line has no "
    "limit and makes the same images.</p>"
)
BATCH: dict[str, Any] = {"concurrency_id": "batch", "concurrency_limit": 1}  # beside the other tabs' images


def available(config: Config) -> bool:
    return config.text.conditional


def build(pipe: StackGANPipeline) -> None:
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            text = gr.Textbox(label="Captions, one on each line", lines=6, max_lines=12, elem_id="batch-captions")
            file = gr.File(
                label="Or a captions file (.txt, .csv, .jsonl)",
                file_types=[".txt", ".csv", ".jsonl"],
                height=140,
                elem_id="batch-file",
            )
            html(HINT)
            with gr.Row():
                count = gr.Number(1, label="Images per caption", precision=0, min_width=120, elem_id="batch-count")
                seed = gr.Number(DEFAULT_SEED, label="Seed", precision=0, min_width=120, elem_id="batch-seed")
            truncation = gr.Slider(
                0, 1.5, value=pipe.truncation, step=0.05, label="Variety (truncation)", elem_id="batch-truncation"
            )
            size = gr.Dropdown(
                [(f"{size} px", size) for size in pipe.sizes],
                value=pipe.sizes[-1],
                label="Size",
                visible=len(pipe.sizes) > 1,
                elem_id="batch-size",
            )
            with gr.Row():
                start = gr.Button("Generate all", variant="primary", min_width=120, elem_id="batch")
                cancel = gr.Button("Cancel", interactive=False, min_width=120, elem_id="batch-cancel")
        with gr.Column():
            output = html(EMPTY, html_template=read_static("batch.handlebars"), elem_id="batch-result")
    latest = gr.State(Latest())
    inputs = [file, text, count, seed, truncation, size]

    def on_start(latest: Latest[BatchRequest], file: str | None, text: str, *settings: Any) -> Any:
        latest.ask(BatchRequest(Path(file) if file else None, text, *settings))
        return gr.update(interactive=False), gr.update(interactive=True), EMPTY

    def on_run(latest: Latest[BatchRequest]) -> Iterator[Any]:
        yield gr.skip()  # Gradio takes a generator without values for one that failed
        work = latest.take()
        if work is None:  # cancelled while it waited
            return
        sheet: list[dict[str, str]] = []
        with _batch_folder() as folder:
            reports = run_batch(pipe, work.request, folder, stop=lambda: not work.current)
            while (report := reporting_errors(lambda: next(reports, None), None)) is not None:
                sheet = [*sheet, *_thumbnails(report)][-SHEET:]
                yield progress_value(report, sheet)

    def on_end() -> Any:
        return gr.update(interactive=True), gr.update(value="Cancel", interactive=False)

    def on_cancel(latest: Latest[BatchRequest]) -> Any:
        latest.cancel()
        return gr.update(value="Cancelling …", interactive=False)

    def on_request(
        captions_file: str | None, captions: str, count: float, seed: float, truncation: float, size: int
    ) -> list[str]:
        """Generate images of every caption of a file or a text.

        Args:
            captions_file: .txt with one caption on each line, .csv or .jsonl; instead of captions.
            captions: one on each line.
            count: images per caption.
            seed: from which the seeds of all images are drawn, unless the file has them.
            truncation: variety, from 0 to 2.
            size: side in pixels, one of the checkpoint's stages.

        Returns:
            A ZIP of the images, the manifest, and a file of the lines that are not valid, if there are any.
        """
        request = BatchRequest(
            Path(captions_file) if captions_file else None, captions, count, seed, truncation, size
        )
        return batch_files(pipe, request)

    asked = start.click(on_start, [latest, *inputs], [start, cancel, output], **QUICK)
    shown: dict[str, Any] = {"api_visibility": "private", "trigger_mode": "always_last", "show_progress": "minimal"}
    run = asked.then(on_run, latest, output, **shown, **BATCH)
    run.then(on_end, None, [start, cancel], **QUICK)
    cancel.click(on_cancel, latest, cancel, **QUICK)
    endpoint("batch", on_request, inputs, [gr.File(visible=False, file_count="multiple")], **BATCH)


def batch_files(pipe: StackGANPipeline, request: BatchRequest) -> list[str]:
    """Generate a batch among the files that Gradio serves; the ZIP, the manifest, and the rejected lines, if any.

    Raises:
        ValueError: see :func:`~stackgan.app.batches.run_batch`.
    """
    with _batch_folder() as folder:
        *_, last = run_batch(pipe, request, folder)
        return [str(file) for file in (last.archive, last.manifest, last.rejects) if file is not None]


@contextmanager
def _batch_folder() -> Iterator[Path]:
    """A folder for the files of a batch; its images are removed at the end, as the ZIP has them."""
    with served_folder("*.zip") as folder:
        try:
            yield folder
        finally:
            for image in (folder / "batch").glob("*.png"):
                image.unlink()


def progress_value(report: BatchProgress, sheet: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Value of the component for a report; ``sheet`` are the newest images."""
    value: dict[str, Any] = {
        "title": f"{report.done:,} of {report.total:,} images",
        "detail": _remaining(report),
        "total": report.total,
        "done": report.done,
        "finished": report.finished,
        "images": list(sheet),
        "more": f"The newest {len(sheet)} of {report.done:,} images." if report.done > len(sheet) else "",
    }
    if report.finished:
        value |= _result_value(report)
    return value


def _remaining(report: BatchProgress) -> str:
    if not report.done:
        return "Starting"
    return f"About {_time(report.seconds / report.done * (report.total - report.done))} left"


def _result_value(report: BatchProgress) -> dict[str, Any]:
    made = "1 image" if report.done == 1 else f"{report.done:,} images"
    blank = f"; skipped as blank or a comment: {report.blank:,}" if report.blank else ""
    ends = f"Cancelled: {report.done:,} of {report.total:,} images" if report.stopped else made
    lines = "1 line is" if report.rejected == 1 else f"{report.rejected:,} lines are"
    shown = len(report.first_rejected)
    tables = [file for file in (report.manifest, report.rejects) if file is not None]
    warnings = len(report.warnings)
    return {
        "title": f"{ends} in {_time(report.seconds)}",
        "detail": f"The ZIP has them all, with a manifest{blank}.",
        "archive": _file(report.archive) if report.archive is not None else None,
        "files": [_file(file) for file in tables],
        "rejected": [
            {"number": str(line.number), "reason": html_text(line.reason)} for line in report.first_rejected
        ],
        "rejected_title": f"{lines} not valid" + (f"; the first {shown}:" if shown < report.rejected else ":"),
        "warnings": [html_text(warning) for warning in report.warnings],
        "warnings_title": "1 warning" if warnings == 1 else f"{warnings} warnings",
    }


def _file(file: Path) -> dict[str, Any]:
    return {"name": file.name, "file": gr.FileData(path=str(file)).model_dump()}


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _thumbnails(report: BatchProgress) -> list[dict[str, str]]:
    """Those of the newest images, in their order."""
    found = []
    for record in report.new[-SHEET:]:
        with Image.open(report.folder / record["file"]) as image:
            url = jpeg_url(image, SHEET_SIDE)
        found.append({"url": url, "label": html_text(f"{record['caption']}, seed {record['seed']}")})
    return found
