"""Training steps recorded as CUDA graphs: the same kernels, launched by the GPU's driver in one call.

A step of small networks is a thousand kernels of a few microseconds each; launched one by one from Python, they wait for
the processor. Recorded once for each :class:`~stackgan.run_state.Phase`, a step is one launch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stackgan.data import Batch

if TYPE_CHECKING:
    from stackgan.run_state import Phase, Run

__all__ = ["RecordedSteps"]

WARM_UP = 2  # steps of a phase before it is recorded: libraries choose their kernels, optimisers make their state


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    scalars: dict[str, Tensor]


class RecordedSteps:
    """Runs steps of a training run on a GPU: the first ones as they are, later ones from recordings.

    Every recording reads its batch from the same tensors, draws from the device's generator where it stands, and
    writes its scalars to the same tensors again and again.
    """

    def __init__(self) -> None:
        self.made: Counter[Phase] = Counter()
        self.batch: Batch | None = None
        self.recordings: dict[Phase, _Recording] = {}
        self.pool: tuple[int, int] | None = None

    def __call__(
        self, networks: Callable[[Run, Batch, Phase], dict[str, Tensor]], run: Run, batch: Batch, phase: Phase
    ) -> dict[str, Tensor]:
        """One step; its scalars, valid until the next one."""
        held = self._hold(batch, run.device)
        self.made[phase] += 1
        if self.made[phase] <= WARM_UP:
            with _beside(run.device):
                return networks(run, held, phase)
        if phase not in self.recordings:
            self.recordings[phase] = self._record(networks, run, held, phase)
        recording = self.recordings[phase]
        recording.graph.replay()
        return recording.scalars

    def _hold(self, batch: Batch, device: torch.device) -> Batch:
        """The batch in tensors that stay where they are."""
        given = {f.name: getattr(batch, f.name) for f in fields(batch)}
        if self.batch is None:
            own = {name: t.to(device, copy=True) for name, t in given.items() if t is not None}
            self.batch = replace(batch, **own)
        for name, tensor in given.items():
            if tensor is not None:
                getattr(self.batch, name).copy_(tensor, non_blocking=True)
        return self.batch

    def _record(
        self, networks: Callable[[Run, Batch, Phase], dict[str, Tensor]], run: Run, batch: Batch, phase: Phase
    ) -> _Recording:
        """Record a step without making it. Other threads may go on preparing data meanwhile."""
        torch.cuda.synchronize(run.device)
        for optimizer in run.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            scalars = networks(run, batch, phase)
        self.pool = graph.pool()
        return _Recording(graph, scalars)


class _beside:
    """A stream of its own, as what is to be recorded later has to be run before."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def __enter__(self) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        self.context = torch.cuda.stream(self.stream)
        self.context.__enter__()

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)
        torch.cuda.current_stream().wait_stream(self.stream)
