"""Exponential moving average (EMA) of G's weights, kept in a second module with the same parameter names."""

import torch
from torch import Tensor, nn

__all__ = ["ema_decay", "update_ema"]


def ema_decay(decay: float, step: int, ramp: bool) -> float:
    """The decay at ``step`` (from 0): min(decay, (1 + t) / (10 + t)) with the ramp for the start.

    >>> ema_decay(0.999, 0, ramp=True), ema_decay(0.999, 10**6, ramp=True)
    (0.1, 0.999)
    """
    return min(decay, (1 + step) / (10 + step)) if ramp else decay


@torch.no_grad()
def update_ema(ema: nn.Module, live: nn.Module, decay: float) -> None:
    """ema ← decay · ema + (1 − decay) · live for parameters; buffers are copied. ``live`` is not changed.

    Raises:
        ValueError: the modules' parameter names differ.
    """
    of_live: dict[str, Tensor] = dict(live.named_parameters())
    of_ema: dict[str, Tensor] = dict(ema.named_parameters())
    if of_ema.keys() != of_live.keys():
        raise ValueError("the EMA and the live module have different parameters")
    means, values = list(of_ema.values()), [of_live[name] for name in of_ema]
    buffers = dict(live.named_buffers())
    copies, originals = list(ema.buffers()), [buffers[name] for name, _ in ema.named_buffers()]
    if hasattr(torch, "_foreach_lerp_") and hasattr(torch, "_foreach_copy_"):  # undocumented: one launch for all
        torch._foreach_lerp_(means, values, 1 - decay)
        torch._foreach_copy_(copies, originals)
        return
    for mean, value in zip(means, values, strict=True):
        mean.lerp_(value, 1 - decay)
    for copy, original in zip(copies, originals, strict=True):
        copy.copy_(original)
