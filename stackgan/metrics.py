"""Distances between sets of feature vectors. Pure: features in, numbers out."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

__all__ = ["Estimate", "area_under_curve", "kernel_distance"]


@dataclass(frozen=True)
class Estimate:
    """A mean over subsets and its standard error."""

    value: float
    error: float


def kernel_distance(
    x: Tensor, y: Tensor, *, subsets: int = 50, size: int = 500, generator: Generator | None = None
) -> Estimate:
    """Kernel distance of two sets: unbiased MMD² with k(a, b) = (a · b / D + 1)³ (KID, arXiv:1801.01401, section 4).

    The mean over random subsets without replacement, with its standard error; near 0, also below, for equal
    distributions.

    Args:
        x, y: (N, D), (M, D).
        subsets, size: how many, of how many rows each; at most the smaller set.

    Raises:
        ValueError: fewer than 2 rows, another D, fewer than 2 subsets.

    >>> x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    >>> same, far = kernel_distance(x[:200], x[200:], size=100), kernel_distance(x[:200], x[200:] + 1, size=100)
    >>> abs(same.value) < 0.1 < far.value
    True
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"features {tuple(x.shape)} and {tuple(y.shape)}: both must be (N, D), N > 1, D alike")
    if subsets < 2:
        raise ValueError(f"subsets is {subsets}: an error bar needs 2 or more")
    size = min(size, len(x), len(y))
    x, y = x.double(), y.double()
    generator = generator or torch.Generator().manual_seed(0)
    values = []
    for _ in range(subsets):
        a = x[torch.randperm(len(x), generator=generator)[:size].to(x.device)]
        b = y[torch.randperm(len(y), generator=generator)[:size].to(y.device)]
        within = sum(_off_diagonal_mean(_kernel(rows, rows)) for rows in (a, b))
        values.append(within - 2 * _kernel(a, b).mean())
    stacked = torch.stack(values)
    return Estimate(float(stacked.mean()), float(stacked.std() / subsets**0.5))


def area_under_curve(above: Tensor, below: Tensor) -> float:
    """The chance that a random value of ``above`` exceeds one of ``below``, ties counted half (area under ROC).

    >>> area_under_curve(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 3.0]))
    0.875
    """
    if not len(above) or not len(below):
        raise ValueError("the area under a curve needs values on both sides")
    difference = above.double()[:, None] - below.double()[None]
    return float(((difference > 0).double() + 0.5 * (difference == 0).double()).mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _off_diagonal_mean(gram: Tensor) -> Tensor:
    count = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (count * (count - 1))
