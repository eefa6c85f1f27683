"""Generation from a caption, or without a caption box for checkpoints trained without text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from stackgan.app import painting
from stackgan.app.components import GENERATION, html, html_text, reporting_errors
from stackgan.app.gallery import gallery, opening_value, result_value
from stackgan.app.painting import DEFAULT_COUNT, DEFAULT_SEED, MAX_COUNT, GalleryState
from stackgan.app.static_files import read_static
from stackgan.pipeline import StackGANPipeline

__all__ = ["available", "build"]

EXAMPLES_SHOWN = 5  # example captions that can be clicked
KEEP_HINT = (
    '<p class="hint">The same seed and caption give the same image. If not kept, a new seed is drawn each time.</p>'
)
TRUNCATION_HINT = (
    '<p class="hint">Lower values give cleaner but more similar images. '
    "1 is the trained distribution; above 1, artefacts become more frequent.</p>"
)


def available(pipe: StackGANPipeline) -> bool:
    return True


def build(pipe: StackGANPipeline) -> None:
    no_caption = gr.State("")
    with gr.Row(elem_id="studio", equal_height=False):
        with gr.Column(elem_id="ask", elem_classes="words" if pipe.conditional else "wordless"):
            entry = _entry(pipe, no_caption)
        with gr.Column(elem_id="output"):
            value = opening_value(painting.generate_examples(pipe), pipe.conditional)
            output = gallery(value, "gallery", script=read_static("typing.js"))
        with gr.Column(elem_id="settings"):
            settings = _settings(pipe)
    _connect(_Events(pipe), entry, settings, output)


@dataclass(frozen=True)
class _Entry:
    """The caption box and the components beside it."""

    caption: Any  # a constant for a checkpoint that was trained without text
    button: Any
    live: Any = None
    examples: Any = None


def _entry(pipe: StackGANPipeline, no_caption: gr.State) -> _Entry:
    if not pipe.conditional:
        return _Entry(no_caption, gr.Button("Generate", variant="primary", size="lg", elem_id="paint"))
    caption = gr.Textbox(
        label="Caption",
        placeholder="What should the image show?",
        container=False,
        lines=1,  # so that Enter submits; the box still grows with its text
        max_lines=5,
        elem_id="caption",
    )
    button = gr.Button("Generate", variant="primary", size="lg", elem_id="paint")
    live = gr.Checkbox(True, label="Update live", container=False, elem_id="live")
    examples = None
    if pipe.examples:
        examples = html(
            [html_text(example) for example in pipe.examples[:EXAMPLES_SHOWN]],
            html_template=read_static("examples.handlebars"),
            js_on_load=read_static("examples.js"),
            elem_id="examples",
        )
    return _Entry(caption, button, live, examples)


@dataclass(frozen=True)
class _Settings:
    count: Any
    seed: Any
    roll: Any
    keep: Any
    truncation: Any


def _settings(pipe: StackGANPipeline) -> _Settings:
    count = gr.Slider(1, MAX_COUNT, value=DEFAULT_COUNT, step=1, label="Images", elem_id="count")
    with gr.Row(elem_id="seeds"):
        seed = gr.Number(DEFAULT_SEED, label="Seed", elem_id="seed", min_width=0, scale=1)
        roll = gr.Button("Roll", elem_id="dice", min_width=0, scale=0)
    keep = gr.Checkbox(False, label="Keep this seed", container=False, elem_id="keep")
    html(KEEP_HINT)
    truncation = gr.Slider(
        0, 1.5, value=pipe.truncation, step=0.05, label="Variety (truncation)", elem_id="truncation"
    )
    html(TRUNCATION_HINT)
    return _Settings(count, seed, roll, keep, truncation)


class _Events:
    """Event handlers of this tab. ``used`` is the seed of the last generation."""

    def __init__(self, pipe: StackGANPipeline) -> None:
        self.pipe = pipe

    def on_paint(
        self,
        caption: str,
        count: float | None,
        seed: float | None,
        truncation: float | None,
        keep: bool,
        used: int | None,
    ) -> tuple[Any, ...]:
        def work() -> tuple[Any, ...]:
            result = painting.generate(self.pipe, caption, count, painting.choose_seed(seed, keep, used), truncation)
            first = result.images[0].seed
            return result_value(result), first, first, GalleryState.of(result, entered=seed)

        return reporting_errors(work, (gr.skip(),) * 4)

    def on_change(
        self,
        live: bool,
        shown: GalleryState | None,
        caption: str,
        count: float | None,
        seed: float | None,
        truncation: float | None,
        keep: bool,
    ) -> Iterator[tuple[Any, ...]]:
        """The coarsest stage first, then the images; nothing if they would not change."""
        yield gr.skip(), gr.skip()  # Gradio takes a generator without values for one that failed
        if not live:
            return
        for result in painting.generate_live(self.pipe, shown, caption, count, seed, truncation, keep):
            state = gr.skip() if result.preview_of else GalleryState.of(result, entered=seed)
            yield result_value(result, live=True), state

    # Gradio inspects the annotations of these, which must be the class itself, not a string.
    def on_choose(self, event: gr.EventData) -> str:
        return str(event.caption)

    def on_reuse(self, event: gr.EventData) -> tuple[Any, ...]:
        return event.seed, True, event.caption if self.pipe.conditional else "", event.truncation

    def on_save(self, event: gr.EventData) -> tuple[Any, ...]:
        def work() -> tuple[Any, ...]:
            result = painting.generate(self.pipe, event.caption, event.count, event.seed, event.truncation)
            return result_value(result), GalleryState.of(result, entered=event.seed)

        return reporting_errors(work, (gr.skip(), gr.skip()))


def _connect(events: _Events, entry: _Entry, settings: _Settings, output: Any) -> None:
    caption, seed, keep = entry.caption, settings.seed, settings.keep
    used, shown = gr.State(None), gr.State(None)
    inputs = [caption, settings.count, seed, settings.truncation, keep, used]
    outputs = [output, seed, used, shown]
    slow: dict[str, Any] = {**GENERATION, "show_progress_on": output}
    quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    presses = [entry.button.click]
    if entry.live is not None:
        presses.append(caption.submit)
    gr.on(presses, events.on_paint, inputs, outputs, api_name="paint", trigger_mode="always_last", **slow)
    hidden: dict[str, Any] = slow | {"api_visibility": "private", "show_progress": "hidden"}
    live = entry.live if entry.live is not None else gr.State(True)
    changed: dict[str, Any] = {
        "fn": events.on_change,
        "inputs": [live, shown, caption, settings.count, seed, settings.truncation, keep],
        "outputs": [output, shown],
        **hidden,
    }
    controls = [settings.count.input, settings.truncation.input, seed.input]
    gr.on(controls, trigger_mode="always_last", **changed)
    output.typed(trigger_mode="always_last", **changed)
    settings.roll.click(None, None, seed, js=read_static("roll_seed.js"), **quick).then(**changed)
    saved = output.save(events.on_save, None, [output, shown], **hidden)
    saved.success(None, js=read_static("save_all.js"))
    if entry.examples is not None:
        chosen = entry.examples.choose(events.on_choose, None, caption, **quick)
        chosen.then(events.on_paint, inputs, outputs, api_visibility="private", **slow)
    reused = output.reuse(events.on_reuse, None, [seed, keep, caption, settings.truncation], **quick)
    reused.then(events.on_paint, inputs, outputs, **hidden)
    seed.input(None, None, keep, js="() => true", **quick)  # a seed that was typed is kept
