"""Paint pictures from words in a browser: ``python app.py``, then open http://127.0.0.1:7860.

Everything stays on this machine: the page loads no font, script or picture from anywhere else, and nothing is
reported to anybody. ``paint`` is what happens at a press of Paint, ``build`` is the page, ``main`` starts it.
"""

import argparse
import base64
import contextlib
import io
import json
import logging
import math
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from stackgan.app.static_files import read_static
from stackgan.images import png
from stackgan.version import __version__

if TYPE_CHECKING:  # imported where they are used: a wrong command line is told at once
    import gradio as gr

    from stackgan.pipeline import StackGANPipeline
    from stackgan.text.base import Notice

__all__ = [
    "CSS",
    "Painting",
    "Picture",
    "Shown",
    "build",
    "choose_seed",
    "edit_photo",
    "main",
    "opening",
    "paint",
    "paint_live",
    "png_bytes",
    "theme",
    "walk_files",
]

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent / "checkpoints" / "birds-64"
MAX_COUNT, USUAL_COUNT = 16, 4
MAX_FRAMES = 48
MAX_SEED = 2**53 - 1  # a browser holds whole numbers exactly up to here
MAX_CAPTION = 2000  # characters; a caption is a sentence or two
OPENING = 8  # pictures that greet a visitor
CHIPS_SHOWN = 5  # example captions to press
FIRST_SEED = 1
EXAMPLE_PHOTOS, EXAMPLE_BIRDS = 3, 7  # how many birds are drawn to try the photo tab with, and from which seed
KEEP_SECONDS = 24 * 3600  # how long a painted file can be downloaded


@dataclass(frozen=True)
class Picture:
    """One picture: ``stages`` are its images, coarsest first; ``caption`` is empty where there is no text.

    ``seed`` is None for a picture whose style was read from a photo.
    """

    caption: str
    seed: int | None
    stages: list[Image.Image]

    @property
    def name(self) -> str:
        """Start of its file name: the caption's words and the seed."""
        from stackgan.generation.batch import slug

        origin = "from-photo" if self.seed is None else f"seed-{self.seed}"
        return f"{slug(self.caption) or 'picture'}_{origin}"


@dataclass(frozen=True)
class Painting:
    """What one press of Paint gives: the pictures, what to say about the caption, and how long it took."""

    pictures: list[Picture]
    truncation: float
    notices: list[str]
    seconds: float
    checkpoint: str
    reusable: bool = True  # whether the paint tab can paint these seeds again


class Shown(NamedTuple):
    """What the gallery shows; ``asked`` is the seed on the page then, and ``seed`` the one painted instead."""

    caption: str
    count: int
    seed: int | None
    truncation: float
    asked: float | None

    @classmethod
    def of(cls, painting: Painting, asked: float | None) -> "Shown":
        first = painting.pictures[0]
        return cls(first.caption, len(painting.pictures), first.seed, painting.truncation, asked)


def paint(
    pipe: "StackGANPipeline", caption: str, count: float | None, seed: float | None, truncation: float | None
) -> Painting:
    """Paint ``count`` pictures of a caption, with the seeds ``seed``, ``seed + 1``, …

    Args:
        caption: what to paint; empty for a checkpoint trained without text.
        count: 1 to 16.
        seed: a whole number from 0.
        truncation: 0 (safest) to 2; 1 is the model's own distribution.

    Raises:
        ValueError: one of them is missing or out of range, in a sentence meant for the page.
    """
    text = " ".join((caption or "").split())
    if pipe.conditional and not text:
        raise ValueError("Write a caption first: what should the picture show?")
    if len(text) > MAX_CAPTION:
        raise ValueError(f"The caption is {len(text)} characters long: please keep it below {MAX_CAPTION}.")
    number = _whole("The number of pictures", count, 1, MAX_COUNT)
    first = _whole("The seed", seed, 0, MAX_SEED - MAX_COUNT)
    if truncation is None or not 0 <= truncation <= 2:
        raise ValueError(f"The variety is {truncation}: it goes from 0 to 2.")
    seeds = list(range(first, first + number))
    start = time.perf_counter()
    out = pipe([text] if pipe.conditional else None, seeds=seeds, truncation=float(truncation))
    seconds = time.perf_counter() - start
    pictures = _pictures([text] * number, seeds, out.stages)
    notices = [_sentence(notice) for notice in out.notices]
    if pipe.model.has_code_flow and (warning := pipe.caption_log_prob(text)[0].warning):
        notices.append(f"{warning[:1].upper()}{warning[1:]}.")
    return Painting(pictures, float(truncation), notices, seconds, pipe.fingerprint)


