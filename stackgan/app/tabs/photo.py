"""A photo and two captions to its reconstruction and its edit, for checkpoints with a posterior q(z | x, c)."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from stackgan.app.components import GENERATION, reporting_errors
from stackgan.app.gallery import EMPTY, gallery, gallery_value
from stackgan.app.painting import edit_photo
from stackgan.generation.edit import open_photo
from stackgan.pipeline import StackGANPipeline

__all__ = ["EXAMPLE_PHOTOS", "available", "build", "example_photos"]

EXAMPLE_PHOTOS, EXAMPLE_PHOTO_SEED = 3, 7  # drawn for visitors who have no photo at hand


def available(pipe: StackGANPipeline) -> bool:
    return pipe.model.posterior is not None and pipe.conditional


def build(pipe: StackGANPipeline) -> None:
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            photo = gr.Image(
                label="Photo", type="filepath", sources=["upload", "clipboard"], height=260, elem_id="photo"
            )
            old = gr.Textbox(label="What it shows", elem_id="photo-caption", max_lines=4)
            new = gr.Textbox(label="What it is to show (may stay empty)", elem_id="photo-new", max_lines=4)
            button = gr.Button("Paint it", variant="primary", elem_id="photo-paint")
        with gr.Column():
            output = gallery(EMPTY, "photo-gallery")
    with tempfile.TemporaryDirectory() as folder:  # Gradio makes copies
        examples = example_photos(pipe, Path(folder))
        if examples:
            gr.Examples(examples, [photo, old, new], label="Or try one of these", elem_id="photo-examples")

    def on_edit(photo: str | None, old: str, new: str) -> Any:
        def work() -> Any:
            result = edit_photo(pipe, open_photo(Path(photo)) if photo else None, old, new)
            title = "As the model sees it, and with your words" if new.strip() else "As the model sees it"
            return gallery_value(result, title, "The middle square of the photo; place is kept, pose most often.")

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
    """Files of drawn birds, each with its caption and one in which a colour differs.

    None for a checkpoint that was trained on other images than drawn birds.
    """
    from data_prep.painted import KIND, caption_colours, draw, paint_bird, recoloured

    if pipe.facts.data is None or pipe.facts.data.kind != KIND:
        return []
    found: list[list[str]] = []
    number = 0
    while len(found) < EXAMPLE_PHOTOS:
        bird, captions = paint_bird(EXAMPLE_PHOTO_SEED, "test", number)
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
