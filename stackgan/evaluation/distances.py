"""Distances of generated pictures to real ones in a network's features, under the name that the network earns.

Inception's are FID, KID and Inception score, computed by torch-fidelity. Any other network's are the same quantities
under its own name, computed by :mod:`stackgan.evaluation.metrics`: they rank models among each other and stand beside
nothing published. Precision, recall, density and coverage are never called after a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from stackgan.evaluation.features import Described, Features
from stackgan.evaluation.image_sets import spread_rows
from stackgan.evaluation.inception import fidelity_figures
from stackgan.evaluation.metrics import (
    class_score,
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from stackgan.evaluation.report import Table

__all__ = ["distance_protocol", "distance_table", "distances", "labels"]

MANIFOLD_MOST = 10_000  # pictures of either side for precision and recall
NEIGHBOURS, DENSE_NEIGHBOURS = 3, 5
SCORE_PARTS = 10


def distances(network: Features, generated: Described, reference: Described) -> dict[str, Any]:
    """Every figure of one set of pictures against the reference.

    Keys: ``FID``, ``KID``, ``inception_score`` for Inception, else ``frechet_distance``, ``kernel_distance``,
    ``class_score`` (for networks with classes); and ``precision``, ``recall``, ``density``, ``coverage`` of equally
    many pictures of both (``manifold_pictures``), which need more than five.
    """
    if network.inception:
        figures = fidelity_figures(generated, reference)
    else:
        figures = {
            "frechet_distance": frechet_distance(generated.features, reference.features),
            "kernel_distance": asdict(kernel_distance(generated.features, reference.features)),
        }
        if generated.log_probs is not None and len(generated) >= SCORE_PARTS:
            figures["class_score"] = asdict(class_score(generated.log_probs, SCORE_PARTS))
    count = min(len(generated), len(reference), MANIFOLD_MOST)
    if count > DENSE_NEIGHBOURS:
        own, real = (torch.as_tensor(spread_rows(len(side), count)) for side in (generated, reference))
        pair = generated.features[own], reference.features[real]
        figures["manifold_pictures"] = count
        figures["precision"], figures["recall"] = precision_recall(*pair, NEIGHBOURS)
        figures["density"], figures["coverage"] = density_coverage(*pair, DENSE_NEIGHBOURS)
    return figures


def labels(network: Features) -> dict[str, str]:
    """What each figure of :func:`distances` is called."""
    if network.inception:
        own = {"FID": "FID", "KID": "KID", "inception_score": "Inception score"}
    else:
        own = {
            "frechet_distance": f"Fréchet distance ({network.name} features)",
            "kernel_distance": f"Kernel distance ({network.name} features)",
            "class_score": f"Class score ({network.name} classes)",
        }
    return {**own, "precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"}


def distance_table(network: Features, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each figure, a column for each set of pictures."""
    rows = []
    for key, label in labels(network).items():
        if any(key in figures for figures in columns.values()):
            rows.append((label, *(_shown(figures.get(key)) for figures in columns.values())))
    return Table(("", *columns), rows, title=f"{network.name} features")


def distance_protocol(network: Features, generated: int, reference: int, dimensions: int, flips: bool) -> str:
    """How the figures of one network were taken, in words."""
    words = [
        f"{generated:,} generated pictures against {reference:,} reference pictures"
        + (" (photos and their mirror images)." if flips else " (mirror images of the photos: off)."),
        f"Preprocessing: {network.preprocessing}; photos: the middle of the stored picture at the model's size.",
    ]
    if network.inception:
        words.append(
            "torch-fidelity's functions: FID of the 2048 pooled features; KID of 100 subsets, ± their spread; "
            "Inception score of 10 parts, ± their spread."
        )
    else:
        words.append(
            "These are not Inception features: the figures rank checkpoints against each other and must not be put "
            "beside a published FID or KID. Kernel distance: mean of 50 subsets of up to 500, ± its standard error."
        )
    words.append(
        f"Precision and recall: {NEIGHBOURS} neighbours; density and coverage: {DENSE_NEIGHBOURS}; as many generated "
        "as reference pictures, evenly picked."
    )
    if min(generated, reference) <= dimensions:
        words.append(
            f"There are no more pictures than the {dimensions} feature dimensions: the Fréchet distance is biased "
            "upwards, and comparable at these very numbers of pictures alone."
        )
    return " ".join(words)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        error = value.get("error", value.get("spread"))
        return f"{value['value']:.4g} ± {error:.2g}"
    return f"{value:.4g}"