def paint_live(
    pipe: "StackGANPipeline",
    shown: Shown | None,
    caption: str,
    count: float | None,
    seed: float | None,
    truncation: float | None,
    keep: bool,
) -> Painting | None:
    """The pictures for a caption that is still being typed; None where nothing new or nothing sensible would show.

    The page may still hold the seed from before the last press of Paint: the one painted instead is meant.
    """
    words = " ".join(caption.split())
    if shown is not None and seed == shown.asked and not keep:
        seed = shown.seed
    if not words or (shown is not None and shown[:4] == (words, count, seed, truncation)):
        return None
    try:
        return paint(pipe, words, count, seed, truncation)
    except ValueError:  # Paint says what is wrong
        return None
    except Exception:
        logging.exception("painting while typing failed")
        return None


def opening(pipe: "StackGANPipeline") -> Painting | None:
    """Pictures to greet a visitor with, from the checkpoint's examples; painting them warms the pipeline up.

    None for a checkpoint that takes captions but brings no examples.
    """
    captions = pipe.examples[:OPENING] if pipe.conditional else [""] * OPENING
    if not captions:
        pipe(["a picture"], seeds=[0])
        return None
    seeds = list(range(len(captions)))
    start = time.perf_counter()
    out = pipe(captions if pipe.conditional else None, seeds=seeds)
    seconds = time.perf_counter() - start
    return Painting(_pictures(captions, seeds, out.stages), 1.0, [], seconds, pipe.fingerprint)


def _pictures(captions: list[str], seeds: Sequence[int | None], stages: list[list[Image.Image]]) -> list[Picture]:
    trees = [list(tree) for tree in zip(*stages, strict=True)]
    return [Picture(*parts) for parts in zip(captions, seeds, trees, strict=True)]


def choose_seed(seed: float | None, keep: bool, spent: int | None) -> float | None:
    """The seed to paint with: the one on the page, unless it has been painted already and is not to be kept.

    >>> choose_seed(7, keep=False, spent=None), choose_seed(7, keep=True, spent=7)
    (7, 7)
    >>> choose_seed(7, keep=False, spent=7) == 7
    False
    """
    if keep or spent is None or seed != spent:
        return seed
    fresh = random.SystemRandom().randrange(10**6 - 1)
    return fresh + (fresh >= spent)  # any but the one just painted


def png_bytes(picture: Picture, stage: int, truncation: float, checkpoint: str) -> bytes:
    """A stage of a picture as PNG; its text chunks say how to paint it again."""
    facts: dict[str, Any] = {"Software": f"stackgan {__version__}"}  # the keys of stackgan batch
    facts |= {"caption": picture.caption, "seed": picture.seed if picture.seed is not None else "read from a photo"}
    facts |= {"truncation": truncation, "checkpoint": checkpoint}
    return png.png_bytes(picture.stages[stage], facts)


def _whole(what: str, value: float | None, low: int, high: int) -> int:
    if value is None or not math.isfinite(value):
        raise ValueError(f"{what} is missing: give a whole number from {low}.")
    if value != int(value):
        raise ValueError(f"{what} is {value}: it must be a whole number.")
    if value < low:
        raise ValueError(f"{what} is {int(value)}: the smallest is {low}.")
    if value > high:
        raise ValueError(f"{what} is {int(value)}: the largest is {high}.")
    return int(value)


def _sentence(notice: "Notice") -> str:
    """A notice as a sentence for people who never heard of tokens."""
    message = notice.message.strip().rstrip(".")
    if notice.kind == "truncated":
        cut = re.search(r"the text from .*", message, re.DOTALL)
        return f"The caption is longer than the model can read: {cut.group() if cut else message}."
    return f"{message[:1].upper()}{message[1:]}{'' if message.endswith('?') else '.'}"


# --- what the gallery shows ---------------------------------------------------------------------------------


