"""Does a checkpoint paint its training photos? Nearest training photo of every picture, in features and in pixels.

Held-out photos are the yardstick: a picture that is copied lies nearer to a training photo than new photos of the
same kind do. Mirror images of the training photos count as training photos, since training mirrors them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stackgan.evaluation.features import Features
from stackgan.evaluation.image_sets import PictureSet, spread_rows
from stackgan.evaluation.metrics import nearest
from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import LEVELS_PER_UNIT

__all__ = ["Nearness", "Neighbours", "nearness_of", "neighbour_sheet", "neighbours", "verdict"]

PIXEL_SIDE = 32  # px at which pictures are compared pixel by pixel
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Nearness:
    """Distances to the nearest training photo.

    Attributes:
        generated, held_out: quantiles of the distances (keys ``1 %`` … ``75 %``).
        below_1, below_5: shares (0–1) of generated pictures nearer than the nearest 1 % and 5 % of held-out photos:
            0.01 and 0.05 where pictures are like new photos.
        mirrored: share of generated pictures whose nearest photo is a mirror image.
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


def neighbours(pictures: Tensor, train: Tensor, train_mirrored: Tensor) -> Neighbours:
    """Nearest rows of ``train`` (M, D) and ``train_mirrored`` (M, D) to each row of ``pictures`` (N, D)."""
    distance, row = nearest(pictures, torch.cat((train, train_mirrored)))
    return Neighbours(distance, row % len(train), row >= len(train))


def nearness_of(generated: Neighbours, held_out: Neighbours) -> Nearness:
    """Compare the distances of generated pictures with those of held-out photos."""
    own, other = generated.distance.double().numpy(), held_out.distance.double().numpy()
    low, few = np.quantile(other, (0.01, 0.05))
    return Nearness(
        generated=_quantiles(own),
        held_out=_quantiles(other),
        below_1=float((own < low).mean()),
        below_5=float((own < few).mean()),
        mirrored=float(generated.mirrored.double().mean()),
    )


def verdict(found: Nearness, generated: int, held_out: int) -> str:
    """What the shares say, in words; three standard errors of the 5 % quantile are allowed for."""
    noise = 3 * (0.05 * 0.95 * (1 / generated + 1 / held_out)) ** 0.5
    if held_out < 100 or generated < 100:
        return "Too few pictures for a verdict: it takes 100 generated and 100 held-out ones."
    measured = (
        f"{100 * found.below_5:.1f} % of the generated pictures are nearer to a training photo than the nearest 5 % "
        "of held-out photos are (5 % is what new photos would give)."
    )
    if found.below_5 <= 0.05 + noise:
        return f"No sign of copying: {measured}"
    return (
        f"Look at the sheet: {measured} Plain and blurred pictures are near to everything; copies show as pairs that "
        "are the same photo."
    )


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{level:.0%}".replace("%", " %"): float(np.quantile(values, level)) for level in LEVELS}


@dataclass(frozen=True)
class Memorisation:
    """By space (``features``, ``pixels``): the neighbours of generated and of held-out pictures."""

    generated: dict[str, Neighbours]
    held_out: dict[str, Neighbours]

    def figures(self) -> dict[str, dict[str, object]]:
        return {space: asdict(nearness_of(self.generated[space], self.held_out[space])) for space in self.generated}


def memorisation(generated: PictureSet, train: PictureSet, held_out: PictureSet, network: Features) -> Memorisation:
    """Nearest training photos of all generated and held-out pictures, in the network's features and in pixels."""
    photos = [train.features(network, mirrored).features for mirrored in (False, True)]
    pixels = _pixels(train)
    mirrored = pixels.view(len(train), 3, PIXEL_SIDE, PIXEL_SIDE).flip(3).flatten(1)
    found: dict[str, dict[str, Neighbours]] = {"generated": {}, "held_out": {}}
    for name, pictures in (("generated", generated), ("held_out", held_out)):
        found[name]["features"] = neighbours(pictures.features(network).features, *photos)
        found[name]["pixels"] = neighbours(_pixels(pictures), pixels, mirrored)
    return Memorisation(found["generated"], found["held_out"])


def _pixels(pictures: PictureSet) -> Tensor:
    """(N, 3 · 32²), scaled so that Euclidean distances are root mean squares in levels of 255."""
    return pictures.small(PIXEL_SIDE) * (LEVELS_PER_UNIT / (3 * PIXEL_SIDE**2) ** 0.5)


def neighbour_sheet(
    found: Memorisation, generated: PictureSet, train: PictureSet, *, closest: bool, count: int = 18
) -> Image.Image:
    """Generated pictures, each beside its nearest training photo in features and in pixels.

    Under each group: in which percentile of held-out photos' distances its own lie (0: nearer than all of them).

    Args:
        closest: those nearest to a training photo in features; else evenly spread over all, not picked.
    """
    if closest:
        chosen = found.generated["features"].distance.argsort(stable=True)[:count].tolist()
    else:
        chosen = spread_rows(len(generated), count).tolist()
    groups = []
    for own, row in zip(generated.rows(chosen), chosen, strict=True):
        pictures, words = [own], []
        for space, theirs in found.generated.items():
            photo = train.rows([int(theirs.row[row])])[0]
            pictures.append(photo[:, ::-1] if theirs.mirrored[row] else photo)
            rank = float((found.held_out[space].distance < theirs.distance[row]).double().mean())
            words.append(f"{space} {rank:.0%}".replace("%", " %"))
        groups.append((f"painted {row} | " + " | ".join(words), pictures))
    return caption_sheet(groups, columns=3, side=min(128, max(96, generated.side)))
