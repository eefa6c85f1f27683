"""Memorisation: distances of generated images to their nearest training photos, in features and in pixels.

Held-out photos are the reference: a copy is closer to a training photo than new photos of the same kind are. Mirror
images of training photos count as training photos, as training flips images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stackgan.evaluation.caption_choice import spread_rows
from stackgan.evaluation.context import Context
from stackgan.evaluation.features import FeatureNetwork
from stackgan.evaluation.findings import Findings, NotMeasured, Sheet, Table, percent
from stackgan.evaluation.image_sets import ImageSet
from stackgan.evaluation.metrics import nearest
from stackgan.evaluation.page import histogram
from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import LEVELS_PER_UNIT

__all__ = [
    "Memorisation",
    "Nearness",
    "Neighbours",
    "conclusion",
    "memorisation",
    "nearness_of",
    "neighbour_sheet",
    "neighbours",
    "section",
]

PIXEL_SIDE = 32  # px for distances in pixels
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75)


def section(context: Context) -> Findings:
    """Distances of generated images and held-out photos to the nearest training photos."""
    if context.train is None or context.held_out is None:
        raise NotMeasured("it needs a training split and another split for comparison")
    network = context.networks[0]
    found = memorisation(context.generated, context.train, context.held_out, network)
    counts = len(context.generated), len(context.held_out)
    rows, drawings = [], []
    for space in found.generated:
        own, other = found.generated[space], found.held_out[space]
        near = nearness_of(own, other)
        rows.append((f"{space}: generated", *(f"{v:.4g}" for v in near.generated.values()), percent(near.below_5)))
        rows.append((f"{space}: held-out", *(f"{v:.4g}" for v in near.held_out.values()), percent(0.05)))
        series = {"held-out photos": other.distance.double().numpy(), "generated": own.distance.double().numpy()}
        drawings.append(histogram(series, f"distance to the nearest training photo, {space}"))
    header = ("", *(f"{100 * level:.0f} % quantile" for level in LEVELS), "below held-out's 5 %")
    columns = "Generated, nearest in features, nearest in pixels:"
    closest, spread = (
        neighbour_sheet(found, context.generated, context.train, closest=only) for only in (True, False)
    )
    return Findings(
        figures={"network": network.name, "pixel_side": PIXEL_SIDE, **found.figures()},
        protocol=f"Euclidean distance of {counts[0]:,} generated images and of {counts[1]:,} held-out photos "
        f"to the nearest of {len(context.train):,} training photos and their mirror images, in {network.name} "
        f"features and in pixels at {PIXEL_SIDE} px (root mean square, levels of 255). Below the images: the "
        "percentile of their distance among those of held-out photos (0 %: closer than all of them).",
        tables=[Table(header, rows)],
        conclusion=conclusion(nearness_of(found.generated["features"], found.held_out["features"]), *counts),
        sheets=[
            Sheet("nearest-closest", f"The images closest to a training photo. {columns}", closest),
            Sheet("nearest-unpicked", f"Images evenly spaced over all, not selected. {columns}", spread),
        ],
        drawings=drawings,
    )


@dataclass(frozen=True)
class Nearness:
    """Distances to the nearest training photo.

    Attributes:
        generated, held_out: quantiles of the distances (keys ``1 %`` … ``75 %``).
        below_1, below_5: shares (0–1) of generated images closer than the closest 1 % and 5 % of held-out photos:
            0.01 and 0.05 if they have the distribution of new photos.
        mirrored: share of generated images whose nearest photo is a mirror image.
    """

    generated: dict[str, float]
    held_out: dict[str, float]
    below_1: float
    below_5: float
    mirrored: float


@dataclass(frozen=True)
class Neighbours:
    """Distance (N,) to the nearest training photo, its row, and whether it is that photo's mirror image."""

    distance: Tensor
    row: Tensor
    mirrored: Tensor


def neighbours(images: Tensor, train: Tensor, train_mirrored: Tensor) -> Neighbours:
    """Nearest rows of ``train`` (M, D) and ``train_mirrored`` (M, D) to each row of ``images`` (N, D)."""
    distance, row = nearest(images, torch.cat((train, train_mirrored)))
    return Neighbours(distance, row % len(train), row >= len(train))


