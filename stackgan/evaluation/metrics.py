"""Metrics of sets of feature vectors: pure functions from features to numbers.

All are computed in double precision on the device of the features; pairwise distances in blocks of rows, so that
memory is linear in the number of features. ``tests/evaluation/test_metrics.py`` compares them with known values and
with torch-fidelity on the same features.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Estimate",
    "area_under_curve",
    "class_score",
    "density_coverage",
    "frechet_distance",
    "kernel_distance",
    "nearest",
    "precision_recall",
    "realism",
]

BLOCK = 1024  # rows per block of pairwise distances


@dataclass(frozen=True)
class Estimate:
    """An estimate and its standard error."""

    value: float
    error: float


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Fréchet distance between Gaussians with the moments of the sets (FID, arXiv:1706.08500, equation 6).

        d² = |m₁ − m₂|² + tr(S₁) + tr(S₂) − 2 tr((S₁ S₂)^½)

    With S = Rᵀ R from a QR decomposition of the centred rows, the last trace is the sum of the singular values of R₁
    R₂ᵀ: this avoids a matrix square root and is valid for fewer rows than columns. Biased upwards for few rows:
    compare only values of equal N.

    Args:
        x, y: (N, D), (M, D).

    Raises:
        ValueError: fewer than 2 rows, another D.

    >>> corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> round(frechet_distance(corners, corners + 3), 6)
    18.0
    """
    _check(x, y, 2)
    means, roots = [], []
    for rows in (x.double(), y.double()):
        mean = rows.mean(0)
        means.append(mean)
        roots.append(torch.linalg.qr(rows - mean, mode="r").R / (len(rows) - 1) ** 0.5)
    shared = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    spread = roots[0].square().sum() + roots[1].square().sum()
    return float((means[0] - means[1]).square().sum() + spread - 2 * shared)