def _present(painting: Painting, title: str, detail: str, live: bool = False) -> dict[str, Any]:
    """A painting as the gallery's template takes it: words, and files that Gradio serves and clears away.

    A live one leaves no files: its pictures are part of the answer, and its ZIP is made when somebody wants it.
    """
    files = None if live else _Files()
    pictures = []
    for number, picture in enumerate(painting.pictures, 1):
        stages = []
        for stage, image in enumerate(picture.stages):
            suffix = f"_{image.width}px" if len(picture.stages) > 1 else ""
            name = f"{picture.name}{suffix}.png"
            content = png_bytes(picture, stage, painting.truncation, painting.checkpoint)
            file = files.add(name, content) if files is not None else {"url": _data_url(content)}
            stages.append({"size": image.width, "name": name, "file": file})
            if files is not None:
                files.zip(f"{number:02d}_{name}", content, picture, image.width)
        pictures.append(
            {
                "caption": picture.caption,
                "label": picture.caption or "Picture",
                "caption_html": _html_text(picture.caption),
                "label_html": _html_text(picture.caption or "Picture"),
                # as text: the template takes the number 0 for nothing
                "seed": str(picture.seed) if picture.seed is not None else "",
                "reuse": painting.reusable and picture.seed is not None,
                "final": stages[-1],
                "stages": stages,
                "tree": len(stages) > 1,
            }
        )
    archive = f"{painting.pictures[0].name}_{len(pictures)}-pictures.zip"
    return {
        "title": title,
        "detail": detail,
        "notices": [] if live else [_html_text(notice) for notice in painting.notices],  # of half a word
        "pictures": pictures,
        "truncation": painting.truncation,
        "zip": files.finish(archive) if files is not None else None,
    }


def _data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _html_text(text: str) -> str:
    """Text as HTML that no engine takes for code: Gradio runs a filled template as a JavaScript string."""
    return re.sub(r"[^\w\s.,]", lambda match: f"&#{ord(match[0])};", text)


class _Files:
    """Files for the page, in the folder that Gradio serves from, and a ZIP of them with a manifest."""

    def __init__(self) -> None:
        from gradio.utils import get_upload_folder

        self.folder = get_upload_folder()
        self.content = io.BytesIO()
        self.archive = zipfile.ZipFile(self.content, "w", zipfile.ZIP_STORED)  # PNGs do not get smaller
        self.manifest = ""

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        import gradio as gr
        from gradio.processing_utils import save_bytes_to_cache

        return gr.FileData(path=save_bytes_to_cache(content, name, self.folder)).model_dump()

    def zip(self, name: str, content: bytes, picture: Picture, size: int) -> None:
        self.archive.writestr(zipfile.ZipInfo(name), content)  # without a clock: same pictures, same bytes
        line = {"file": name, "caption": picture.caption, "seed": picture.seed, "size": size}
        self.manifest += json.dumps(line, ensure_ascii=False) + "\n"

    def finish(self, name: str) -> dict[str, Any]:
        self.archive.writestr(zipfile.ZipInfo("manifest.jsonl"), self.manifest)
        self.archive.close()
        return {"name": name, "file": self.add(name, self.content.getvalue())}


def _present_new(painting: Painting, live: bool = False) -> dict[str, Any]:
    seeds = [picture.seed for picture in painting.pictures]
    took = f"{painting.seconds:.2f} s" if painting.seconds < 1 else f"{painting.seconds:.1f} s"
    title = f"{len(seeds)} pictures in {took}" if len(seeds) > 1 else f"1 picture in {took}"
    title = "While you type" if live else title  # nothing in it that changes with every letter
    which = f"Seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"Seed {seeds[0]}"
    return _present(painting, title, f"{which}, variety {painting.truncation:g}", live)


def _present_opening(painting: Painting | None, conditional: bool) -> dict[str, Any]:
    if painting is None:
        return {"empty": True}
    if conditional:
        return _present(painting, "Painted from examples", "Press one above, or write your own caption.")
    return _present(painting, "Some to start with", "Press Paint for new ones.")


