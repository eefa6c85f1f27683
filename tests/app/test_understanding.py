"""Numbers and pictures of a caption."""

import numpy as np
import pytest
import torch

from stackgan.app.understanding import LEVELS, SAMPLES, code_numbers, domain, pictures
from stackgan.captions.word_statistics import CaptionStatistics
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS, tiny_pipeline


def test_kl_is_that_of_the_two_gaussians(pipe: StackGANPipeline) -> None:
    found = code_numbers(pipe, CAPTIONS[0])
    own = torch.distributions.Normal(torch.tensor(found.mu), torch.tensor(found.sigma))
    wanted = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(torch.tensor(found.kl), wanted, atol=1e-5) and max(found.kl) > 1e-3
    assert found.total == pytest.approx(float(wanted.sum()), abs=1e-4)
    ordered = [found.kl[dim] for dim in found.order]
    assert ordered == sorted(found.kl, reverse=True)
    half = found.for_half
    assert sum(ordered[:half]) >= found.total / 2 > sum(ordered[: half - 1])


def test_pictures_are_those_of_the_pipeline(able: StackGANPipeline) -> None:
    found = pictures(able, CAPTIONS[0], 3)
    assert len(found.samples) == SAMPLES and len(found.levels) == len(LEVELS)
    shown = {picture.label: np.asarray(picture.image, int) for picture in found.modules}
    assert list(shown) == [
        "all modules",
        "c at its mean",
        "z at its mean",
        "c and z at their means",
        "z from N(0, I)",
        "no caption: c from p(c)",
        "no caption: c from N(0, I)",
    ]
    whole, mean = (
        np.asarray(able(CAPTIONS[0], seeds=3, latent=latent).images[0], int) for latent in ("prior", "mean")
    )
    assert np.abs(shown["all modules"] - whole).max() <= 1
    assert np.abs(shown["c and z at their means"] - mean).max() <= 1
    free = np.asarray(able.sample(3).images[0], int)
    assert np.abs(shown["no caption: c from p(c)"] - free).max() <= 1
    one = np.asarray(found.levels[LEVELS.index(1.0)].image, int)
    assert np.abs(one - whole).max() <= 1 and np.abs(np.asarray(found.samples[0].image, int) - whole).max() <= 1
    distances = [picture.distance for picture in found.levels]
    assert distances[0] == 0 and distances == sorted(distances)


def test_the_domain_is_that_of_the_word_statistics() -> None:
    pipe = tiny_pipeline(stages=1)
    assert domain(pipe, CAPTIONS[0]).inside is None
    pipe.statistics = CaptionStatistics(1000, {"red": 500, "bird": 900}, (-3.0, -2.0))
    near, far = domain(pipe, "Red bird"), domain(pipe, "blue tractor")
    assert near.inside and far.inside is False and near.threshold == pytest.approx(-2)
    assert near.words == [("red", 500), ("bird", 900)] and far.words == [("blue", 0), ("tractor", 0)]
    assert domain(pipe, "12").inside is None
    nearest = domain(pipe, pipe.examples[1]).nearest
    assert nearest[0][0] == pipe.examples[1] and nearest[0][1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("seed", [None, -1, 0.5, float("nan"), float("inf"), 1e30])
def test_a_wrong_seed_is_refused(pipe: StackGANPipeline, seed: float | None) -> None:
    with pytest.raises(ValueError, match="The seed must be an integer from 0"):
        pictures(pipe, CAPTIONS[0], seed)


def test_a_caption_is_required(pipe: StackGANPipeline) -> None:
    for caption, message in ((" \n", "Write a caption first"), ("a" * 3000, "3000 characters long")):
        for analyse in (code_numbers, domain):
            with pytest.raises(ValueError, match=message):
                analyse(pipe, caption)
