"""Interpolation between two captions and two seeds: one image at a position between them, live, and a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from stackgan.app.blending import (
    MAX_FRAMES,
    MAX_SECONDS,
    Blend,
    BlendRequest,
    CheckedBlend,
    VideoRequest,
    blend_png,
    generate_blend,
    write_video,
)
from stackgan.app.components import CONCURRENT, GENERATION, html, html_text, opened_tab, reporting_errors
from stackgan.app.data_urls import png_url
from stackgan.app.endpoints import endpoint
from stackgan.app.gallery import EMPTY
from stackgan.app.image_request import DEFAULT_SEED
from stackgan.app.latest import Work, connect_newest
from stackgan.app.served_files import served_folder
from stackgan.app.static_files import read_static
from stackgan.config import Config
from stackgan.pipeline import StackGANPipeline

__all__ = ["available", "blend_value", "build"]

TYPES = [("GIF", ".gif"), ("WebP", ".webp"), ("MP4", ".mp4")]
BLEND_HINT = '<p class="hint">Captions, seeds and position repaint the image at once.</p>'


def available(config: Config) -> bool:
    return config.text.conditional


def build(pipe: StackGANPipeline) -> None:
    examples = [*pipe.examples[:2], "", ""]
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            first = gr.Textbox(examples[0], label="From", elem_id="walk-from", max_lines=4)
            first_seed = gr.Number(DEFAULT_SEED, label="Seed of the first image", precision=0, elem_id="walk-first")
            second = gr.Textbox(examples[1], label="To", elem_id="walk-to", max_lines=4)
            second_seed = gr.Number(
                DEFAULT_SEED + 1, label="Seed of the second image", precision=0, elem_id="walk-last"
            )
        with gr.Column():
            position = gr.Slider(
                0, 1, value=0.5, step=0.01, label="Position, from 0 (From) to 1 (To)", elem_id="walk-position"
            )
            html(BLEND_HINT)
            blend = html(EMPTY, html_template=read_static("blend.handlebars"), elem_id="walk-blend")
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            frames = gr.Slider(2, MAX_FRAMES, value=24, step=1, label="Images of the video", elem_id="walk-frames")
            seconds = gr.Slider(
                0.5,
                MAX_SECONDS,
                value=3,
                step=0.5,
                label="Seconds from first to last",
                elem_id="walk-seconds",
            )
            suffix = gr.Radio(TYPES, value=".gif", label="Type", elem_id="walk-type")
            button = gr.Button("Make the video", variant="primary", elem_id="walk")
        with gr.Column():
            video = html(EMPTY, html_template=read_static("interpolation.handlebars"), elem_id="walk-result")
    ends = [first, first_seed, second, second_seed]
    _connect_blend(pipe, [*ends, position], blend)
    _connect_video(pipe, [*ends, frames, seconds, suffix], button, video)


def _connect_blend(pipe: StackGANPipeline, inputs: list[Any], output: Any) -> None:
    shown = gr.State(None)

    def request(*values: Any) -> BlendRequest:
        *ends, position = values
        return replace(_ends(*ends), position=position)

    def on_blend(work: Work[BlendRequest], shown: CheckedBlend | None) -> Iterator[Any]:
        try:
            if work.request.checked(pipe) == shown:
                return
            for found in generate_blend(pipe, work.request):
                if not work.current:
                    return
                yield blend_value(found, pipe), gr.skip() if found.preview else found.request
        except ValueError as error:
            yield {"problem": html_text(str(error))}, None

    texts, numbers = [inputs[0], inputs[2]], [inputs[1], inputs[3], inputs[4]]
    edited = [text.change for text in texts] + [number.input for number in numbers]
    edits, shown_as = partial(gr.on, [*edited, opened_tab().select]), {"show_progress": "hidden", **GENERATION}
    connect_newest([edits], request, inputs, on_blend, [shown], [output, shown], **shown_as)


def _connect_video(pipe: StackGANPipeline, inputs: list[Any], button: Any, output: Any) -> None:
    def on_video(*values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  (as Gradio documents it)
        def report(done: int, total: int) -> None:
            progress((done, total), unit="images")

        def work() -> Any:
            *ends, frames, seconds, suffix = values
            request = VideoRequest(_ends(*ends), frames, seconds, suffix)
            with served_folder("*.png") as folder:
                video, row = write_video(pipe, request, folder, report)
            return {
                "type": next(name for name, each in TYPES if each == suffix),
                "film": suffix == ".mp4",
                "name": video.name,
                "video": gr.FileData(path=str(video)).model_dump(),
                "strip": gr.FileData(path=str(row)).model_dump(),
            }

        return reporting_errors(work, gr.skip())

    def walk(
        first_caption: str,
        first_seed: float,
        second_caption: str,
        second_seed: float,
        frames: float,
        seconds: float,
        type: str,
    ) -> tuple[str, str]:
        """Interpolate between two captions and seeds.

        Args:
            first_caption, first_seed: of the first image.
            second_caption, second_seed: of the last image.
            frames: number of images from the first to the last.
            seconds: from the first to the last; the video returns to the first, too.
            type: .gif, .webp or .mp4.

        Returns:
            The video, and a PNG of some of its images in a row.
        """
        ends = _ends(first_caption, first_seed, second_caption, second_seed)
        with served_folder("*.png") as folder:
            video, row = write_video(pipe, VideoRequest(ends, frames, seconds, type), folder)
        return str(video), str(row)

    button.click(
        on_video,
        inputs,
        output,
        api_visibility="private",
        show_progress_on=output,
        **GENERATION,
    )
    files = [gr.File(label=label, visible=False) for label in ("Video", "Images in a row")]
    endpoint("walk", walk, inputs, files, **CONCURRENT)


def _ends(first: str, first_seed: float | None, second: str, second_seed: float | None) -> BlendRequest:
    return BlendRequest((first, second), (first_seed, second_seed))


def blend_value(blend: Blend, pipe: StackGANPipeline) -> dict[str, Any]:
    """Value of the component for one image."""
    first, second = map(html_text, blend.request.captions)
    share = round(100 * blend.request.position)
    return {
        "image": png_url(blend_png(blend, pipe)),
        "name": f"{blend.request.name}.png",
        "size": blend.size,
        "preview": blend.preview,
        "label": f"{share} % of the way from {first}, seed {blend.request.seeds[0]}, to {second}, "
        f"seed {blend.request.seeds[1]}",
    }