GALLERY = read_static("gallery.handlebars")
WALK = read_static("interpolation.handlebars")
GALLERY_JS = read_static("gallery.js")
TYPING_JS = read_static("typing.js")
CHIPS = read_static("examples.handlebars")
CHIPS_JS = read_static("examples.js")
SAVE_JS = read_static("save_all.js")
DICE_JS = read_static("roll_seed.js")

KEEP_HINT = (
    '<p class="hint">The same seed with the same words gives the same picture. '
    "Otherwise every press of Paint takes a new one.</p>"
)
TRUNCATION_HINT = (
    '<p class="hint">Lower plays it safe: cleaner pictures, but more alike. '
    "1 is what the model learned; above 1 it takes risks.</p>"
)


# --- the page -----------------------------------------------------------------------------------------------


def build(pipe: "StackGANPipeline", card: str = "") -> "gr.Blocks":
    """The page for a pipeline; the pictures that greet a visitor are painted while it is built.

    Args:
        pipe: a loaded pipeline; one that takes captions needs its text encoder.
        card: the checkpoint's model card, Markdown.

    Raises:
        ValueError: the checkpoint takes captions but came without a text encoder.
    """
    import gradio as gr

    if pipe.conditional and pipe.text_encoder is None:
        raise ValueError(
            "this checkpoint came without a text encoder, and the app paints from words: "
            "choose one with a folder 'text', or use it from Python with pipe(embeddings=...)"
        )
    with gr.Blocks(
        title="Paint from words" if pipe.conditional else "Paint",
        analytics_enabled=False,
        delete_cache=(3600, KEEP_SECONDS),
    ) as page:
        _html(_heading(pipe))
        tabs = _tabs(pipe)
        if len(tabs) == 1:
            _paint_tab(pipe)
        else:
            with gr.Tabs(elem_id="tabs"):
                for title, fill in tabs.items():
                    with gr.Tab(title):
                        fill(pipe)
        with gr.Accordion("About this checkpoint", open=False, elem_id="about"):
            gr.Markdown(_about(pipe, card))
    page.queue(default_concurrency_limit=1, max_size=64)
    return page


def _tabs(pipe: "StackGANPipeline") -> dict[str, "Callable[[StackGANPipeline], None]"]:
    """What this checkpoint can do, by the title of its tab."""
    tabs: dict[str, Callable[[StackGANPipeline], None]] = {"Paint": _paint_tab}
    if pipe.model.posterior is not None and pipe.conditional:
        tabs["Photo"] = _photo_tab
    if pipe.conditional:
        tabs["Walk"] = _walk_tab
    if pipe.model.has_code_flow:
        tabs["No words"] = _wordless_tab
    return tabs


