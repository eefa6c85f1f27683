"""Learning rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["warm_cosine"]


def warm_cosine(optimizer: Optimizer, steps: int, warm: int) -> LambdaLR:
    """Linear warm-up over ``warm`` steps, then half a cosine to 0 at ``steps`` (arXiv:1608.03983, eq. 5)."""
    return LambdaLR(optimizer, lambda t: min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, t / steps)))))
