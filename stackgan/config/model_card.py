"""Model cards: the README.md of a checkpoint, from its configuration and facts.

A card begins with the hub's metadata (YAML front matter). Its section "Measured" has the figures of
:class:`stackgan.config.facts.MeasuredFacts`; :func:`with_measured` rewrites that section alone, so that cards written
by hand keep their text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stackgan.config.facts import CheckpointFacts, TrainingFacts
from stackgan.config.root import Config

__all__ = ["model_card", "with_measured", "with_metadata", "with_section"]

HEADING = "## Measured"
NONE_MEASURED = (
    "Nothing was measured. `stackgan evaluate --checkpoint CHECKPOINT --data DATA --out REPORT` measures, and "
    "`stackgan publish CHECKPOINT OUT --report REPORT` writes the figures here."
)


def model_card(config: Config, facts: CheckpointFacts) -> str:
    """Markdown text of a card with all that is known: data, text encoder, recipe, training and measured figures."""
    sizes = ", ".join(map(str, config.tree.sizes))
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(config, facts))
    card = f"""# {config.preset} checkpoint

EMA generator of a StackGAN++ tree ({sizes} px), for `StackGANPipeline.from_pretrained` of the package `stackgan`.

| | |
|---|---|
{rows}

{HEADING}

{NONE_MEASURED}

## Licence

The licence and the limits of use are those of the training data.
"""
    return with_metadata(with_measured(card, facts), config)


def _rows(config: Config, facts: CheckpointFacts) -> Iterator[tuple[str, str]]:
    if facts.data is not None:
        data = facts.data
        yield "data", f"{data.images} images, {data.captions} captions ({data.kind}), identity `{data.identity[:16]}`"
    if config.text.conditional:
        yield "text", f"`{config.text.encoder}`, {config.text.dim} dimensions"
    else:
        yield "text", "none: generates without captions"
    yield "recipe", f"preset `{config.preset}`; the whole configuration is in `config.json`"
    if facts.averaged:
        seen = ", ".join(_count(trained.images) for trained in facts.averaged)
        count = len(facts.averaged)
        yield "weights", f"mean of {count} checkpoints of one run (`stackgan average`), after {seen} images"
    elif facts.trained is not None:
        yield "trained", _training(facts.trained)
    if facts.started_from is not None:
        yield "started from", f"a checkpoint: {_training(facts.started_from)}"
    if facts.truncation is not None:
        yield "truncation", f"{facts.truncation:g} recommended"


def _training(trained: TrainingFacts) -> str:
    text = f"{_count(trained.images)} images seen in {_count(trained.steps)} steps"
    if trained.seconds is not None:
        text += f", {trained.seconds / 60:.0f} minutes"
    return text if trained.device is None else f"{text} on {trained.device}"


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else f"{number:,}"


def with_measured(card: str, facts: CheckpointFacts, *, append: bool = False) -> str:
    """The card with the measured figures of ``facts`` in its section "Measured".

    Args:
        append: add the section to a card without it; otherwise such a card is not changed.
    """
    blocks = []
    for measured in facts.measured:
        rows = "\n".join(f"| {name} | {value} |" for name, value in measured.figures.items())
        blocks.append(f"{measured.protocol}\n\n| figure | value |\n|---|---|\n{rows}")
    body = "\n\n".join(blocks) or NONE_MEASURED
    return with_section(card, HEADING, body) if append or _section(HEADING).search(card) else card


def with_section(card: str, heading: str, body: str) -> str:
    """The card with this section, such as ``## Measured``: in its place, or at the end of a card without it."""
    text = f"{heading}\n\n{body.strip()}\n\n"
    if _section(heading).search(card):
        return _section(heading).sub(lambda _: text, card).rstrip() + "\n"
    return f"{card.rstrip()}\n\n{text}".strip() + "\n"


def _section(heading: str) -> re.Pattern[str]:
    return re.compile(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def with_metadata(card: str, config: Config) -> str:
    """The card with the hub's metadata in front of it; unchanged if it has its own."""
    if card.startswith("---\n"):
        return card
    task = "text-to-image" if config.text.conditional else "unconditional-image-generation"
    return f"---\nlibrary_name: stackgan\npipeline_tag: {task}\ntags:\n- stackgan\n- gan\n---\n\n{card}"
