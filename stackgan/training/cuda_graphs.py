"""Training steps captured as CUDA graphs: the same kernels, launched by one call.

A step of small networks consists of about a thousand kernels of a few microseconds each; launched one by one from
Python, the launches take longer than the kernels. A captured step is replayed by one launch
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

__all__ = ["CapturedSteps"]

WARM_UP = 2  # eager steps of a kind before its capture: libraries choose kernels, optimisers create their state


@dataclass
class _CapturedStep:
    graph: torch.cuda.CUDAGraph
    scalars: dict[str, Tensor]


class CapturedSteps:
    """Runs steps on a GPU: the first ones of each kind eagerly, later ones by replaying a captured graph.

    Each graph reads its batch from the same static tensors, draws from the device's generator at its current state,
    and writes its scalars to the same tensors in every replay.
    """

    def __init__(self) -> None:
        self.made: Counter[Hashable] = Counter()
        self.batch: Batch | None = None
        self.captured: dict[Hashable, _CapturedStep] = {}
        self.pool: Any = None  # memory pool shared by all graphs, which never run concurrently

    def __call__(
        self,
        step: Callable[[Batch], dict[str, Tensor]],
        batch: Batch,
        kind: Hashable,
        optimizers: Mapping[str, Optimizer],
        device: torch.device,
    ) -> dict[str, Tensor]:
        """Run one step and return its scalars, which are valid until the next step.

        Args:
            step: reads its batch, changes networks and optimisers in place, and never synchronises with the device.
            kind: key of the graph; steps of one kind launch the same kernels.
            optimizers: with ``capturable=True`` and learning rates in tensors.
        """
        held = self._hold(batch, device)
        self.made[kind] += 1
        if self.made[kind] <= WARM_UP:
            with _side_stream(device):
                return step(held)
        if kind not in self.captured:
            self.captured[kind] = self._capture(step, held, optimizers, device)
        captured = self.captured[kind]
        captured.graph.replay()
        return captured.scalars

    def _hold(self, batch: Batch, device: torch.device) -> Batch:
        """Copy the batch to static tensors, whose addresses a graph may keep."""
        given = {name: tensor for name, tensor in vars(batch).items() if tensor is not None}
        if self.batch is None:
            self.batch = replace(batch, **{name: tensor.to(device, copy=True) for name, tensor in given.items()})
        for name, tensor in given.items():
            getattr(self.batch, name).copy_(tensor, non_blocking=True)
        return self.batch

    def _capture(
        self,
        step: Callable[[Batch], dict[str, Tensor]],
        batch: Batch,
        optimizers: Mapping[str, Optimizer],
        device: torch.device,
    ) -> _CapturedStep:
        """Capture a step without executing it. Other threads may copy data to the device during the capture."""
        torch.cuda.synchronize(device)
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            scalars = step(batch)
        self.pool = graph.pool()
        return _CapturedStep(graph, scalars)


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """A side stream: PyTorch requires the warm-up before a capture to run on one."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
