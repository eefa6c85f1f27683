"""Training steps recorded as CUDA graphs: the same kernels, launched in one call.

A step of small networks is a thousand kernels of a few microseconds each; launched one by one from Python, they wait
for the processor. Recorded once and replayed, a step is one launch
(https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs, "whole-network capture").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stackgan.data.sampler import Batch

__all__ = ["RecordedSteps"]

WARM_UP = 2  # steps of a kind before it is recorded: libraries choose their kernels, optimisers make their state


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    scalars: dict[str, Tensor]


class RecordedSteps:
    """Runs steps on a GPU: the first ones of every kind eagerly, later ones by replaying a CUDA graph.

    Every recording reads its batch from the same tensors, draws from the device's generator where it stands, and
    writes its scalars to the same tensors again and again.
    """

    def __init__(self) -> None:
        self.made: Counter[Hashable] = Counter()
        self.batch: Batch | None = None
        self.recordings: dict[Hashable, _Recording] = {}
        self.pool: Any = None  # of memory, shared by all recordings, which never run at once

    def __call__(
        self,
        step: Callable[[Batch], dict[str, Tensor]],
        batch: Batch,
        kind: Hashable,
        optimizers: Mapping[str, Optimizer],
        device: torch.device,
    ) -> dict[str, Tensor]:
        """One step; its scalars, valid until the next one.

        Args:
            step: reads its batch, changes networks and optimisers in place, and never waits for the device.
            kind: steps of one kind launch the same kernels.
            optimizers: with ``capturable=True`` and learning rates in tensors.
        """
        held = self._hold(batch, device)
        self.made[kind] += 1
        if self.made[kind] <= WARM_UP:
            with _side_stream(device):
                return step(held)
        if kind not in self.recordings:
            self.recordings[kind] = self._record(step, held, optimizers, device)
        recording = self.recordings[kind]
        recording.graph.replay()
        return recording.scalars

    def _hold(self, batch: Batch, device: torch.device) -> Batch:
        """The batch in tensors that stay where they are."""
        given = {name: tensor for name, tensor in vars(batch).items() if tensor is not None}
        if self.batch is None:
            self.batch = replace(batch, **{name: tensor.to(device, copy=True) for name, tensor in given.items()})
        for name, tensor in given.items():
            getattr(self.batch, name).copy_(tensor, non_blocking=True)
        return self.batch

    def _record(
        self,
        step: Callable[[Batch], dict[str, Tensor]],
        batch: Batch,
        optimizers: Mapping[str, Optimizer],
        device: torch.device,
    ) -> _Recording:
        """Record a step without making it. Other threads may go on sending data meanwhile."""
        torch.cuda.synchronize(device)
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            scalars = step(batch)
        self.pool = graph.pool()
        return _Recording(graph, scalars)


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """A stream of its own, as what is to be recorded later has to run before."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
