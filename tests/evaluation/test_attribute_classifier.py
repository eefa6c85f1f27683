"""The attribute classifier of painted birds, and comparisons of attributes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from data_prep.painted import (
    prepare_painted,
    recorded_bird,
)
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.attribute_classifier import (
    AttributeClassifier,
    load_or_train_attribute_classifier,
    train_attribute_classifier,
    true_attributes,
)
from stackgan.evaluation.image_sets import (
    Photos,
)
from stackgan.evaluation.sections.colour_agreement import classifier_accuracy


def test_the_classifier_learns_and_is_cached(painted: Path, tmp_path: Path) -> None:
    """480 training birds and a narrow network are far above chance; the default is reported with its accuracy."""
    classifier = train_attribute_classifier(count=480, epochs=8, width=8)
    photos = Photos(PreparedFolder.open(painted).splits["test"], 64)
    found = classifier_accuracy(classifier, photos)  # chance: 0.09 of colours, 0.25, 0.5 and 0.17 of the others
    assert found["named"] > 0.2 and found["background"] > 0.8 and found["facing"] > 0.65 and found["pose"] > 0.4
    cache = tmp_path / "classifier.safetensors"
    first = load_or_train_attribute_classifier(cache, count=64, epochs=1)
    again = load_or_train_attribute_classifier(cache, count=64, epochs=1)
    images = photos.shard(0, 4).float() / 127.5 - 1
    with torch.inference_mode():
        assert torch.equal(first(images), again(images))


def test_the_classifier_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="takes"):
        AttributeClassifier(4)(torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("edit") / "painted"
    prepare_painted(folder, count=2, seed=3, test_count=66, workers=1)
    return PreparedFolder.open(folder).splits["test"]


def test_readings_are_compared(split: PreparedSplit, tmp_path: Path) -> None:
    truth = true_attributes([recorded_bird(record.parameters) for record in split.records])
    assert truth.colours.shape == (66, 3) and truth.rolled(66).scene_agreement(truth)["tilt"] == 0
    leaning = dataclasses.replace(truth, tilt=truth.tilt + 3, scale=truth.scale * 1.1)
    found = leaning.scene_agreement(truth)
    assert found["tilt"] == pytest.approx(3) and found["scale"] == pytest.approx(0.1) and found["pose"] == 1
