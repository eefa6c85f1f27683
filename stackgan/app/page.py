"""Layout of the page: heading, tabs, and information about the checkpoint."""

import re

import gradio as gr

from stackgan.app.components import html
from stackgan.app.tabs import available_tabs
from stackgan.pipeline import StackGANPipeline

__all__ = ["about", "build"]

KEEP_SECONDS = 24 * 3600  # time for which generated files can be downloaded


def build(pipe: StackGANPipeline, card: str = "") -> gr.Blocks:
    """Build the page for a pipeline, including its initial images.

    Args:
        pipe: a loaded pipeline; one that takes captions needs its text encoder.
        card: the checkpoint's model card, Markdown.

    Raises:
        ValueError: the checkpoint takes captions but has no text encoder.
    """
    if pipe.conditional and pipe.text_encoder is None:
        raise ValueError(
            "this checkpoint has no text encoder, which the app needs to encode captions: "
            "use one with a folder 'text', or use it from Python with pipe(embeddings=...)"
        )
    with gr.Blocks(
        title="Text to image" if pipe.conditional else "Image generation",
        analytics_enabled=False,
        delete_cache=(3600, KEEP_SECONDS),
    ) as page:
        html(_heading(pipe))
        tabs = available_tabs(pipe)
        if len(tabs) == 1:
            for tab in tabs.values():
                tab.build(pipe)
        else:
            with gr.Tabs(elem_id="tabs"):
                for title, tab in tabs.items():
                    with gr.Tab(title):
                        tab.build(pipe)
        with gr.Accordion("About this checkpoint", open=False, elem_id="about"):
            gr.Markdown(about(pipe, card))
    page.queue(default_concurrency_limit=1, max_size=64)
    return page


def about(pipe: StackGANPipeline, card: str) -> str:
    """The model card without front matter, HTML and images (which may be on other hosts), and the facts."""
    card = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
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
