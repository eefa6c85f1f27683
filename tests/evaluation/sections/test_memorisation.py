"""Memorisation: copies are found, new images are not reported as copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.features import pyramid_features
from stackgan.evaluation.image_sets import (
    GeneratedImages,
    Photos,
)
from stackgan.evaluation.sections.memorisation import (
    conclusion,
    memorisation,
    nearness_of,
    neighbour_sheet,
    neighbours,
)


def pictures_of(levels: NDArray[np.uint8]) -> GeneratedImages:
    """An image set that returns these images (N, s, s, 3)."""

    def paint(start: int, stop: int) -> Tensor:
        return torch.from_numpy(levels[start:stop].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1

    return GeneratedImages("copies", len(levels), levels.shape[1], paint, lambda start, stop: None, None)


def test_copies_are_found_and_new_images_are_not_reported(many_birds: PreparedFolder) -> None:
    network = pyramid_features()
    train = Photos(many_birds.splits["train"], 64)
    test = Photos(many_birds.splits["test"], 64)
    held_out = pictures_of(test.rows(range(120)))
    noise = np.random.default_rng(0).normal(0, 4, (120, 64, 64, 3))
    copies = np.clip(train.rows(range(120)) + noise, 0, 255).astype(np.uint8)
    copies[60:] = copies[60:, :, ::-1]  # half of them mirrored

    found = memorisation(pictures_of(copies), train, held_out, network)
    for space in ("features", "pixels"):
        near = nearness_of(found.generated[space], found.held_out[space])
        assert found.generated[space].row.tolist() == list(range(120))
        assert near.below_1 > 0.95 and near.mirrored == 0.5
        assert near.generated["75 %"] < near.held_out["5 %"]
    said = conclusion(nearness_of(found.generated["features"], found.held_out["features"]), 120, 120)
    assert said.startswith("Check the sheet")
    sheet = neighbour_sheet(found, pictures_of(copies), train, closest=True, count=4)
    assert sheet.width > 6 * 96
    shown = np.asarray(sheet).astype(int)
    painted, nearest = shown[6:102, 6:102], shown[6:102, 6 + 98 : 6 + 98 + 96]  # the first group's first two
    assert np.abs(painted - nearest).mean() < 6  # a copy is shown beside its original, mirrored if necessary

    new = pictures_of(test.rows(range(120, 240)))
    near = nearness_of(*(side["features"] for side in vars(memorisation(new, train, held_out, network)).values()))
    assert near.below_5 < 0.2 and conclusion(near, 120, 120).startswith("No sign of copying")
    assert "Too few" in conclusion(near, 50, 120)


def test_neighbours_explicitly() -> None:
    train, mirrored = torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([[5.0, 5.0], [0.0, 9.0]])
    found = neighbours(torch.tensor([[1.0, 0.0], [0.0, 8.0], [5.0, 5.0]]), train, mirrored)
    assert found.distance.tolist() == [1, 1, 0] and found.row.tolist() == [0, 1, 0]
    assert found.mirrored.tolist() == [False, True, True]
    near = nearness_of(found, found)
    assert near.mirrored == pytest.approx(2 / 3) and near.generated == near.held_out
    assert near.generated["50 %"] == 1