def kernel_distance(x: Tensor, y: Tensor, *, groups: int = 50) -> Estimate:
    """Kernel distance of two sets: unbiased MMD² with k(a, b) = (a · b / D + 1)³ (KID, arXiv:1801.01401, section 4).

    About 0, possibly negative, for equal distributions. All pairs of rows are used, in one pass over blocks of the
    kernel matrices. The error is that of other sets of this size: a delete-a-group jackknife (Efron and Tibshirani,
    1993, section 11.5) that leaves out a random group of both sets at a time. The spread over subsets of the same
    sets, which is often given with KID, is several times smaller.

    Args:
        x, y: (N, D), (M, D).
        groups: of the jackknife, at most one for every two rows of the smaller set.

    Raises:
        ValueError: fewer than 2 rows, another D, fewer than 2 groups.

    >>> x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    >>> same, far = kernel_distance(x[:200], x[200:]), kernel_distance(x[:200], x[200:] + 1)
    >>> abs(same.value) < 0.2 < far.value
    True
    """
    _check(x, y, 2)
    if groups < 2:
        raise ValueError(f"groups is {groups}: an error needs 2 or more")
    groups = max(min(groups, len(x) // 2, len(y) // 2), 1)
    generator = torch.Generator().manual_seed(0)
    x, y = (rows.double()[torch.randperm(len(rows), generator=generator).to(rows.device)] for rows in (x, y))
    of_x, of_y = (torch.arange(len(rows), device=rows.device) % groups for rows in (x, y))
    sums = [_group_sums(*pair, groups) for pair in ((x, of_x, x, of_x), (y, of_y, y, of_y), (x, of_x, y, of_y))]
    own = [_kernel_diagonal(rows, group, groups) for rows, group in ((x, of_x), (y, of_y))]
    sizes = [torch.bincount(group, minlength=groups).double() for group in (of_x, of_y)]

    def mmd(keep: Tensor) -> Tensor:
        """Of the groups with weight 1 in ``keep``."""
        n, m = (size @ keep for size in sizes)
        xx, yy, xy = (keep @ block @ keep for block in sums)
        dx, dy = (diagonal @ keep for diagonal in own)
        return (xx - dx) / (n * (n - 1)) + (yy - dy) / (m * (m - 1)) - 2 * xy / (n * m)

    everything = torch.ones(groups, dtype=torch.float64, device=x.device)
    value = float(mmd(everything))
    if groups == 1:
        return Estimate(value, math.nan)
    left = torch.stack([mmd(everything - row) for row in torch.eye(groups, dtype=torch.float64, device=x.device)])
    error = ((groups - 1) / groups * (left - left.mean()).square().sum()).sqrt()
    return Estimate(value, float(error))


def _group_sums(x: Tensor, of_x: Tensor, y: Tensor, of_y: Tensor, groups: int) -> Tensor:
    """Sums of the kernel between groups of rows, (G, G)."""
    sums = torch.zeros(groups, groups, dtype=torch.float64, device=x.device)
    for start in range(0, len(x), BLOCK):
        rows = torch.zeros(len(x[start : start + BLOCK]), groups, dtype=torch.float64, device=x.device)
        rows.index_add_(1, of_y, _kernel(x[start : start + BLOCK], y))
        sums.index_add_(0, of_x[start : start + BLOCK], rows)
    return sums


def _kernel_diagonal(x: Tensor, of_x: Tensor, groups: int) -> Tensor:
    """Sums of k(a, a) over the rows of each group, (G,)."""
    values = (x.square().sum(1) / x.shape[1] + 1) ** 3
    return torch.zeros(groups, dtype=torch.float64, device=x.device).index_add_(0, of_x, values)


def class_score(log_probs: Tensor, splits: int = 10) -> Estimate:
    """exp E KL(p(y | x) ‖ p(y)) over the classes of a network (Inception score, arXiv:1606.03498, section 4).

    Between 1 (equal images, or uniform class probabilities) and the number of classes. Mean over ``splits`` parts,
    part i consisting of every ``splits``-th row from i on, with its standard error.

    Args:
        log_probs: (N, K) log-probabilities, or logits: rows are normalised.

    Raises:
        ValueError: fewer rows than parts.

    >>> round(class_score(torch.eye(4).repeat(20, 1) * 50, splits=5).value, 4)
    4.0
    """
    if log_probs.ndim != 2 or not 1 < splits <= len(log_probs):
        raise ValueError(f"log-probabilities {tuple(log_probs.shape)}: must be (N, K), N at least {max(splits, 2)}")
    log_p = log_probs.double().log_softmax(1)
    scores = []
    for part in (log_p[i::splits] for i in range(splits)):
        marginal = part.exp().mean(0, keepdim=True).log()
        divergence = (part.exp() * (part - marginal)).nan_to_num(nan=0.0)  # 0 · (−∞ − −∞): a class without images
        scores.append(divergence.sum(1).mean().exp())
    stacked = torch.stack(scores)
    return Estimate(float(stacked.mean()), float(stacked.std() / splits**0.5))


def precision_recall(generated: Tensor, real: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Shares (0–1) of generated rows in the real manifold, and of real rows in the generated one (arXiv:1904.06991).

    A set's manifold is the union of balls around its rows with the distance to the ``neighbours``-th nearest other
    row as radius. Both shares depend on N and M: use sets of equal size.

    Raises:
        ValueError: ``neighbours`` or fewer rows, another D.
    """
    _check(generated, real, neighbours + 1)
    generated, real = generated.double(), real.double()
    precision = _in_balls(generated, real, neighbours).any(1).double().mean()
    recall = _in_balls(real, generated, neighbours).any(1).double().mean()
    return float(precision), float(recall)


def density_coverage(generated: Tensor, real: Tensor, neighbours: int = 5) -> tuple[float, float]:
    """Density and coverage (arXiv:2002.09797, eq. 7, 8).

    Density is the mean number of real balls that contain a generated row, divided by ``neighbours``: about 1,
    possibly above, for equal distributions. Coverage is the share of real balls that contain any generated row. Less
    sensitive to outliers than :func:`precision_recall`, which uses the same balls.

    Raises:
        ValueError: ``neighbours`` or fewer rows, another D.
    """
    _check(generated, real, neighbours + 1)
    inside = _in_balls(generated.double(), real.double(), neighbours)
    return float(inside.sum()) / (neighbours * len(generated)), float(inside.any(0).double().mean())


def realism(generated: Tensor, real: Tensor, neighbours: int = 3) -> Tensor:
    """Realism score of each generated row, (N,): above 1 inside the real manifold, below 1 outside.

        R(g) = max over real r of  |r − its k-th neighbour| / |g − r|          (arXiv:1904.06991, equation 3)

    As in the paper, the half of the real rows with the larger balls is left out, as balls of rare rows are large.

    Raises:
        ValueError: ``neighbours`` or fewer rows, another D.

    >>> line = torch.arange(8.0)[:, None]
    >>> realism(torch.tensor([[3.0], [3.5], [20.0]]), line, neighbours=1).tolist()
    [inf, 2.0, 0.07692307692307693]
    """
    _check(generated, real, neighbours + 1)
    generated, real = generated.double(), real.double()
    radii = _radii(real, neighbours)
    kept = radii <= radii.median()
    return torch.cat(
        [
            (radii[kept] / block).nan_to_num(torch.inf, torch.inf).amax(1)
            for _, block in _blocks(generated, real[kept])
        ]
    )


def nearest(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (N,) of each row of ``x`` (N, D) to its nearest row of ``y`` (M, D), and that row's index.

    >>> nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0]]))
    (tensor([1., 1.]), tensor([1, 0]))
    """
    _check(x, y, 1)
    centre = y.mean(0)
    found = torch.cat([block.argmin(1) for _, block in _blocks((x - centre).float(), (y - centre).float())])
    return (x - y[found]).double().norm(dim=1).to(x.dtype), found  # recomputed, as cdist is inaccurate close to 0


def area_under_curve(above: Tensor, below: Tensor) -> float:
    """Area under the ROC curve: probability that a value of ``above`` exceeds one of ``below``, with ties as half.

    >>> area_under_curve(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 3.0]))
    0.875
    """
    if not len(above) or not len(below):
        raise ValueError("the area under the ROC curve needs values of both classes")
    order, _ = below.double().sort()
    values = above.double().contiguous()
    less = torch.searchsorted(order, values)
    no_more = torch.searchsorted(order, values, right=True)
    return float((less + no_more).double().mean() / (2 * len(below)))


def _check(x: Tensor, y: Tensor, least: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"features {tuple(x.shape)} and {tuple(y.shape)}: both must be (N, D) with equal D and N at least {least}"
        )


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Distances of rows start … of ``x`` to all of ``y``, (block, M), with their start."""
    for start in range(0, len(x), BLOCK):
        yield start, torch.cdist(x[start : start + BLOCK], y)


def _in_balls(x: Tensor, centres: Tensor, neighbours: int) -> Tensor:
    """(N, M) bool: whether row i of ``x`` is in the ball of row j of ``centres``."""
    radii = _radii(centres, neighbours)
    return torch.cat([block <= radii for _, block in _blocks(x, centres)])


def _radii(rows: Tensor, neighbours: int) -> Tensor:
    """Distance (N,) of each row to its k-th nearest other row."""
    return torch.cat([block.kthvalue(neighbours + 1).values for _, block in _blocks(rows, rows)])


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3