def _paint_tab(pipe: "StackGANPipeline") -> None:
    """Caption, seeds, gallery: what most visitors come for."""
    import gradio as gr

    caption: gr.Textbox | gr.State = gr.State("")
    chips: gr.HTML | None = None
    with gr.Row(elem_id="studio", equal_height=False):
        with gr.Column(elem_id="ask", elem_classes="words" if pipe.conditional else "wordless"):
            if pipe.conditional:
                caption = gr.Textbox(
                    label="Caption",
                    placeholder="What should the picture show?",
                    container=False,
                    lines=1,  # so that Enter submits; it grows with its text all the same
                    max_lines=5,
                    elem_id="caption",
                )
            button = gr.Button("Paint", variant="primary", size="lg", elem_id="paint")
            if pipe.conditional:
                live = gr.Checkbox(True, label="Paint while I type", container=False, elem_id="live")
            if pipe.conditional and pipe.examples:
                chips = _html(
                    [_html_text(example) for example in pipe.examples[:CHIPS_SHOWN]],
                    html_template=CHIPS,
                    js_on_load=CHIPS_JS,
                    elem_id="examples",
                )
        with gr.Column(elem_id="output"):
            shown = _present_opening(opening(pipe), pipe.conditional)
            gallery = _html(shown, html_template=GALLERY, js_on_load=GALLERY_JS + TYPING_JS, elem_id="gallery")
        with gr.Column(elem_id="settings"):
            count = gr.Slider(1, MAX_COUNT, value=USUAL_COUNT, step=1, label="Pictures", elem_id="count")
            with gr.Row(elem_id="seeds"):
                seed = gr.Number(FIRST_SEED, label="Seed", elem_id="seed", min_width=0, scale=1)
                dice = gr.Button("Roll", elem_id="dice", min_width=0, scale=0)
            keep = gr.Checkbox(False, label="Keep this seed", container=False, elem_id="keep")
            _html(KEEP_HINT)
            truncation = gr.Slider(
                0, 1.5, value=pipe.truncation, step=0.05, label="Variety (truncation)", elem_id="truncation"
            )
            _html(TRUNCATION_HINT)
    spent, shown = gr.State(None), gr.State(None)

    def on_paint(
        caption: str,
        count: float | None,
        seed: float | None,
        truncation: float | None,
        keep: bool,
        spent: int | None,
    ) -> tuple[Any, ...]:
        def work() -> tuple[Any, ...]:
            painting = paint(pipe, caption, count, choose_seed(seed, keep, spent), truncation)
            first = painting.pictures[0].seed
            return _present_new(painting), first, first, Shown.of(painting, asked=seed)

        return _guarded(work, (gr.skip(),) * 4)

    def on_type(
        live: bool,
        shown: Shown | None,
        caption: str,
        count: float | None,
        seed: float | None,
        truncation: float | None,
        keep: bool,
    ) -> tuple[Any, ...]:
        painting = paint_live(pipe, shown, caption, count, seed, truncation, keep) if live else None
        if painting is None:
            return gr.skip(), gr.skip()
        return _present_new(painting, live=True), Shown.of(painting, asked=seed)

    # Gradio goes by the annotation of these, so it has to be the class itself and no string.
    def on_choose(event: gr.EventData) -> str:
        return str(event.caption)

    def on_reuse(event: gr.EventData) -> tuple[Any, ...]:
        return event.seed, True, event.caption if pipe.conditional else ""

    def on_save(event: gr.EventData) -> tuple[Any, ...]:
        def work() -> tuple[Any, ...]:
            painting = paint(pipe, event.caption, event.count, event.seed, event.truncation)
            return _present_new(painting), Shown.of(painting, asked=event.seed)

        return _guarded(work, (gr.skip(), gr.skip()))

    inputs = [caption, count, seed, truncation, keep, spent]
    outputs = [gallery, seed, spent, shown]
    presses = [button.click, caption.submit] if isinstance(caption, gr.Textbox) else [button.click]
    slow: dict[str, Any] = {
        "concurrency_id": "paint",
        "concurrency_limit": 1,
        "show_progress_on": gallery,
    }
    quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    gr.on(presses, on_paint, inputs, outputs, api_name="paint", **slow)
    if isinstance(caption, gr.Textbox):
        typing: dict[str, Any] = slow | {"api_visibility": "private", "show_progress": "hidden"}
        request = [live, shown, caption, count, seed, truncation, keep]
        gallery.typed(on_type, request, [gallery, shown], trigger_mode="always_last", **typing)
        gallery.save(on_save, None, [gallery, shown], **typing).success(None, js=SAVE_JS)
    if chips is not None:
        chosen = chips.choose(on_choose, None, caption, **quick)
        chosen.then(on_paint, inputs, outputs, api_visibility="private", **slow)
    gallery.reuse(on_reuse, None, [seed, keep, caption], **quick)
    dice.click(None, None, seed, js=DICE_JS, **quick)
    seed.input(None, None, keep, js="() => true", **quick)  # who types a seed means it


def _guarded(work: Callable[[], Any], otherwise: Any) -> Any:
    """What ``work`` gives, or ``otherwise`` and a sentence on the page that says what is wrong."""
    import gradio as gr

    try:
        return work()
    except ValueError as error:
        gr.Warning(escape(str(error)))
    except Exception:
        logging.exception("painting failed")
        gr.Warning("Something went wrong while painting; the terminal that runs the app says what.")
    return otherwise


def edit_photo(pipe: "StackGANPipeline", photo: Image.Image | None, caption: str, new_caption: str) -> Painting:
    """The photo as the model paints it, and with the new caption.

    Raises:
        ValueError: a photo or a caption is missing, in a sentence meant for the page.
    """
    if photo is None:
        raise ValueError("Choose a photo first.")
    old, new = (" ".join((text or "").split()) for text in (caption, new_caption))
    if not old:
        raise ValueError("Say what the photo shows: its style is read with these words.")
    texts = [old, new] if new else [old]
    start = time.perf_counter()
    out = pipe.edit(photo, old, texts)
    seconds = time.perf_counter() - start
    pictures = _pictures(texts, [None] * len(texts), out.stages)
    notices = [_sentence(notice) for notice in out.notices]
    return Painting(pictures, 1.0, notices, seconds, pipe.fingerprint, reusable=False)


