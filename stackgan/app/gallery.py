"""Gallery: a grid of generated images with captions, seeds and downloads.

Its value is a dictionary for the template ``gallery.handlebars``, which the page's API returns too.
"""

import io
import json
import zipfile
from typing import Any

import gradio as gr

from stackgan.app.components import html, html_text
from stackgan.app.data_urls import png_url
from stackgan.app.painting import GeneratedImage, GenerationResult, png_bytes
from stackgan.app.served_files import served_file
from stackgan.app.static_files import read_static

__all__ = ["EMPTY", "gallery", "gallery_value", "opening_value", "result_value"]

EMPTY = {"empty": True}


def gallery(value: dict[str, Any], elem_id: str, script: str = "") -> gr.HTML:
    """The gallery component; ``script`` is JavaScript that runs after the gallery's own when it is loaded."""
    return html(
        value,
        html_template=read_static("gallery.handlebars"),
        js_on_load=read_static("gallery.js") + script,
        elem_id=elem_id,
    )


def gallery_value(result: GenerationResult, title: str, detail: str, live: bool = False) -> dict[str, Any]:
    """Value of the component for a result: texts, and files that Gradio serves and deletes later.

    With ``live`` no files are written: images are data URLs, and a ZIP is made on request.
    """
    files = None if live else _Files()
    images = []
    for number, image in enumerate(result.images, 1):
        stages = []
        sizes = result.preview_of or tuple(pixels.width for pixels in image.stages)
        for stage, size in enumerate(sizes):
            suffix = f"_{size}px" if len(sizes) > 1 else ""
            name = f"{image.name}{suffix}.png"
            shown = 0 if result.preview_of else stage
            content = png_bytes(image, shown, result.truncation, result.checkpoint)
            file = files.add(name, content) if files is not None else {"url": png_url(content)}
            stages.append({"size": size, "name": name, "file": file})
            if files is not None:
                files.zip(f"{number:02d}_{name}", content, image, size)
        images.append(_card(image, stages))
    archive = f"{result.images[0].name}_{len(images)}-images.zip"
    return {
        "title": title,
        "detail": detail,
        # no warnings while typing, as the last word is incomplete
        "notices": [] if live else [html_text(warning) for warning in result.warnings],
        "images": images,
        "query": result.query,
        "live": live,
        "preview": bool(result.preview_of),
        "zip": files.finish(archive) if files is not None else None,
    }


def result_value(result: GenerationResult, live: bool = False) -> dict[str, Any]:
    """:func:`gallery_value` with the count, the time and the seeds as title and detail."""
    seeds = [image.seed for image in result.images]
    took = f"{result.seconds:.2f} s" if result.seconds < 1 else f"{result.seconds:.1f} s"
    title = f"{len(seeds)} images in {took}" if len(seeds) > 1 else f"1 image in {took}"
    title = "Live" if live else title  # constant, so that it does not change with every letter
    which = f"Seeds {seeds[0]} to {seeds[-1]}" if seeds[0] != seeds[-1] else f"Seed {seeds[0]}"
    detail = f"{which}, variety {result.truncation:g}"
    if result.request is not None and result.request.strength > 0:
        detail += f", variations of strength {result.request.strength:g}"
    return gallery_value(result, title, detail, live)


def opening_value(examples: GenerationResult | None, conditional: bool) -> dict[str, Any]:
    """Initial value of the gallery."""
    if examples is None:
        return EMPTY
    if conditional:
        return gallery_value(examples, "Example images", "Select a caption above, or write your own.")
    return gallery_value(examples, "Example images", "Press Generate for new ones.")


def _card(image: GeneratedImage, stages: list[dict[str, Any]]) -> dict[str, Any]:
    label = image.caption or "Image"
    return {
        "caption": image.caption,
        "label": label,
        "caption_html": html_text(image.caption),
        "label_html": html_text(label),
        # as text, as the number 0 is false in Handlebars
        "seed": str(image.seed) if image.seed is not None else "",
        "query": image.query,
        "varied": image.settings is not None and image.settings.variation is not None,
        "final": stages[-1],
        "stages": stages,
        "tree": len(stages) > 1,
    }


class _Files:
    """Files in the folder that Gradio serves, and a ZIP of them with a manifest."""

    def __init__(self) -> None:
        self.content = io.BytesIO()
        self.archive = zipfile.ZipFile(self.content, "w", zipfile.ZIP_STORED)  # PNGs are compressed already
        self.manifest = ""

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        return gr.FileData(path=served_file(name, content)).model_dump()

    def zip(self, name: str, content: bytes, image: GeneratedImage, size: int) -> None:
        self.archive.writestr(
            zipfile.ZipInfo(name), content
        )  # without time stamp, so that the same images give the same bytes
        line = {"file": name, "caption": image.caption, "seed": image.seed, "size": size}
        self.manifest += json.dumps(line, ensure_ascii=False) + "\n"

    def finish(self, name: str) -> dict[str, Any]:
        self.archive.writestr(zipfile.ZipInfo("manifest.jsonl"), self.manifest)
        self.archive.close()
        return {"name": name, "file": self.add(name, self.content.getvalue())}
