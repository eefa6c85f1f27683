"""Realism scores: the images with the lowest and the highest scores."""

from __future__ import annotations

from PIL import Image

from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Sheet, percent
from stackgan.evaluation.metrics import realism
from stackgan.images.grid import caption_sheet

__all__ = ["section"]

EXTREMES = 16  # images on each sheet


def section(context: Context) -> Findings:
    """Sheets of the images with the lowest and the highest realism scores (:func:`metrics.realism`)."""
    network = context.networks[0]
    reference = context.reference_features(network)
    if len(reference) < 4:
        raise NotMeasured("it needs 4 photos for comparison")
    score = realism(context.generated.features(network).features, reference.features)
    order = score.argsort(descending=True, stable=True).tolist()
    inside = float((score >= 1).double().mean())
    return Findings(
        figures={"network": network.name, "inside": inside, "median": float(score.median())},
        protocol=f"Realism score (arXiv:1904.06991, section 5) in {network.name} features: position of an image "
        f"relative to the manifold of the {context.split.name} photos, without the half with the larger balls. "
        f"Inside (1 or above): {percent(inside)}. The {EXTREMES} least and the {EXTREMES} most realistic of "
        f"{context.count:,} images by that score.",
        sheets=[
            _sheet(context, "worst", "Lowest realism scores, the lowest first:", order[::-1][:EXTREMES]),
            _sheet(context, "best", "Highest realism scores, the highest first:", order[:EXTREMES]),
        ],
    )


def _sheet(context: Context, name: str, title: str, rows: list[int]) -> Sheet:
    images = [Image.fromarray(levels) for levels in context.generated.rows(rows)]
    labels = [f"seed {context.settings.seed + row}" for row in rows]
    if context.pipe.conditional:
        labels = context.labels(context.rows[rows])
    groups = [(label, [image]) for label, image in zip(labels, images, strict=True)]
    return Sheet(name, title, caption_sheet(groups, columns=8, side=max(128, min(context.side, 192))))