def _example_photos(pipe: "StackGANPipeline", folder: Path) -> list[list[str]]:
    """Photo files, captions and new captions to try: birds drawn for the purpose, where a checkpoint paints such."""
    if pipe.facts.get("data", {}).get("kind") != "painted":
        return []
    from data_prep.painted import caption_colours, draw, paint_bird, recoloured

    found: list[list[str]] = []
    number = 0
    while len(found) < EXAMPLE_PHOTOS:
        painting, captions = paint_bird(EXAMPLE_BIRDS, "test", number)
        part, colour = (("wing", "yellow"), ("crown", "red"), ("breast", "white"))[number % 3]
        telling = [line for line in captions if len(caption_colours(line)) == 3]  # crown, breast and wing
        changed = [(line, recoloured(line, part, colour)) for line in telling]
        number += 1
        for line, new in changed:
            if new is not None:
                file = folder / f"bird-{number}.png"
                Image.fromarray(draw(painting, 304)).save(file)
                found.append([str(file), line, new])
                break
    return found


def _photo_tab(pipe: "StackGANPipeline") -> None:
    import gradio as gr

    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            photo = gr.Image(
                label="Photo", type="filepath", sources=["upload", "clipboard"], height=260, elem_id="photo"
            )
            old = gr.Textbox(label="What it shows", elem_id="photo-caption", max_lines=4)
            new = gr.Textbox(label="What it is to show (may stay empty)", elem_id="photo-new", max_lines=4)
            button = gr.Button("Paint it", variant="primary", elem_id="photo-paint")
        with gr.Column():
            result = _html({"empty": True}, html_template=GALLERY, js_on_load=GALLERY_JS, elem_id="photo-gallery")
    with tempfile.TemporaryDirectory() as folder:  # gradio keeps copies of its own
        examples = _example_photos(pipe, Path(folder))
        if examples:
            gr.Examples(examples, [photo, old, new], label="Or try one of these", elem_id="photo-examples")

    def on_edit(photo: str | None, old: str, new: str) -> Any:
        from stackgan.generation.edit import open_photo

        def work() -> Any:
            painting = edit_photo(pipe, open_photo(Path(photo)) if photo else None, old, new)
            title = "As the model sees it, and with your words" if new.strip() else "As the model sees it"
            return _present(painting, title, "The middle square of the photo; place is kept, pose most often.")

        return _guarded(work, gr.skip())

    gr.on(
        [button.click, new.submit], on_edit, [photo, old, new], result, api_name="edit", show_progress_on=result,
        concurrency_id="paint", concurrency_limit=1,
    )  # fmt: skip


def _walk_tab(pipe: "StackGANPipeline") -> None:
    import gradio as gr

    examples = [*pipe.examples[:2], "", ""]
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            start = gr.Textbox(examples[0], label="From", elem_id="walk-from", max_lines=4)
            first = gr.Number(FIRST_SEED, label="Seed", precision=0, elem_id="walk-first")
            end = gr.Textbox(examples[1], label="To", elem_id="walk-to", max_lines=4)
            last = gr.Number(FIRST_SEED, label="Seed", precision=0, elem_id="walk-last")
            frames = gr.Slider(2, MAX_FRAMES, value=24, step=1, label="Pictures on the way", elem_id="walk-frames")
            button = gr.Button("Walk", variant="primary", elem_id="walk")
        with gr.Column():
            result = _html({"empty": True}, html_template=WALK, elem_id="walk-result")

    def on_walk(start: str, first: float | None, end: str, last: float | None, frames: float) -> Any:
        def work() -> Any:
            film, strip = walk_files(pipe, (start, end), (first, last), int(frames))
            return {"film": gr.FileData(path=film).model_dump(), "strip": gr.FileData(path=strip).model_dump()}

        return _guarded(work, gr.skip())

    gr.on(
        [button.click, end.submit], on_walk, [start, first, end, last, frames], result, api_name="walk",
        show_progress_on=result, concurrency_id="paint", concurrency_limit=1,
    )  # fmt: skip


