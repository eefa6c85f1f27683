"""Feature maps computed again in the backward pass instead of kept (gradient checkpointing, arXiv:1604.06174)."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["Blocks", "set_checkpointing"]


class Blocks(nn.Module):
    """Base of what runs through blocks; with ``checkpointing``, their inner feature maps are not kept.

    They are computed again when the backward pass needs them (arXiv:1604.06174): same gradients, same running
    statistics, less memory, one more forward pass.
    """

    checkpointing = False

    def through(self, block: nn.Module, *inputs: Tensor | int | None) -> Tensor:
        """``block(*inputs)``."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        return checkpoint(
            block,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,  # no block draws
            context_fn=lambda: (nullcontext(), _BuffersKept(block)),
        )


def set_checkpointing(module: nn.Module, on: bool) -> None:
    """Switch every :class:`Blocks` in ``module``."""
    for part in module.modules():
        if isinstance(part, Blocks):
            part.checkpointing = on


class _BuffersKept:
    """Restores the buffers of a module: a second forward pass must not update running statistics again.

    Entered once a backward pass, which is twice where gradients are differentiated again.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.before = [buffer.clone() for buffer in self.module.buffers()]

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for buffer, value in zip(self.module.buffers(), self.before, strict=True):
            buffer.copy_(value)
