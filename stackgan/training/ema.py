"""The average of G: a second module that follows the live one by name."""

import torch
from torch import nn

__all__ = ["average_decay", "update_average"]


def average_decay(decay: float, step: int, ramp: bool) -> float:
    """The decay at ``step`` (from 0): min(decay, (1 + t) / (10 + t)) with the ramp, so the start is forgotten.

    >>> average_decay(0.999, 0, ramp=True), average_decay(0.999, 10**6, ramp=True)
    (0.1, 0.999)
    """
    return min(decay, (1 + step) / (10 + step)) if ramp else decay


@torch.no_grad()
def update_average(average: nn.Module, live: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 − decay) · live for parameters; buffers are copied. The live module stays.

    Raises:
        ValueError: the modules' parameter names differ.
    """
    theirs = dict(live.named_parameters())
    mine = dict(average.named_parameters())
    if mine.keys() != theirs.keys():
        raise ValueError("the average and the live module have different parameters")
    torch._foreach_lerp_([mine[name] for name in mine], [theirs[name] for name in mine], 1 - decay)
    buffers = dict(live.named_buffers())
    torch._foreach_copy_(list(average.buffers()), [buffers[name] for name, _ in average.named_buffers()])
