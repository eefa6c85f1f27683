"""64 samples for evenly spaced captions with fixed seeds, not selected."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stackgan.evaluation.caption_choice import spread_rows
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Card, Findings, Sheet
from stackgan.evaluation.image_sets import images_of_captions
from stackgan.evaluation.image_source import ImageSource
from stackgan.images.grid import caption_sheet

__all__ = ["section"]

SAMPLES = 64


def section(context: Context) -> Findings:
    """64 evenly spaced captions of the split, seeds 0 to 63.

    Generated with the default truncation of the command line and the app, and also with that of the metrics if it
    differs.
    """
    pipe, split = context.pipe, context.split
    rows = spread_rows(len(split.captions), SAMPLES) if pipe.conditional else np.zeros(SAMPLES, np.int64)
    captions = context.labels(rows) if pipe.conditional else [f"seed {seed}" for seed in range(len(rows))]
    truncations = list(dict.fromkeys((pipe.truncation, context.source.truncation)))
    shown, sheets = [], []
    for name, truncation in zip(("samples", "samples-measured"), truncations, strict=False):
        images = images_of_captions(ImageSource(pipe, truncation), split, rows.tolist(), 0, None)
        levels = images.rows(range(len(rows)))
        groups = [(caption, [image]) for caption, image in zip(captions, levels, strict=True)]
        sheet = caption_sheet(groups, columns=8, side=max(128, min(context.side, 192)))
        sheets.append(Sheet(name, f"The same on one sheet, truncation {truncation:g}:", sheet, shown=False))
        shown.append(levels)
    words = f"truncation {truncations[0]:g}" + ", as the checkpoint recommends" * (len(truncations) > 1)
    return Findings(
        figures={"captions": captions, "truncation": truncations[0]},
        protocol=f"{len(rows)} captions evenly spaced in the {split.name} split, seeds 0 to {len(rows) - 1}, "
        f"{words}. Not selected.",
        cards=[Card(Image.fromarray(image), caption) for image, caption in zip(shown[0], captions, strict=True)],
        sheets=sheets,
    )
