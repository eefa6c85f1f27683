"""Distances and scores: cases with a known result, and torch-fidelity's values on the same features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stackgan.evaluation.metrics import (
    area_under_curve,
    class_score,
    density_coverage,
    frechet_distance,
    kernel_distance,
    nearest,
    precision_recall,
    realism,
)


def normal(count: int, dim: int, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) * scale + shift


def with_moments(rows: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    """Rows moved so that their sample mean is ``mean`` and their sample covariance ``root`` rootᵀ, exactly."""
    rows = rows.double() - rows.double().mean(0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(rows.T @ rows / (len(rows) - 1)))
    return rows @ whiten.T @ root.T + mean


# --- Fréchet distance ---------------------------------------------------------------------------------------


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    """Covariances that commute: |Δm|² + Σ (σ₁ − σ₂)²; the samples have exactly these moments."""
    mean, first, second = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5])
    turn = torch.linalg.qr(normal(3, 3, seed=9).double()).Q
    x = with_moments(normal(50, 3, 1), torch.zeros(3), turn @ first.double().diag())
    y = with_moments(normal(80, 3, 2), mean, turn @ second.double().diag())
    expected = float(mean.square().sum() + (first - second).square().sum())
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_where_covariances_do_not_commute() -> None:
    """In two dimensions tr (S₁ S₂)^½ = (tr S₁S₂ + 2 (det S₁S₂)^½)^½."""
    a, b = torch.tensor([[2.0, 0.0], [1.0, 1.0]]).double(), torch.tensor([[1.0, 0.0], [-2.0, 3.0]]).double()
    x, y = with_moments(normal(40, 2, 1), torch.zeros(2), a), with_moments(normal(40, 2, 2), torch.zeros(2), b)
    s1, s2 = a @ a.T, b @ b.T
    shared = torch.sqrt((s1 @ s2).trace() + 2 * torch.det(s1 @ s2).sqrt())
    assert frechet_distance(x, y) == pytest.approx(float(s1.trace() + s2.trace() - 2 * shared), rel=1e-9)


def test_frechet_distance_of_equal_permuted_and_moved_sets() -> None:
    x = normal(60, 8)
    assert abs(frechet_distance(x, x)) < 1e-9
    assert abs(frechet_distance(x, x[torch.randperm(60, generator=torch.Generator().manual_seed(3))])) < 1e-9
    assert frechet_distance(x, x + 2) == pytest.approx(8 * 4, rel=1e-6)
    few = normal(5, 40)  # fewer rows than columns
    assert abs(frechet_distance(few, few)) < 1e-9 and frechet_distance(few, few + 1) == pytest.approx(40, rel=1e-6)


# --- kernel distance ----------------------------------------------------------------------------------------


def test_kernel_distance_is_the_unbiased_mmd() -> None:
    """Comparison with the definition, pair by pair, on all rows."""
    x, y = normal(7, 3).double(), normal(7, 3, seed=4, shift=1).double()

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(k(s[i], s[j]) for s in (x, y) for i, j in pairs if i != j) / 42
    between = sum(k(x[i], y[j]) for i, j in pairs) / 49
    for groups in (2, 3, 50):
        assert kernel_distance(x, y, groups=groups).value == pytest.approx(within - 2 * between, rel=1e-9)


def test_kernel_distance_orders() -> None:
    generator = torch.Generator().manual_seed(1)
    x, same, near, far = (torch.randn(1500, 16, generator=generator) + shift for shift in (0, 0, 0.3, 1.0))
    distances = [kernel_distance(x, other) for other in (same, near, far)]
    assert abs(distances[0].value) < 4 * distances[0].error < distances[1].value < distances[2].value
    for a, b in ((x, x[:, :3]), (x[:1], x)):
        with pytest.raises(ValueError, match="must be"):
            kernel_distance(a, b)
    with pytest.raises(ValueError, match="groups is 1"):
        kernel_distance(x, near, groups=1)
    assert math.isnan(kernel_distance(x[:3], near[:3]).error)  # a single group says nothing about others


@pytest.mark.parametrize(("n", "m", "shift"), [(300, 300, 0.3), (600, 200, 0.3), (150, 500, 0.0), (400, 400, 1.0)])
def test_kernel_distances_error_is_the_spread_over_new_sets(n: int, m: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(7)
    found = [
        kernel_distance(torch.randn(n, 24, generator=generator), torch.randn(m, 24, generator=generator) + shift)
        for _ in range(60)
    ]
    spread = float(torch.tensor([each.value for each in found]).std())
    claimed = float(torch.tensor([each.error for each in found]).square().mean().sqrt())
    assert 0.75 < claimed / spread < 1.6  # a jackknife is conservative where both distributions are equal


# --- class score --------------------------------------------------------------------------------------------


def test_class_score_of_certain_even_and_constant_classes() -> None:
    certain = torch.eye(5).repeat(20, 1) * 100
    found = class_score(certain, splits=4)
    assert found.value == pytest.approx(5, rel=1e-6) and found.error < 1e-6
    assert class_score(torch.zeros(40, 7)).value == pytest.approx(1)  # uniform predictions
    assert class_score(torch.eye(5)[[2] * 30] * 100).value == pytest.approx(1)  # one class only
    halves = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).repeat(10, 1).log()
    divergence = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    order = torch.arange(20).roll(0)
    assert class_score(halves[order], splits=5).value == pytest.approx(math.exp(divergence), rel=1e-6)
    sure = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]).repeat(5, 1)  # probabilities of exactly 0
    assert class_score(sure, splits=5).value == pytest.approx(2)
    with pytest.raises(ValueError, match="N at least 10"):
        class_score(torch.zeros(9, 3))


# --- precision, recall, density, coverage ------------------------------------------------------------------


def test_manifolds_of_identical_disjoint_and_nested_sets() -> None:
    x = normal(200, 4)
    assert precision_recall(x, x) == (1.0, 1.0)
    density, coverage = density_coverage(x, x)
    assert coverage == 1.0 and 1 <= density < 1.5
    assert precision_recall(x, x + 100) == (0.0, 0.0) and density_coverage(x, x + 100) == (0.0, 0.0)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    other = normal(150, 4, seed=6, shift=0.5)
    assert precision_recall(x[order], other) == precision_recall(x, other)
    assert density_coverage(x[order], other) == density_coverage(x, other)
    narrow = normal(200, 4, seed=7, scale=0.2)  # few modes, all of high quality
    precision, recall = precision_recall(narrow, x)
    assert precision > 0.9 and recall < 0.3
    wide = normal(200, 4, seed=7, scale=5)  # all modes, mostly of low quality
    precision, recall = precision_recall(wide, x)
    assert precision < 0.4 and recall > 0.9


def test_density_and_coverage_by_their_definitions() -> None:
    """Points on a line: real 0, 1, 3, 7 with k = 1 have radii 1, 1, 2, 4."""
    real, generated = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [1.5], [20.0]])
    # 0.5 lies in the balls of 0 and 1; 1.5 in those of 1 and 3; 20 in none.
    density, coverage = density_coverage(generated, real, neighbours=1)
    assert density == pytest.approx(4 / 3) and coverage == 0.75
    precision, recall = precision_recall(generated, real, neighbours=1)
    assert precision == pytest.approx(2 / 3)
    assert recall == 1.0  # generated radii 1, 1, 18.5: 3 and 7 lie in the ball of 20
    with pytest.raises(ValueError, match="N at least 6"):
        density_coverage(generated, real)


def test_realism_by_its_definition() -> None:
    """Of real 0, 1, 3, 7 with radii 1, 1, 2, 4 the first two are kept; a ball of radius 0 contains equal points."""
    real, generated = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [3.0], [-9.0]])
    assert realism(generated, real, neighbours=1).tolist() == pytest.approx([2, 0.5, 1 / 9])
    twins = torch.tensor([[2.0], [2.0], [5.0], [5.0]])
    assert realism(torch.tensor([[2.0], [3.0]]), twins, neighbours=1).tolist() == [torch.inf, 0]
    x = normal(300, 4)
    inside, outside = realism(normal(300, 4, seed=2), x), realism(normal(300, 4, seed=2, shift=4), x)
    assert (inside >= 1).double().mean() > 0.5 > 0.05 > (outside >= 1).double().mean()
    with pytest.raises(ValueError, match="N at least 4"):
        realism(generated, x[:3, :1])


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(70, 5), normal(90, 5, seed=2, shift=0.3)
    whole = precision_recall(x, y), density_coverage(x, y), nearest(x, y)[1].tolist()
    monkeypatch.setattr("stackgan.evaluation.metrics.BLOCK", 16)
    assert (precision_recall(x, y), density_coverage(x, y), nearest(x, y)[1].tolist()) == whole


# --- nearest, area under the curve --------------------------------------------------------------------------


def test_nearest_is_the_least_of_all_distances_and_exact_at_zero() -> None:
    x, y = normal(30, 6, shift=50), normal(40, 6, seed=1, shift=50)
    y[7] = x[3]
    distance, row = nearest(x, y)
    every = (x[:, None].double() - y[None].double()).norm(dim=2)
    assert torch.equal(row, every.argmin(1)) and distance[3] == 0
    assert torch.allclose(distance.double(), every.min(1).values, rtol=1e-5)


def test_area_under_curve_counts_pairs() -> None:
    above, below = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([0.0, 2.0, 2.0, 3.0, 7.0])
    pairs = [(a > b) + 0.5 * (a == b) for a in above.tolist() for b in below.tolist()]
    assert area_under_curve(above, below) == pytest.approx(sum(pairs) / 20)
    assert area_under_curve(above, above) == 0.5


# --- against torch-fidelity ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets() -> tuple[Tensor, Tensor]:
    """Features like those of a network: correlated, not normal, of different numbers."""
    mix = normal(24, 24, seed=11)
    return torch.relu(normal(300, 24, 12) @ mix), torch.relu(normal(260, 24, 13) @ mix + 0.4)


def test_frechet_distance_is_torch_fidelitys(sets: tuple[Tensor, Tensor]) -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [fid.fid_features_to_statistics(rows.double()) for rows in sets]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_torch_fidelitys(sets: tuple[Tensor, Tensor]) -> None:
    """With all rows as its subset."""
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = sets[0][:260].double(), sets[1].double()
    expected = kid.kid_features_to_metric(x, y, kid_subsets=2, kid_subset_size=260, verbose=False)
    found = kernel_distance(x, y)
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-8)


def test_class_score_is_torch_fidelitys() -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = normal(200, 30, seed=14, scale=2)
    strided = torch.cat([logits[i::10] for i in range(10)])  # the library uses contiguous splits
    expected = isc.isc_features_to_metric(strided, splits=10, shuffle=False)
    found = class_score(logits, splits=10)
    assert found.value == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    spread = expected["inception_score_std"]  # standard deviation (10); ours: standard error (9)
    assert found.error == pytest.approx(spread * (10 / 9) ** 0.5 / 10**0.5, rel=1e-6)


def test_precision_and_recall_are_torch_fidelitys(sets: tuple[Tensor, Tensor]) -> None:
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    x, y = (rows.double() for rows in sets)
    expected = prc.prc_features_to_metric(x, y, verbose=False)
    found = precision_recall(x, y)
    assert found == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)
    assert 0.1 < found[0] < 1 and 0.1 < found[1] < 1  # so that the comparison is informative


def test_density_and_coverage_as_clean_code_has_them(sets: tuple[Tensor, Tensor]) -> None:
    """Comparison with the definitions of arXiv:2002.09797 on whole matrices."""
    fake, real = (rows.double().numpy() for rows in sets)
    between = np.linalg.norm(real[:, None] - fake[None], axis=2)  # (M, N)
    within = np.linalg.norm(real[:, None] - real[None], axis=2)
    radii = np.sort(within, 1)[:, 5]
    density = (between < radii[:, None]).sum(0).mean() / 5
    coverage = (between.min(1) < radii).mean()
    assert density_coverage(*sets) == pytest.approx((density, coverage), rel=1e-9)
