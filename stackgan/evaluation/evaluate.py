"""Evaluate a checkpoint on a prepared folder: a report of metrics, image sheets and evaluation protocols.

:data:`SECTIONS` is the table of contents, in order. A section is a function from the shared :class:`Context` to its
:class:`Findings`; one that cannot be measured raises :class:`NotMeasured`, and the report contains the reason. A new
metric is a file in ``sections/`` and a row here.

The keys of report.json are a file format and keep their names even if the code has other terms (``pictures``: images,
``painted``: generated images, ``reader_on_real``: accuracy of the attribute classifier).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stackgan.evaluation.context import Context, open_context
from stackgan.evaluation.findings import Findings, NotMeasured
from stackgan.evaluation.image_sets import clear_others
from stackgan.evaluation.report import print_findings, write_report
from stackgan.evaluation.sections import (
    colour_agreement,
    colour_words,
    contact_sheet,
    distances,
    diversity,
    editing,
    memorisation,
    out_of_domain,
    realism,
    reconstruction,
    samples,
    speed,
    text_agreement,
)
from stackgan.evaluation.settings import EvaluationSettings
from stackgan.version import __version__

__all__ = ["SECTIONS", "Section", "evaluate"]


@dataclass(frozen=True)
class Section:
    """A row of the table.

    Attributes:
        title: heading in the report.
        measure: computes the section; raises :class:`NotMeasured` with the reason if that is not possible.
        check: called before anything is generated, to detect errors early; raises ``ValueError`` or
            ``FileNotFoundError``.
    """

    title: str
    measure: Callable[[Context], Findings]
    check: Callable[[Context], None] | None = None


# By key in report.json.
SECTIONS: dict[str, Section] = {
    "samples": Section("64 samples, not selected", samples.section),
    "distances": Section("Distances to real images", distances.section),
    "best_and_worst": Section("Lowest and highest realism scores", realism.section),
    "memorisation": Section("Memorisation of training photos", memorisation.section),
    "colours": Section("Agreement of named colours", colour_agreement.section),
    "text_agreement": Section("Text–image agreement", text_agreement.section, text_agreement.check),
    "colour_words": Section("Effect of one colour word", colour_words.section),
    "diversity": Section("Diversity over seeds", diversity.section),
    "posterior": Section("Reconstruction of photos", reconstruction.section),
    "editing": Section("Editing of photos", editing.section),
    "captions_against_sentences": Section("Out-of-domain captions", out_of_domain.section, out_of_domain.check),
    "contact_sheet": Section("Contact sheet", contact_sheet.section),
    "speed": Section("Speed", speed.section),
}


def evaluate(checkpoint: str | Path, data: Path, out: Path, settings: EvaluationSettings | None = None) -> int:
    """Generate images for captions of the split, compute and print the metrics, and write the report.

    Images and features are stored in ``out``/cache while they are computed, so that the same command resumes an
    interrupted evaluation. That folder may be deleted afterwards.

    Args:
        checkpoint: a folder or name (:func:`stackgan.io.checkpoint_names.find_checkpoint`).
        data: a prepared folder of the checkpoint's size.
        out: folder of report.json, report.html, report.md and the sheets.

    Raises:
        ValueError: the split does not exist, its size is not the checkpoint's, or there is no flow p(c) for
            out-of-domain captions.
        FileNotFoundError: weights are missing and cannot be downloaded.
    """
    context = open_context(checkpoint, data, out, settings or EvaluationSettings())
    for section in SECTIONS.values():
        if section.check is not None:
            section.check(context)
    _generate(context)
    found: dict[str, tuple[str, Findings]] = {}
    missing: dict[str, tuple[str, str]] = {}
    for name, section in SECTIONS.items():
        try:
            found[name] = section.title, section.measure(context)
        except NotMeasured as reason:
            missing[name] = section.title, str(reason)
    write_report(out, _facts(context), found, missing, _subtitle(context, checkpoint, data))
    print_findings(found, missing)
    print(f"\nreport in {out / 'report.html'}; {_size_of(context.cache)} of images and features in {context.cache}")
    return 0


def _generate(context: Context) -> None:
    """Generate all image sets that are not stored yet; delete stored ones of other checkpoints or settings."""
    sets = [context.generated, *context.without_text.values()]
    context.cache.mkdir(parents=True, exist_ok=True)
    clear_others(context.cache, sets)
    for images in sets:
        images.generate_all()


def _facts(context: Context) -> dict[str, Any]:
    settings, pipe = context.settings, context.pipe
    return {
        "checkpoint": pipe.fingerprint,
        "data": context.prepared.identity,
        "kind": context.prepared.kind,
        "split": settings.split,
        "pictures": settings.count,
        "side": context.side,
        "seed": settings.seed,
        "truncation": settings.truncation,
        "captions": len(set(context.captions())) if pipe.conditional else 0,
        "reference_photos": len(context.split),
        "flip_reference": settings.flip_reference,
        "stackgan": __version__,
        "torch": torch.__version__,
    }


def _subtitle(context: Context, checkpoint: str | Path, data: Path) -> str:
    settings = context.settings
    text = f"{Path(checkpoint).resolve().name}: {settings.count:,} images of {context.side} px for captions of "
    text += f"{data.resolve().name}/{settings.split}"
    return text if settings.truncation == 1 else f"{text}, truncation {settings.truncation:g}"


def _size_of(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    return f"{size / 1024:.1f} GiB" if size >= 1024 else f"{size:.0f} MiB"
