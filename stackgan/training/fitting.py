"""Small networks fitted to a finished checkpoint: optimisation, what they are not fitted to, and storage."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from stackgan.checkpoint import save_checkpoint, stored_discriminators
from stackgan.config import Config
from stackgan.config.facts import CheckpointFacts
from stackgan.networks.realism import RealismNetwork
from stackgan.networks.schedules import warm_cosine
from stackgan.pipeline import StackGANPipeline
from stackgan.training.ema import ema_decay, update_ema

__all__ = ["Fitting", "held_out", "save_fitted"]

_M = TypeVar("_M", bound=nn.Module)
HELD_OUT = 0.05  # share of the rows that the network is not fitted to


def held_out(count: int) -> tuple[Tensor, Tensor]:
    """Rows that are held out, at least one, and the others, in random order."""
    order, held = torch.randperm(count), max(1, round(HELD_OUT * count))
    return order[:held], order[held:]


def save_fitted(
    out: Path,
    pipe: StackGANPipeline,
    source: Path,
    *,
    config: Config | None = None,
    weights: Mapping[str, Tensor] | None = None,
    facts: CheckpointFacts | None = None,
    card: str | None = None,
    realism: RealismNetwork | None = None,
) -> None:
    """Write the checkpoint ``source``, loaded as ``pipe``, at ``out`` with the given parts in place of its own.

    Raises:
        FileExistsError: ``out`` exists and is not a checkpoint.
    """
    save_checkpoint(
        out,
        config or pipe.config,
        pipe.model.state_dict() if weights is None else weights,
        pipe.text_encoder,
        facts=facts or pipe.facts,
        card=pipe.card if card is None else card,
        images=pipe.card_images,
        discriminators=stored_discriminators(source),
        statistics=pipe.statistics,
        realism=realism or pipe.realism,
    )


class Fitting(Generic[_M]):
    """Steps with a warm cosine schedule, gradients of norm 1 at most, and the EMA of the weights.

    Args:
        optimizer: of the module's parameters.
        warm: steps of the linear warm-up.
        decay: of the EMA.

    Attributes:
        ema: a copy of the module with the averaged weights, in evaluation mode.
        done: number of steps.
    """

    def __init__(self, module: _M, optimizer: torch.optim.Optimizer, steps: int, *, warm: int, decay: float) -> None:
        self.module, self.optimizer, self.decay, self.done = module, optimizer, decay, 0
        self.schedule = warm_cosine(optimizer, steps, warm=warm)
        self.ema = copy.deepcopy(module).eval()

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        update_ema(self.ema, self.module, ema_decay(self.decay, self.done, ramp=True))
        self.done += 1
