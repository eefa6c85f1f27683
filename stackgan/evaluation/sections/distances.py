"""Distances between generated and real images in the features of a network.

For Inception these are FID, KID and Inception score, computed by torch-fidelity. For other networks the same
quantities are computed by :mod:`stackgan.evaluation.metrics` and reported under the network's name: they compare
models with each other, but not with published FIDs. Precision, recall, density and coverage keep their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from stackgan.evaluation.caption_choice import spread_rows
from stackgan.evaluation.context import Context
from stackgan.evaluation.features import FeatureNetwork, FeatureSet
from stackgan.evaluation.findings import Findings, Table
from stackgan.evaluation.inception import fidelity_figures
from stackgan.evaluation.metrics import (
    class_score,
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)

__all__ = ["distance_table", "distances", "section"]

MANIFOLD_MOST = 10_000  # images of either set for precision and recall
NEIGHBOURS, DENSE_NEIGHBOURS = 3, 5
SCORE_PARTS = 10


def section(context: Context) -> Findings:
    """Distances to the reference photos in every network, also for training photos and images without text."""
    figures: dict[str, Any] = {}
    tables, words, headlines = [], [], []
    for network in context.networks:
        reference = context.reference_features(network)
        generated = context.generated.features(network)
        columns = {"captions": distances(network, generated, reference)}
        for name, images in context.without_text.items():
            columns[name] = distances(network, images.features(network), reference)
        if context.train is not None and context.split.name != "train":
            columns["training photos"] = distances(network, context.train.features(network), reference)
        figures[network.name] = {"identity": network.identity, **columns}
        tables.append(distance_table(network, columns))
        words.append(_protocol(network, generated, reference, context.settings.flip_reference))
        first, label = next(iter(_labels(network).items()))
        headlines.append((label, f"{columns['captions'][first]:.4g}"))
    if any("training photos" in figures[network.name] for network in context.networks):
        words.append("The column of training photos shows the values of real images of another split.")
    if not any(network.inception for network in context.networks):
        words.append("FID, KID and Inception score: give --inception auto, or the file of the weights.")
    return Findings(figures=figures, protocol=" ".join(words), tables=tables, headlines=headlines)


def distances(network: FeatureNetwork, generated: FeatureSet, reference: FeatureSet) -> dict[str, Any]:
    """All metrics of a set of images relative to the reference.

    Keys: ``FID``, ``KID``, ``inception_score`` for Inception, otherwise ``frechet_distance``, ``kernel_distance``,
    ``class_score`` (for networks with classes); and ``precision``, ``recall``, ``density``, ``coverage`` with equal
    numbers of images of both (``manifold_pictures``), which need more than five.
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


def _labels(network: FeatureNetwork) -> dict[str, str]:
    """Labels of the metrics of :func:`distances`."""
    if network.inception:
        own = {"FID": "FID", "KID": "KID", "inception_score": "Inception score"}
    else:
        own = {
            "frechet_distance": f"Fréchet distance ({network.name} features)",
            "kernel_distance": f"Kernel distance ({network.name} features)",
            "class_score": f"Class score ({network.name} classes)",
        }
    return {**own, "precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"}


def distance_table(network: FeatureNetwork, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each metric, a column for each set of images."""
    rows = []
    for key, label in _labels(network).items():
        if any(key in figures for figures in columns.values()):
            rows.append((label, *(_shown(figures.get(key)) for figures in columns.values())))
    return Table(("", *columns), rows, title=f"{network.name} features")


def _protocol(network: FeatureNetwork, generated: FeatureSet, reference: FeatureSet, flips: bool) -> str:
    """Description of the measurement with one network."""
    dimensions = generated.features.shape[1]
    words = [
        f"{len(generated):,} generated images against {len(reference):,} reference images"
        + (" (photos and their mirror images)." if flips else " (mirror images of the photos: off)."),
        f"Preprocessing: {network.preprocessing}; photos: the centre crop of the stored image at the model's size.",
    ]
    if network.inception:
        words.append(
            "torch-fidelity's functions: FID of the 2048 pooled features; KID of 100 subsets, ± their standard "
            "deviation; Inception score of 10 parts, ± their standard deviation."
        )
    else:
        words.append(
            "These are not Inception features: the figures compare checkpoints with each other, but not with "
            "a published FID or KID. Kernel distance: all pairs of images; ± one standard error for other photos and "
            "images of these numbers (jackknife over both sets)."
        )
    words.append(
        f"Precision and recall: {NEIGHBOURS} neighbours; density and coverage: {DENSE_NEIGHBOURS}; as many generated "
        "as reference images, evenly spaced in each set."
    )
    if min(len(generated), len(reference)) <= dimensions:
        words.append(
            f"There are no more images than the {dimensions} feature dimensions: the Fréchet distance is biased "
            "upwards, and comparable only between equal numbers of images."
        )
    return " ".join(words)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        error = value.get("error", value.get("spread"))
        return f"{value['value']:.4g} ± {error:.2g}"
    return f"{value:.4g}"