def nearness_of(generated: Neighbours, held_out: Neighbours) -> Nearness:
    """Compare the distances of generated images with those of held-out photos."""
    own, other = generated.distance.double().numpy(), held_out.distance.double().numpy()
    low, few = np.quantile(other, (0.01, 0.05))
    return Nearness(
        generated=_quantiles(own),
        held_out=_quantiles(other),
        below_1=float((own < low).mean()),
        below_5=float((own < few).mean()),
        mirrored=float(generated.mirrored.double().mean()),
    )


def conclusion(found: Nearness, generated: int, held_out: int) -> str:
    """Summary as text, with a tolerance of three standard errors of the 5 % quantile."""
    noise = 3 * (0.05 * 0.95 * (1 / generated + 1 / held_out)) ** 0.5
    if held_out < 100 or generated < 100:
        return "Too few images for a conclusion: it needs 100 generated and 100 held-out ones."
    measured = (
        f"{percent(found.below_5)} of the generated images are closer to a training photo than the closest 5 % of "
        "held-out photos are (expected for new photos: 5 %)."
    )
    if found.below_5 <= 0.05 + noise:
        return f"No sign of copying: {measured}"
    return (
        f"Check the sheet: {measured} Plain and blurred images are close to all photos; copies appear as pairs of "
        "the same photo."
    )


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{level:.0%}".replace("%", " %"): float(np.quantile(values, level)) for level in LEVELS}


@dataclass(frozen=True)
class Memorisation:
    """Neighbours of generated and held-out images by space (``features``, ``pixels``)."""

    generated: dict[str, Neighbours]
    held_out: dict[str, Neighbours]

    def figures(self) -> dict[str, dict[str, object]]:
        return {space: asdict(nearness_of(self.generated[space], self.held_out[space])) for space in self.generated}


def memorisation(generated: ImageSet, train: ImageSet, held_out: ImageSet, network: FeatureNetwork) -> Memorisation:
    """Nearest training photos of all generated and held-out images, in the network's features and in pixels."""
    photos = [train.features(network, mirrored).features for mirrored in (False, True)]
    pixels = _pixels(train)
    mirrored = pixels.view(len(train), 3, PIXEL_SIDE, PIXEL_SIDE).flip(3).flatten(1)
    found: dict[str, dict[str, Neighbours]] = {"generated": {}, "held_out": {}}
    for name, images in (("generated", generated), ("held_out", held_out)):
        found[name]["features"] = neighbours(images.features(network).features, *photos)
        found[name]["pixels"] = neighbours(_pixels(images), pixels, mirrored)
    return Memorisation(found["generated"], found["held_out"])


def _pixels(images: ImageSet) -> Tensor:
    """(N, 3 · 32²), scaled so that Euclidean distances are root mean squares in levels of 255."""
    return images.small(PIXEL_SIDE) * (LEVELS_PER_UNIT / (3 * PIXEL_SIDE**2) ** 0.5)


def neighbour_sheet(
    found: Memorisation, generated: ImageSet, train: ImageSet, *, closest: bool, count: int = 18
) -> Image.Image:
    """Sheet of generated images, each with its nearest training photos in features and in pixels.

    Below each group: the percentiles of its distances among those of held-out photos (0: closer than all of them).

    Args:
        closest: the images closest to a training photo in features; otherwise evenly spaced ones, not selected.
    """
    if closest:
        chosen = found.generated["features"].distance.argsort(stable=True)[:count].tolist()
    else:
        chosen = spread_rows(len(generated), count).tolist()
    groups = []
    for own, row in zip(generated.rows(chosen), chosen, strict=True):
        shown, words = [own], []
        for space, theirs in found.generated.items():
            photo = train.rows([int(theirs.row[row])])[0]
            shown.append(photo[:, ::-1] if theirs.mirrored[row] else photo)
            rank = float((found.held_out[space].distance < theirs.distance[row]).double().mean())
            words.append(f"{space} {rank:.0%}".replace("%", " %"))
        groups.append((f"image {row} | " + " | ".join(words), shown))
    return caption_sheet(groups, columns=3, side=min(128, max(96, generated.side)))
