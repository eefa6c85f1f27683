"""Text–image agreement: R-precision on cases with a known result, distractors, figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.image_text_scorers import (
    CompactScorer,
)
from stackgan.evaluation.sections.text_agreement import distractors, r_precision, text_agreement_figures
from stackgan.images.pixels import centre_crops
from tests.tiny import tiny_encoder


def all_others(count: int) -> Any:
    return np.array([[j for j in range(count) if j != i] for i in range(count)])


def test_r_precision_of_right_permuted_constant_and_random() -> None:
    eye = torch.eye(100)
    assert r_precision(eye, eye, all_others(100)) == 1.0
    assert r_precision(3 * eye, 0.1 * eye, all_others(100)) == 1.0  # cosine: independent of norms
    assert r_precision(eye.roll(1, 0), eye, all_others(100)) == 0.0
    assert r_precision(torch.ones(100, 7), torch.ones(100, 7), all_others(100)) == pytest.approx(0.01)
    generator = torch.Generator().manual_seed(0)
    pictures, captions = (torch.randn(4000, 8, generator=generator) for _ in range(2))
    shuffled = np.random.default_rng(0).integers(0, 4000, (4000, 99))
    assert r_precision(pictures, captions, shuffled) == pytest.approx(0.01, abs=0.005)


def test_r_precision_counts_one_tie_half_and_skips_what_is_not_there() -> None:
    captions = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.5, 0.5]])
    pictures = torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    assert r_precision(pictures[:1], captions, np.array([[1, 2]])) == 0.5
    assert r_precision(pictures[:1], captions, np.array([[2, -1]])) == 1.0
    listed = np.array([[1, 2], [3, -1], [-1, -1]])  # a tie; the best; no distractors
    assert r_precision(pictures, captions, listed, np.array([0, 2, 3])) == 0.75
    for wrong in (np.full((1, 2), -1), np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match="distractor"):
            r_precision(pictures[:1], captions, wrong)
    with pytest.raises(ValueError, match=r"give \(N, T\) and \(M, T\)"):
        r_precision(pictures[:, :1], captions, all_others(3))


def test_r_precision_is_the_definition() -> None:
    """Comparison with loops over images and captions."""
    generator = torch.Generator().manual_seed(3)
    captions = torch.randn(40, 5, generator=generator)
    pictures = captions + 1.5 * torch.randn(40, 5, generator=generator)
    others = np.random.default_rng(1).permuted(all_others(40), axis=1)[:, :9]
    right = 0
    for i in range(40):
        cosine = [float(F.cosine_similarity(pictures[i], captions[j], dim=0)) for j in (i, *others[i])]
        right += cosine[0] > max(cosine[1:])
    assert 0.1 < right / 40 < 0.9 and r_precision(pictures, captions, others) == pytest.approx(right / 40)


def test_distractors_are_other_images_captions(birds: PreparedSplit) -> None:
    rows = np.array([0, 4, 16, 24])  # of photos 0, 1, 5, 8
    photo, species = rows // 3, np.array([0, 0, 1, 2])
    found = distractors(birds, rows, same_species=False, seed=0, count=10)
    assert found.shape == (4, 10) and (found >= 0).all()
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert (found // 3 != photo[:, None]).all()
    near = distractors(birds, rows, same_species=True, seed=0, count=10)
    assert (near >= 0).sum(1).tolist() == [10, 10, 6, 0]
    numbers = birds.species_numbers()
    for row, kind in zip(near, species, strict=True):
        assert (numbers[row[row >= 0] // 3] == kind).all()
    assert (distractors(birds, rows, same_species=False, seed=0, count=10) == found).all()
    assert (distractors(birds, rows, same_species=False, seed=1, count=10) != found).any()


def test_captions_of_equal_meaning_are_no_distractors(birds: PreparedSplit) -> None:
    same = distractors(birds, np.array([2]), same_species=False, seed=0)  # "A  bird.", a caption of every photo
    assert (same >= 0).sum() == 16 and not {row % 3 for row in same[same >= 0].tolist()} & {2}


class _Oracle:
    """A perfect scorer: an oracle that finds the photo of a caption, and photos by their pixels."""

    def __init__(self, split: PreparedSplit) -> None:
        self.split = split
        self.known = centre_crops(split.images, 32).flatten(1)

    def embed_captions(self, texts: Any) -> Tensor:
        of = [[text in record.captions for record in self.split.records] for text in texts]
        return torch.tensor([row if sum(row) == 1 else [False] * len(row) for row in of]).float()

    def embed_images(self, images: Tensor) -> Tensor:
        nearest = torch.cdist(images.flatten(1), self.known).argmin(1)
        return torch.eye(len(self.known))[nearest]


def test_results_of_matching_and_wrong_images(birds: PreparedSplit) -> None:
    rows = [3 * photo + turn for photo in range(9) for turn in (0, 1)]
    photos = centre_crops(birds.images, 32)[[row // 3 for row in rows]]
    scorers = {"independent": _Oracle(birds)}
    figures = text_agreement_figures(birds, rows, photos.split(5), scorers)
    assert figures["pictures"] == 18
    assert figures["independent"]["random"] == {"painted": 1.0, "photos": 1.0, "ratio": 1.0, "error": 0.0}
    assert figures["independent"]["same_species"] == {"painted": 1.0, "photos": 1.0, "ratio": 1.0, "error": 0.0}
    kinds = figures["distractors"]
    assert kinds["random"]["mean"] == 24  # all captions of the other eight
    assert kinds["random"]["chance"] == pytest.approx(1 / 25)
    assert kinds["same_species"]["mean"] == pytest.approx((10 * 12 + 6 * 6 + 2 * 0) / 18)
    assert kinds["same_species"]["chance"] == pytest.approx((10 / 13 + 6 / 7) / 16)

    wrong = text_agreement_figures(birds, rows, photos.roll(2, 0).split(5), scorers)["independent"]["random"]
    assert wrong["painted"] < 0.1 and wrong["photos"] == 1.0 and wrong["ratio"] == wrong["painted"]
    assert wrong["error"] == pytest.approx((wrong["painted"] * (1 - wrong["painted"]) / 18) ** 0.5)
    for chunks, message in ((photos[:7].split(5), "7 images and 18 captions"), ((), "0 images and 18")):
        with pytest.raises(ValueError, match=message):
            text_agreement_figures(birds, rows, chunks, scorers)
    with pytest.raises(ValueError, match="needs one or more captions"):
        text_agreement_figures(birds, [], [], scorers)


def test_unknown_species_have_no_distractors_of_their_own(prepared: PreparedFolder) -> None:
    split = prepared.splits["test"]
    scorers = {"own": CompactScorer(tiny_encoder())}
    figures = text_agreement_figures(split, np.arange(4), [torch.zeros(4, 3, 64, 64)], scorers)
    assert set(figures["distractors"]) == set(figures["own"]) == {"random"}
    assert figures["distractors"]["random"]["mean"] == 99
