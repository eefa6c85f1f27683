"""Layout of the page: heading, tabs, and information about the checkpoint."""

import re
from collections.abc import Mapping
from pathlib import Path

import gradio as gr

from stackgan.app import api
from stackgan.app.components import html
from stackgan.app.pipelines import Pipelines
from stackgan.app.tabs import TABS, caption
from stackgan.pipeline import StackGANPipeline

__all__ = ["Page", "about", "build", "tab_pipelines"]

WAITING = 200  # requests that may wait; further ones are refused in words
KEEP_SECONDS = 24 * 3600  # time for which generated files can be downloaded


class Page(gr.Blocks):
    """The page, and the pipelines that it generates with."""

    def __init__(self, pipes: Pipelines) -> None:
        super().__init__(
            title="Text to image" if pipes.first.conditional else "Image generation",
            analytics_enabled=False,
            delete_cache=(3600, KEEP_SECONDS),
        )
        self.pipes = pipes


def build(pipe: StackGANPipeline, others: Mapping[str, Path] | None = None, device: str | None = None) -> Page:
    """Build the page for a pipeline, including its initial images.

    Args:
        pipe: a loaded pipeline; one that takes captions needs its text encoder.
        others: folders of further checkpoints by name, which can be chosen on the page.
        device: of the others.

    Raises:
        ValueError: the checkpoint takes captions but has no text encoder.
    """
    if pipe.conditional and pipe.text_encoder is None:
        raise ValueError(
            "this checkpoint has no text encoder, which the app needs to encode captions: "
            "use one with a folder 'text', or use it from Python with pipe(embeddings=...)"
        )
    pipes = Pipelines(pipe, others, device)
    with Page(pipes) as page:
        heading = html(_heading(pipe))
        tabs = tab_pipelines(pipes)
        if not tabs:
            checkpoint = caption.build(pipes)
        else:
            with gr.Tabs(elem_id="tabs"):
                with gr.Tab("Generate"):
                    checkpoint = caption.build(pipes)
                for title, name in tabs.items():
                    with gr.Tab(title):
                        if name != pipes.names[0]:
                            html(f'<p class="hint">With the checkpoint {name}: {pipes.names[0]} cannot do this.</p>')
                        TABS[title].build(pipes[name])
        api.add_paint(pipes)
        with gr.Accordion("About this checkpoint", open=False, elem_id="about"):
            text = gr.Markdown(about(pipe))
        if len(pipes.names) > 1:
            checkpoint.change(
                lambda name: (_heading(pipes[name]), about(pipes[name])),
                checkpoint,
                [heading, text],
                api_visibility="private",
                show_progress="hidden",
            )
    page.queue(default_concurrency_limit=1, max_size=WAITING)
    return page


def tab_pipelines(pipes: Pipelines) -> dict[str, str]:
    """Titles of the further tabs, each with the name of the first pipeline that it is available for."""
    names = {title: pipes.having(tab.available) for title, tab in TABS.items()}
    return {title: name for title, name in names.items() if name is not None}


def about(pipe: StackGANPipeline) -> str:
    """The model card without front matter, HTML and images (which may be on other hosts), and the facts."""
    card = re.sub(r"\A---\n.*?\n---\n", "", pipe.card, flags=re.DOTALL)
    card = re.sub(r"!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])?", "", card)
    card = re.sub(r"<[a-zA-Z/!][^>]*>", "", card).strip()
    encoder = f"`{pipe.text_encoder.identity}`" if pipe.text_encoder is not None else "none"
    return (
        f"{card or 'This checkpoint has no model card.'}\n\n---\n\n"
        f"Stages: {', '.join(f'{size} px' for size in pipe.sizes)} · preset: `{pipe.config.preset}` · "
        f"text encoder: {encoder}\n\nFingerprint (sha256): `{pipe.fingerprint}`"
    )


def _heading(pipe: StackGANPipeline) -> str:
    title = "Text to image" if pipe.conditional else "Image generation"
    what = "Describe an image to generate it." if pipe.conditional else "Every seed gives another image."
    sizes = " → ".join(str(size) for size in pipe.sizes)
    facts = f"StackGAN++, {sizes} pixels, running on this machine."
    return f'<div class="heading"><h1>{title}</h1><p>{what} <span>{facts}</span></p></div>'
