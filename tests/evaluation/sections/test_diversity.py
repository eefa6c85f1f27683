"""Diversity over seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.image_sets import (
    real_images,
)
from stackgan.evaluation.image_source import ImageSource
from stackgan.evaluation.sections.diversity import diversity
from tests.tiny import tiny_pipeline


def test_diversity_is_zero_for_a_generator_that_ignores_its_seed(painted: Path) -> None:
    pipe = tiny_pipeline(stages=1)
    real = real_images(PreparedFolder.open(painted).splits["test"], 60, 64)
    e = pipe.encode(["a red bird", "a bird"])
    assert diversity(ImageSource(pipe), e, real) > 0
    generate = pipe.generate
    pipe.generate = lambda e, seeds, *more: generate(e, [0] * len(seeds), *more)  # type: ignore[method-assign]
    assert diversity(ImageSource(pipe), e, real) == pytest.approx(0, abs=1e-6)
