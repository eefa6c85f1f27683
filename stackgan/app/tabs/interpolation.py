"""Interpolation between two captions and two seeds, as an animated GIF and as a row of images."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from stackgan.app.components import GENERATION, html, reporting_errors
from stackgan.app.gallery import EMPTY
from stackgan.app.image_request import DEFAULT_SEED
from stackgan.app.painting import interpolate
from stackgan.app.static_files import read_static
from stackgan.config import Config
from stackgan.images import png
from stackgan.images.video import save_video, strip
from stackgan.pipeline import StackGANPipeline

__all__ = ["available", "build", "interpolation_files"]

MAX_FRAMES = 48


def available(config: Config) -> bool:
    return config.text.conditional


def build(pipe: StackGANPipeline) -> None:
    examples = [*pipe.examples[:2], "", ""]
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            start = gr.Textbox(examples[0], label="From", elem_id="walk-from", max_lines=4)
            first = gr.Number(DEFAULT_SEED, label="Seed", precision=0, elem_id="walk-first")
            end = gr.Textbox(examples[1], label="To", elem_id="walk-to", max_lines=4)
            last = gr.Number(DEFAULT_SEED, label="Seed", precision=0, elem_id="walk-last")
            frames = gr.Slider(2, MAX_FRAMES, value=24, step=1, label="Images", elem_id="walk-frames")
            button = gr.Button("Interpolate", variant="primary", elem_id="walk")
        with gr.Column():
            output = html(EMPTY, html_template=read_static("interpolation.handlebars"), elem_id="walk-result")

    def on_interpolate(start: str, first: float | None, end: str, last: float | None, frames: float) -> Any:
        def work() -> Any:
            animation, row = interpolation_files(pipe, (start, end), (first, last), int(frames))
            return {
                "animation": gr.FileData(path=animation).model_dump(),
                "strip": gr.FileData(path=row).model_dump(),
            }

        return reporting_errors(work, gr.skip())

    gr.on(
        [button.click, end.submit],
        on_interpolate,
        [start, first, end, last, frames],
        output,
        api_name="walk",
        show_progress_on=output,
        **GENERATION,
    )


def interpolation_files(
    pipe: StackGANPipeline,
    captions: tuple[str, str],
    seeds: tuple[float | None, float | None],
    frames: int,
) -> tuple[str, str]:
    """Create the GIF and the PNG of an interpolation among the files that Gradio serves; returns their paths.

    Raises:
        ValueError: a caption or a seed is missing; the message can be shown on the page.
    """
    images = interpolate(pipe, captions, seeds, frames)
    with tempfile.TemporaryDirectory() as folder:
        animation = Path(folder) / "walk.gif"
        save_video(images, animation)
        served = get_upload_folder()
        return (
            save_bytes_to_cache(animation.read_bytes(), "walk.gif", served),
            save_bytes_to_cache(png.png_bytes(strip(images), {}), "walk.png", served),
        )
