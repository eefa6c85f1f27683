"""Reconstruction and editing of a photo by captions, for checkpoints with a posterior q(z | x, c)."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from stackgan.app.components import GENERATION, html, reporting_errors
from stackgan.app.gallery import EMPTY, gallery, gallery_value
from stackgan.app.painting import edit_photo
from stackgan.app.static_files import read_static
from stackgan.config import Config
from stackgan.generation.edit import open_photo
from stackgan.model import has_posterior
from stackgan.pipeline import StackGANPipeline

__all__ = ["EXAMPLE_PHOTOS", "available", "build", "example_photos", "photo_input"]

EXAMPLE_PHOTOS, EXAMPLE_PHOTO_SEED = 3, 7  # drawn birds as example photos


def photo_input(label: str, name: str) -> gr.Image:
    """A component whose value is the path of the file as it was sent, or None; ``gr.Image`` would decode the file.

    Not a subclass: Gradio writes a file of type hints beside the module of each.
    """

    def path(payload: ImageData | None) -> str | None:
        return payload.path if payload is not None else None

    photo = gr.Image(label=label, type="filepath", sources=["upload", "clipboard"], height=260, elem_id=name)
    photo.preprocess = path  # type: ignore[method-assign]
    return photo


def available(config: Config) -> bool:
    return has_posterior(config) and config.text.conditional


def build(pipe: StackGANPipeline) -> None:
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            photo = photo_input("Photo", "photo")
            old = gr.Textbox(label="Caption of the photo", elem_id="photo-caption", max_lines=4)
            new = gr.Textbox(label="New caption (optional)", elem_id="photo-new", max_lines=4)
            button = gr.Button("Generate", variant="primary", elem_id="photo-paint")
        with gr.Column():
            output = gallery(EMPTY, "photo-gallery")
    with tempfile.TemporaryDirectory() as folder:  # Gradio copies the files
        examples = example_photos(pipe, Path(folder))
        if examples:
            gr.Examples(examples, [photo, old, new], label="Or try one of these", elem_id="photo-examples")
            html("", js_on_load=read_static("row_alts.js"))

    def on_edit(photo: str | None, old: str, new: str) -> Any:
        def work() -> Any:
            result = edit_photo(pipe, open_photo(Path(photo)) if photo else None, old, new)
            title = "Reconstruction, and edited image" if new.strip() else "Reconstruction"
            return gallery_value(
                result,
                title,
                "From the central square of the photo. An edit keeps the position, and usually the pose.",
            )

        return reporting_errors(work, gr.skip())

    gr.on(
        [button.click, new.submit],
        on_edit,
        [photo, old, new],
        output,
        api_name="edit",
        show_progress_on=output,
        **GENERATION,
    )


def example_photos(pipe: StackGANPipeline, folder: Path) -> list[list[str]]:
    """Write files of drawn birds; returns for each its path, its caption, and one with another colour.

    Empty for checkpoints trained on other data.
    """
    from data_prep.painted import KIND, bird_with_captions, caption_colours, draw, recoloured

    if pipe.facts.data is None or pipe.facts.data.kind != KIND:
        return []
    found: list[list[str]] = []
    number = 0
    while len(found) < EXAMPLE_PHOTOS:
        bird, captions = bird_with_captions(EXAMPLE_PHOTO_SEED, "test", number)
        part, colour = (("wing", "yellow"), ("crown", "red"), ("breast", "white"))[number % 3]
        complete = [line for line in captions if len(caption_colours(line)) == 3]  # crown, breast and wing
        changed = [(line, recoloured(line, part, colour)) for line in complete]
        number += 1
        for line, new in changed:
            if new is not None:
                file = folder / f"bird-{number}.png"
                Image.fromarray(draw(bird, 304)).save(file)
                found.append([str(file), line, new])
                break
    return found
