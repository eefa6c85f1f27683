"""Dynamic batching: calls of a generator that several threads make at once are computed as one batch.

The images are those of the calls one by one, to the bit: it is checked on the machine before the first batch.
A single thread computes them, as each thread that calls PyTorch has a team of OpenMP threads of its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stackgan.pipeline import StackGANPipeline

__all__ = ["AT_ONCE", "DynamicBatching", "shared"]

Generate = Callable[[Tensor, Tensor, Sequence[int] | None], list[Tensor]]

MOST = 8  # images of a batch: more are no faster (birds-64: 16 ms alone, 14 ms of 8, on two cores)
AT_ONCE = 2 * MOST  # requests to answer at a time: while one batch is computed, the next one gathers


@dataclass(eq=False)
class _Call:
    z: Tensor
    c: Tensor
    stages: tuple[int, ...] | None
    images: Future[list[Tensor]] = field(default_factory=Future)

    @property
    def kind(self) -> object:
        """Calls of one kind can be rows of one batch."""
        return self.stages, *((x.shape[1:], x.dtype, x.device) for x in (self.z, self.c))


class DynamicBatching:
    """A generator for many threads; a single thread of its own computes, first come, first served.

    Only calls for the coarsest stage join: later stages are computed one image at a time anyway
    (:class:`~stackgan.networks.fast_generator.FastGenerator`). A call that fails does so alone.

    Args:
        generate: ``generate(z, c, stages)`` -> images of the stages (None: all), one tensor each.
        stages: of the tree.
        most: images of a batch; a call for more is a batch of its own.

    >>> twice = DynamicBatching(lambda z, c, stages: [2 * z + c], stages=1)
    >>> twice(torch.ones(1, 2), torch.zeros(1, 2))
    [tensor([[2., 2.]])]
    """

    def __init__(self, generate: Generate, stages: int, most: int = MOST) -> None:
        self.generate, self.stages, self.most = generate, stages, most
        self._waiting: deque[_Call] = deque()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generator")
        self._exact: bool | None = None  # not known yet

    def __call__(self, z: Tensor, c: Tensor, stages: Sequence[int] | None = None) -> list[Tensor]:
        """z (B, Z), c (B, C) -> images of ``stages``, as the generator returns them."""
        call = _Call(z, c, None if stages is None else tuple(stages))
        with self._lock:
            self._waiting.append(call)
        self._thread.submit(self._compute)
        return call.images.result()

    def _compute(self) -> None:
        """Compute the oldest call and those that join it; nothing if they were computed in another call's turn."""
        with self._lock:
            if not self._waiting:
                return
            calls = [self._waiting.popleft()]
        with torch.inference_mode():
            with contextlib.suppress(Exception):  # it may be the error of one of them, which is then computed alone
                calls += self._joining(calls[0])
                if len(calls) > 1:
                    for call, images in zip(calls, self._together(calls), strict=True):
                        call.images.set_result(images)
                    return
            for call in calls:
                try:
                    call.images.set_result(self._alone(call))
                except Exception as error:
                    call.images.set_exception(error)

    def _together(self, calls: Sequence[_Call]) -> list[list[Tensor]]:
        z, c = torch.cat([call.z for call in calls]), torch.cat([call.c for call in calls])
        lengths = [len(call.z) for call in calls]
        stages = [stage.split(lengths) for stage in self.generate(z, c, calls[0].stages)]
        return [[image.clone() for image in images] for images in zip(*stages, strict=True)]  # not all calls' memory

    def _alone(self, call: _Call) -> list[Tensor]:
        if len(call.z) == 1 or not self._is_coarse(call) or self._is_exact(call):
            return self.generate(call.z, call.c, call.stages)
        rows = zip(call.z.split(1), call.c.split(1), strict=True)
        return [torch.cat(stage) for stage in zip(*(self.generate(z, c, call.stages) for z, c in rows), strict=True)]

    def _joining(self, first: _Call) -> list[_Call]:
        """Take the calls that wait and can be computed with ``first``."""
        with self._lock:
            alone = not self._waiting
        if alone or not self._is_coarse(first) or not self._is_exact(first):
            return []
        joining, free = [], self.most - len(first.z)
        with self._lock:
            for call in [call for call in self._waiting if call.kind == first.kind]:
                if len(call.z) > free:
                    break  # later ones do not overtake it
                self._waiting.remove(call)
                joining.append(call)
                free -= len(call.z)
        return joining

    def _is_coarse(self, call: _Call) -> bool:
        return (self.stages - 1 if call.stages is None else max(call.stages)) == 0

    def _is_exact(self, like: _Call) -> bool:
        """Whether images in batches of several sizes are those of batches of one, bit for bit, on this machine."""
        if self._exact is None:
            draws = torch.Generator().manual_seed(0)
            z, c = (
                torch.randn((self.most, *x.shape[1:]), generator=draws).to(x.device, x.dtype)
                for x in (like.z, like.c)
            )
            alone = torch.cat([self.generate(x, y, (0,))[0] for x, y in zip(z.split(1), c.split(1), strict=True)])
            sizes = sorted({2, self.most - 3, self.most})
            self._exact = all(torch.equal(self.generate(z[:size], c[:size], (0,))[0], alone[:size]) for size in sizes)
        return self._exact


def shared(pipe: StackGANPipeline) -> StackGANPipeline:
    """The pipeline, changed so that many threads can use it: their images form batches."""
    if not isinstance(pipe.generator, DynamicBatching):
        pipe.generator = DynamicBatching(pipe.generator, len(pipe.sizes))
    return pipe
