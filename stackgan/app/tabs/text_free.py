"""Text-free sampling, for checkpoints with a flow p(c) over conditioning codes."""

from typing import Any

import gradio as gr

from stackgan.app.components import CONCURRENT, reporting_errors
from stackgan.app.gallery import EMPTY, gallery, result_value
from stackgan.app.image_request import DEFAULT_SEED, MAX_COUNT
from stackgan.app.painting import generate_without_caption
from stackgan.config import Config
from stackgan.latent.priors import CODE_PRIORS
from stackgan.pipeline import StackGANPipeline

__all__ = ["available", "build"]


def available(config: Config) -> bool:
    return config.text.conditional and CODE_PRIORS[config.latent.c].learned


def build(pipe: StackGANPipeline) -> None:
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            count = gr.Slider(1, MAX_COUNT, value=8, step=1, label="Images", elem_id="free-count")
            seed = gr.Number(DEFAULT_SEED, label="First seed", precision=0, elem_id="free-seed")
            truncation = gr.Slider(
                0, 1.5, value=pipe.truncation, step=0.05, label="Variety", elem_id="free-truncation"
            )
            button = gr.Button("Generate", variant="primary", elem_id="free-paint")
        with gr.Column():
            output = gallery(EMPTY, "free-gallery")

    def on_sample(count: float, seed: float | None, truncation: float) -> Any:
        def work() -> Any:
            return result_value(generate_without_caption(pipe, count, seed, truncation))

        return reporting_errors(work, gr.skip())

    gr.on(
        [button.click],
        on_sample,
        [count, seed, truncation],
        output,
        api_name="sample",
        show_progress_on=output,
        **CONCURRENT,
    )