def walk_files(
    pipe: "StackGANPipeline",
    captions: tuple[str, str],
    seeds: tuple[float | None, float | None],
    frames: int,
) -> tuple[str, str]:
    """Paint a walk; the paths of its film (GIF) and its strip (PNG) among the files that Gradio serves.

    Raises:
        ValueError: a caption or a seed is missing, in a sentence meant for the page.
    """
    from gradio.processing_utils import save_bytes_to_cache
    from gradio.utils import get_upload_folder

    from stackgan.images.video import save_film, strip

    texts = [" ".join((caption or "").split()) for caption in captions]
    if not all(texts):
        raise ValueError("Write both captions: where the walk begins, and where it ends.")
    ends = [_whole("The seed", seed, 0, MAX_SEED) for seed in seeds]
    between = (texts[0], texts[1]), (ends[0], ends[1])
    images = pipe.walk(*between, frames=frames, truncation=pipe.truncation).images
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "walk.gif"
        save_film(images, film)
        served = get_upload_folder()
        return (
            save_bytes_to_cache(film.read_bytes(), "walk.gif", served),
            save_bytes_to_cache(png.png_bytes(strip(images), {}), "walk.png", served),
        )


def _wordless_tab(pipe: "StackGANPipeline") -> None:
    import gradio as gr

    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            count = gr.Slider(1, MAX_COUNT, value=8, step=1, label="Pictures", elem_id="free-count")
            seed = gr.Number(FIRST_SEED, label="First seed", precision=0, elem_id="free-seed")
            truncation = gr.Slider(
                0, 1.5, value=pipe.truncation, step=0.05, label="Variety", elem_id="free-truncation"
            )
            button = gr.Button("Paint", variant="primary", elem_id="free-paint")
        with gr.Column():
            result = _html({"empty": True}, html_template=GALLERY, js_on_load=GALLERY_JS, elem_id="free-gallery")

    def on_sample(count: float, seed: float | None, truncation: float) -> Any:
        def work() -> Any:
            first = _whole("The seed", seed, 0, MAX_SEED - MAX_COUNT)
            seeds = list(range(first, first + _whole("The number of pictures", count, 1, MAX_COUNT)))
            start = time.perf_counter()
            out = pipe.sample(seeds, truncation=float(truncation))
            seconds = time.perf_counter() - start
            pictures = _pictures([""] * len(seeds), seeds, out.stages)
            painting = Painting(pictures, float(truncation), [], seconds, pipe.fingerprint, reusable=False)
            return _present_new(painting)

        return _guarded(work, gr.skip())

    gr.on(
        [button.click], on_sample, [count, seed, truncation], result, api_name="sample", show_progress_on=result,
        concurrency_id="paint", concurrency_limit=1,
    )  # fmt: skip


def _html(value: Any, **options: Any) -> "gr.HTML":
    import gradio as gr

    return gr.HTML(value, apply_default_css=False, **options)


def _heading(pipe: "StackGANPipeline") -> str:
    title = "Paint from words" if pipe.conditional else "Paint"
    what = "Describe a picture, and it is painted." if pipe.conditional else "Every seed is another picture."
    sizes = " → ".join(str(size) for size in pipe.sizes)
    facts = f"StackGAN++, {sizes} pixels, all on this machine."
    return f'<div class="heading"><h1>{title}</h1><p>{what} <span>{facts}</span></p></div>'


def _about(pipe: "StackGANPipeline", card: str) -> str:
    """The model card without front matter, HTML and pictures (they may lie on other hosts), and the facts."""
    card = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    card = re.sub(r"!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])?", "", card)
    card = re.sub(r"<[a-zA-Z/!][^>]*>", "", card).strip()
    encoder = f"`{pipe.text_encoder.identity}`" if pipe.text_encoder is not None else "none"
    return (
        f"{card or 'This checkpoint came without a model card.'}\n\n---\n\n"
        f"Stages: {', '.join(f'{size} px' for size in pipe.sizes)} · preset: `{pipe.config.preset}` · "
        f"text encoder: {encoder}\n\nFingerprint (sha256): `{pipe.fingerprint}`"
    )


SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> "gr.themes.Base":
    """Warm paper and a bird's teal, in fonts that systems have: none is fetched."""
    import gradio as gr

    base = gr.themes.Base(
        primary_hue="teal", neutral_hue="stone", radius_size="lg", font=list(SANS), font_mono=list(MONO)
    )
    return base.set(
        body_background_fill="#f7f4ee",
        body_background_fill_dark="#191715",
        body_text_color_subdued="#6b645a",
        body_text_color_subdued_dark="#b0a89c",
        link_text_color="#0f766e",
        link_text_color_dark="#5eead4",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_label_background_fill="transparent",
        block_shadow="none",
        input_background_fill="#ffffff",
        input_background_fill_dark="#24211e",
        input_border_width="1px",
        checkbox_border_radius="5px",
        slider_color="#0f766e",
        slider_color_dark="#0d9488",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_hover_dark="#115e59",
        button_primary_border_color="#0f766e",
        button_primary_border_color_dark="#0f766e",
        button_primary_border_color_hover="#115e59",
        button_primary_border_color_hover_dark="#115e59",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_border_color="*border_color_primary",
    )


CSS = read_static("page.css")


# --- starting it --------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Load a checkpoint and serve the page until Ctrl-C; returns the exit code, 2 for what cannot work."""
    parser = argparse.ArgumentParser(prog="app.py", description="Paint pictures from words in a browser.")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, help="published checkpoint folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    args = parser.parse_args(arguments)
    try:
        _check_address(args.host, args.port)
        with tempfile.TemporaryDirectory(prefix="stackgan-app-") as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder  # what is painted goes away with the app
            return _serve(args)
    except (ValueError, OSError) as error:
        if os.environ.get("STACKGAN_TRACEBACK"):
            raise
        print("app.py: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while it was still starting
        return 130


def _serve(args: argparse.Namespace) -> int:
    from stackgan.pipeline import StackGANPipeline
    from stackgan.runtime.allocator import keep_pages

    keep_pages()
    pipe = StackGANPipeline.from_pretrained(args.checkpoint, device=args.device)
    card = args.checkpoint / "README.md"
    try:
        page = build(pipe, card.read_text("utf-8", errors="replace") if card.is_file() else "")
    except ValueError as error:
        raise ValueError(f"{args.checkpoint}: {error}") from None
    # Gradio asks its own server whether it is up: not through a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", args.host]))
    page.launch(
        server_name=args.host,
        server_port=args.port,
        theme=theme(),
        css=CSS,
        footer_links=[],
        share=False,
        ssr_mode=False,
        pwa=False,
        quiet=True,
        show_error=False,
        prevent_thread_lock=True,
    )
    _warm_up(page, pipe)
    shown = f"[{args.host}]" if ":" in args.host else args.host
    print(f"Painting at http://{shown}:{args.port} (Ctrl-C stops)", flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1):
        pass
    page.close(verbose=False)
    return 0


def _warm_up(page: "gr.Blocks", pipe: "StackGANPipeline") -> None:
    """Paint once through the page's own queue: its first event imports much (0.4 s) that nobody need wait for."""
    import httpx

    words = [pipe.examples[0] if pipe.examples else "a picture"] if pipe.conditional else []
    with (
        contextlib.suppress(httpx.HTTPError),  # visitors may reach what this machine does not
        httpx.Client(base_url=page.local_url, trust_env=False, timeout=60) as client,
    ):
        asked = client.post(
            "/gradio_api/call/paint", json={"data": [*words, USUAL_COUNT, FIRST_SEED, pipe.truncation, True]}
        )
        client.get(f"/gradio_api/call/paint/{asked.raise_for_status().json()['event_id']}")


def _check_address(host: str, port: int) -> None:
    """Raise ``ValueError`` before anything slow is done, if nothing can listen there."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: ports go from 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise ValueError(
            f"--host {host}: no such address; 127.0.0.1 is this machine alone, 0.0.0.0 all its networks"
        ) from None
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = error.strerror or "not possible"
            raise ValueError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from None


if __name__ == "__main__":
    sys.exit(main())
