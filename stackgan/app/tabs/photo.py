"""Reconstruction and editing of a photo by captions, for checkpoints with a posterior q(z | x, c)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from stackgan.app.components import CONCURRENT, GENERATION, html, html_text
from stackgan.app.data_urls import png_url
from stackgan.app.endpoints import endpoint
from stackgan.app.gallery import EMPTY
from stackgan.app.latest import Work, connect_newest
from stackgan.app.painting import GenerationResult, edit_photo, png_bytes
from stackgan.app.served_files import served_folder
from stackgan.app.static_files import read_static
from stackgan.config import Config
from stackgan.generation.edit import open_photo
from stackgan.images import png
from stackgan.images.pixels import to_pil, to_tensor
from stackgan.model import has_posterior
from stackgan.pipeline import StackGANPipeline

__all__ = ["EXAMPLE_PHOTOS", "available", "build", "example_photos", "photo_input"]

EXAMPLE_PHOTOS, EXAMPLE_PHOTO_SEED = 3, 7  # drawn birds as example photos
NAMES = ("Reconstruction", "With other words")
HINT = (
    '<p class="hint">From the central square of the photo. Other words keep the position, and usually the pose. '
    "Drag over an image, or use the arrow keys, to compare it with the photo.</p>"
)


@dataclass(frozen=True)
class _Inputs:
    photo: str | None
    caption: str
    new_caption: str


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
            new = gr.Textbox(label="Other words (optional)", elem_id="photo-new", max_lines=4)
        with gr.Column():
            output = html(
                EMPTY,
                html_template=read_static("compare.handlebars"),
                js_on_load=read_static("compare.js"),
                elem_id="photo-result",
            )
            html(HINT)
    with tempfile.TemporaryDirectory() as folder:  # Gradio copies the files
        examples = example_photos(pipe, Path(folder))
        if examples:
            gr.Examples(examples, [photo, old, new], label="Or try one of these", elem_id="photo-examples")
            html("", js_on_load=read_static("row_alts.js"))
    _connect(pipe, [photo, old, new], output)


def _connect(pipe: StackGANPipeline, inputs: list[Any], output: Any) -> None:
    def on_edit(work: Work[_Inputs]) -> Iterator[Any]:
        asked = work.request
        if asked.photo is None:
            yield EMPTY
            return
        try:
            yield _value(_opened(asked.photo), _edited(pipe, asked), pipe)
        except ValueError as error:
            yield {"problem": html_text(str(error))}

    def edit(photo: str, caption: str, new_caption: str) -> list[str]:
        """Reconstruct a photo, and generate it with other words.

        Args:
            photo: an image; its central square is used.
            caption: of the photo, needed to encode its style.
            new_caption: of the edited image; none for the reconstruction only.

        Returns:
            PNG files: the reconstruction, and the edited image if there are other words.
        """
        result = _edited(pipe, _Inputs(photo, caption, new_caption))
        with served_folder("*.png") as folder:
            for number, content in enumerate(_pngs(result)):
                (folder / f"{number}_{_file_name(NAMES[number])}").write_bytes(content)
        return [str(file) for file in sorted(folder.iterdir())]

    edits, shown = partial(gr.on, [each.change for each in inputs]), {"show_progress": "minimal", **GENERATION}
    connect_newest([edits], _Inputs, inputs, on_edit, [], [output], show_progress_on=output, **shown)
    endpoint("edit", edit, inputs, [gr.File(label="Images", file_count="multiple", visible=False)], **CONCURRENT)


def _opened(photo: str) -> Image.Image:
    try:
        return open_photo(Path(photo))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(str(error).replace(photo, "The photo")) from None


def _edited(pipe: StackGANPipeline, asked: _Inputs) -> GenerationResult:
    return edit_photo(pipe, _opened(asked.photo) if asked.photo else None, asked.caption, asked.new_caption)


def _pngs(result: GenerationResult) -> list[bytes]:
    return [png_bytes(image, len(image.stages) - 1, result.truncation, result.checkpoint) for image in result.images]


def _value(photo: Image.Image, result: GenerationResult, pipe: StackGANPipeline) -> dict[str, Any]:
    """Value of the component: each image with the part of the photo that it was made from."""
    side = pipe.sizes[-1]
    before = png_url(png.png_bytes(to_pil(to_tensor(photo, side)[None])[0], {}))
    images = [
        {"title": title, "caption": html_text(image.caption), "url": png_url(content), "name": _file_name(title)}
        for title, image, content in zip(NAMES, result.images, _pngs(result), strict=False)
    ]
    return {
        "photo": before,
        "size": side,
        "images": images,
        "notices": [html_text(warning) for warning in result.warnings],
    }


def _file_name(title: str) -> str:
    return f"{title.lower().replace(' ', '-')}.png"


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
