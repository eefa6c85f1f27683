"""Generation from a caption, or without a caption box for checkpoints trained without text."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from stackgan.app import painting
from stackgan.app.components import GENERATION, QUICK, html, html_text, reporting_errors
from stackgan.app.gallery import gallery, opening_value, result_value
from stackgan.app.image_request import DEFAULT_COUNT, DEFAULT_SEED, MAX_COUNT, ImageRequest
from stackgan.app.pipelines import Pipelines
from stackgan.app.static_files import read_static
from stackgan.generation.image_settings import ImageSettings, read_link, read_png
from stackgan.pipeline import StackGANPipeline

__all__ = ["build"]

EXAMPLES_SHOWN = 5  # example captions that can be clicked
KEEP_HINT = (
    '<p class="hint">The same seed and caption give the same image. If not kept, a new seed is drawn each time.</p>'
)
BEST_OF = 16  # seeds that are tried for the best
BEST_HINT = (
    '<p class="hint">"Best" tries new seeds, and starts with the one whose image looks most like a photo of the '
    "caption.</p>"
)
TRUNCATION_HINT = (
    '<p class="hint">Lower values give cleaner but more similar images. '
    "1 is the trained distribution; above 1, artefacts become more frequent.</p>"
)
VARIATION_HINT = (
    '<p class="hint">Above 0, all images start from the one seed above, and are moved by this much towards others: '
    "variations of one image.</p>"
)
ALL_STAGES = "all"  # choice of stages


def build(pipes: Pipelines) -> Any:
    """Add the tab; returns the component with the name of the chosen checkpoint."""
    pipe = pipes.first
    with gr.Row(elem_id="studio", equal_height=False):
        with gr.Column(elem_id="ask", elem_classes="words" if pipe.conditional else "wordless"):
            entry = _entry(pipe)
        opening = opening_value(painting.generate_examples(pipe), pipe.conditional)
        with gr.Column(elem_id="output"):
            script = read_static("link.js") + read_static("live.js") + read_static("typing.js")
            output = gallery(opening, "gallery", script=script)
            html("", html_template=read_static("history.handlebars"), js_on_load=read_static("history.js"))
        with gr.Column(elem_id="settings"):
            controls = _controls(pipes, entry.caption)
    _connect(_Events(pipes, opening), entry, controls, output)
    return controls.checkpoint


@dataclass(frozen=True)
class _Entry:
    """The caption box and the components beside it."""

    caption: Any  # a constant for a checkpoint that was trained without text
    button: Any
    live: Any
    examples: Any = None


def _entry(pipe: StackGANPipeline) -> _Entry:
    if not pipe.conditional:
        button = gr.Button("Generate", variant="primary", size="lg", elem_id="paint")
        return _Entry(gr.State(""), button, gr.State(True))
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
    examples = html(
        _example_texts(pipe),
        html_template=read_static("examples.handlebars"),
        js_on_load=read_static("examples.js"),
        elem_id="examples",
    )
    return _Entry(caption, button, live, examples)


def _example_texts(pipe: StackGANPipeline) -> list[str]:
    return [html_text(example) for example in pipe.examples[:EXAMPLES_SHOWN]]


@dataclass(frozen=True)
class _Controls:
    """Components that determine the images, and those beside them."""

    checkpoint: Any
    caption: Any
    count: Any
    seed: Any
    truncation: Any
    size: Any
    strength: Any
    variation_seed: Any
    roll: Any
    best: Any
    keep: Any
    open_png: Any
    more: Any

    @property
    def inputs(self) -> list[Any]:
        """In the order of the parameters of :class:`_Events`."""
        first = [self.checkpoint, self.caption, self.count, self.seed]
        return [*first, self.truncation, self.size, self.strength, self.variation_seed]


def _controls(pipes: Pipelines, caption: Any) -> _Controls:
    pipe, names = pipes.first, pipes.names
    checkpoint: Any = gr.State(names[0])
    if len(names) > 1:
        checkpoint = gr.Dropdown(names, value=names[0], label="Checkpoint", filterable=False, elem_id="checkpoint")
    count = gr.Slider(1, MAX_COUNT, value=DEFAULT_COUNT, step=1, label="Images", elem_id="count")
    with gr.Row(elem_id="seeds"):
        seed = gr.Number(DEFAULT_SEED, label="Seed", elem_id="seed", min_width=0, scale=1)
        roll = gr.Button("Roll", elem_id="dice", min_width=0, scale=0)
    best = gr.Button(f"Best of {BEST_OF} seeds", elem_id="best", size="sm", visible=pipe.conditional)
    keep = gr.Checkbox(False, label="Keep this seed", container=False, elem_id="keep")
    html(KEEP_HINT if not pipe.conditional else BEST_HINT + KEEP_HINT)
    truncation = gr.Slider(
        0, 1.5, value=pipe.truncation, step=0.05, label="Variety (truncation)", elem_id="truncation"
    )
    html(TRUNCATION_HINT)
    with gr.Accordion("More settings", open=False, elem_id="more-settings") as more:
        size = gr.Radio(_stages(pipe), value=ALL_STAGES, label="Stages", elem_id="size")
        strength = gr.Slider(0, 1, value=0, step=0.05, label="Variation strength", elem_id="strength")
        variation_seed = gr.Number(1, label="Variation seed", elem_id="variation-seed", min_width=0)
        html(VARIATION_HINT)
    open_png = gr.UploadButton("Open a PNG", file_types=[".png"], elem_id="open-png", size="sm")
    html('<p class="hint">Restores the settings of an image that was saved here; or drop it on the page.</p>')
    return _Controls(
        checkpoint, caption, count, seed, truncation, size, strength, variation_seed, roll, best, keep, open_png, more
    )


def _stages(pipe: StackGANPipeline) -> list[tuple[str, str]]:
    """Choices of a stage: up to the finest, or a single coarser one."""
    single = [(f"{size} px only", str(size)) for size in pipe.sizes[:-1]]
    return [("all" if single else f"{pipe.sizes[-1]} px", ALL_STAGES), *single]


class _Events:
    """Event handlers of this tab.

    The first parameters of each are the checkpoint's name and the fields of an :class:`ImageRequest`; ``used`` is the
    seed of the last generation.
    """

    def __init__(self, pipes: Pipelines, opening: dict[str, Any]) -> None:
        self.pipes, self.opening = pipes, opening

    def on_paint(self, checkpoint: str, *fields: Any) -> tuple[Any, ...]:
        *values, keep, used = fields

        def work() -> tuple[Any, ...]:
            asked = _request(*values)
            seed = painting.choose_seed(asked.seed, keep, used)
            result = painting.generate(self.pipes[checkpoint], replace(asked, seed=seed))
            first = result.images[0].seed
            return result_value(result), first, first

        return reporting_errors(work, (gr.skip(),) * 3)

    def on_best(self, checkpoint: str, *values: Any) -> Any:
        """The best of several new seeds for the caption."""

        def work() -> int:
            return painting.best_seed(self.pipes[checkpoint], _request(*values), BEST_OF)

        return reporting_errors(work, gr.skip())

    def on_checkpoint(self, name: str, previous: str, truncation: float) -> tuple[Any, ...]:
        """Examples, stages and recommended truncation of another checkpoint."""

        def work() -> tuple[Any, ...]:
            pipe, before = self.pipes[name], self.pipes[previous]
            value = pipe.truncation if truncation == before.truncation else truncation
            return _example_texts(pipe), gr.Radio(_stages(pipe), value=ALL_STAGES), value, name

        return reporting_errors(work, (gr.skip(),) * 4)

    # Gradio inspects the annotations of these, which must be the class itself, not a string.
    def on_choose(self, event: gr.EventData) -> str:
        return str(event.caption)

    def on_open(self, event: gr.EventData) -> Iterator[Any]:
        """Restore the settings of a link, and generate its images; the page as it was opened for an empty one."""
        query = str(event.query)
        if not query.strip("?"):
            yield self.opening, None, *((gr.skip(),) * 11)
            return
        yield from self._restore(lambda: read_link(query))

    def on_open_png(self, file: str | None) -> Iterator[Any]:
        """The same for the settings of a PNG."""

        def read() -> tuple[ImageSettings, int]:
            if file is None:
                raise ValueError("Choose a PNG file.")
            return read_png(file), 1

        yield from self._restore(read)

    def _restore(self, read: Any) -> Iterator[Any]:
        """gallery, used, checkpoint, keep, and the other controls: first a preview, then all."""
        nothing = (gr.skip(),) * 13

        def settings() -> tuple[str, ImageRequest, list[str]]:
            found, count = read()
            name, made = self.pipes.name_of(found)
            pipe, warnings = self.pipes[name], []
            if made is not None:
                warnings = [f"Made with {made}, which is not here: generated with {name}, so the image differs."]
            return name, ImageRequest.of(found, count, pipe).checked(pipe), warnings

        yield nothing
        opened = reporting_errors(settings, None)
        if opened is None:
            return
        name, asked, warnings = opened
        pipe = self.pipes[name]
        size = gr.Radio(_stages(pipe), value=ALL_STAGES if asked.size is None else str(asked.size))
        numbers = (asked.count, asked.seed, asked.truncation, size, asked.strength, asked.variation_seed)
        more = gr.Accordion(open=True) if asked.strength or asked.size is not None else gr.skip()
        controls = (name, True, asked.caption, *numbers, name, more)

        def preview() -> Any:
            return result_value(painting.preview(pipe, asked))

        def images() -> tuple[Any, ...]:
            result = painting.generate(pipe, asked)
            result = replace(result, warnings=[*warnings, *result.warnings])
            return result_value(result), asked.seed

        if asked.size is None and len(pipe.sizes) > 1:
            yield reporting_errors(preview, gr.skip()), gr.skip(), *controls
        yield *reporting_errors(images, (gr.skip(),) * 2), *controls

    def on_save(self, event: gr.EventData) -> Any:
        """The images of a link again, with files."""

        def work() -> Any:
            found, count = read_link(str(event.query))
            pipe = self.pipes[self.pipes.name_of(found)[0]]
            return result_value(painting.generate(pipe, ImageRequest.of(found, count, pipe)))

        return reporting_errors(work, gr.skip())


def _request(
    caption: str,
    count: float | None,
    seed: float | None,
    truncation: float | None,
    size: str | None,
    strength: float | None,
    variation_seed: float | None,
) -> ImageRequest:
    single = int(size) if size not in (None, ALL_STAGES) else None
    return ImageRequest(caption, count, seed, truncation, single, strength, variation_seed)


def _connect(events: _Events, entry: _Entry, controls: _Controls, output: Any) -> None:
    seed, keep, inputs = controls.seed, controls.keep, controls.inputs
    used, previous = gr.State(None), gr.State(events.pipes.names[0])
    painted, asked = [output, seed, used], [*inputs, keep, used]
    slow: dict[str, Any] = {**GENERATION, "api_visibility": "private", "show_progress_on": output}
    hidden: dict[str, Any] = slow | {"show_progress": "hidden"}
    presses = [entry.button.click]
    if entry.examples is not None:
        presses.append(entry.caption.submit)
    holding: dict[str, Any] = {"js": read_static("waits.js")}  # live images wait until these events have ended
    held = [gr.on(presses, events.on_paint, asked, painted, trigger_mode="always_last", **holding, **slow)]
    edited = [controls.count.input, controls.truncation.input, seed.input, controls.size.input]
    edited += [controls.strength.input, controls.variation_seed.input]
    rolled = controls.roll.click(None, None, seed, js=read_static("roll_seed.js"), **QUICK)
    chosen_best = controls.best.click(events.on_best, inputs, seed, js=read_static("new_step.js"), **hidden)
    changes = [partial(gr.on, edited), output.typed, rolled.then, chosen_best.then]
    saved = output.save(events.on_save, None, output, **holding, **hidden)
    saved.success(None, js=read_static("save_all.js"))
    if entry.examples is not None:
        chosen = entry.examples.choose(events.on_choose, None, entry.caption, **QUICK)
        held.append(chosen.then(events.on_paint, asked, painted, **holding, **slow))
        if len(events.pipes.names) > 1:
            switched = controls.checkpoint.input(
                events.on_checkpoint,
                [controls.checkpoint, previous, controls.truncation],
                [entry.examples, controls.size, controls.truncation, previous],
                **hidden,
            )
            changes.append(switched.then)
    for change in changes:
        change(None, [entry.live, *inputs], None, js=read_static("edited.js"))
    fields = [controls.count, seed, controls.truncation, controls.size, controls.strength, controls.variation_seed]
    restored = [output, used, controls.checkpoint, keep, entry.caption, *fields, previous, controls.more]
    opened = output.open(events.on_open, None, restored, trigger_mode="always_last", **holding, **hidden)
    uploaded = controls.open_png.upload(events.on_open_png, controls.open_png, restored, **holding, **hidden)
    for event in [*held, saved, opened, uploaded]:
        event.then(None, js=read_static("waits_no_more.js"))
    seed.input(None, None, keep, js="() => true", **QUICK)  # a seed that was typed is kept
