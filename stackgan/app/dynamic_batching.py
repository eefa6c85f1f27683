"""Dynamic batching: calls of a generator that several threads make at once are computed as one batch.

The images are those of the calls one by one, to the bit: on some machines this holds for some sizes of a batch only
(oneDNN chooses its loops by it), thus each size is checked before its first batch, and rows are divided into such.
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
THREADS = torch.get_num_threads()  # of OpenMP; other threads use one for small networks, which new ones could inherit
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
        self._thread = ThreadPoolExecutor(1, "generator", torch.set_num_threads, (THREADS,))
        self._exact = {1: True}  # whether the images of a batch of this size are exact, where it is known

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
            if self._is_coarse(calls[0]):
                calls += self._joining(calls[0])
        with torch.inference_mode():
            if len(calls) > 1:
                with contextlib.suppress(Exception):  # it may be the error of one of them: each is computed alone
                    for call, images in zip(calls, self._together(calls), strict=True):
                        call.images.set_result(images)
                    return
            for call in calls:
                try:
                    call.images.set_result(self._alone(call))
                except Exception as error:
                    call.images.set_exception(error)

    def _joining(self, first: _Call) -> list[_Call]:
        """Take the calls that wait and can be computed with ``first``."""
        joining, free = [], self.most - len(first.z)
        for call in [call for call in self._waiting if call.kind == first.kind]:
            if len(call.z) > free:
                break  # later ones do not overtake it
            self._waiting.remove(call)
            joining.append(call)
            free -= len(call.z)
        return joining

    def _together(self, calls: Sequence[_Call]) -> list[list[Tensor]]:
        z, c = torch.cat([call.z for call in calls]), torch.cat([call.c for call in calls])
        lengths = [len(call.z) for call in calls]
        stages = [stage.split(lengths) for stage in self._in_batches(z, c, calls[0].stages)]
        return [[image.clone() for image in images] for images in zip(*stages, strict=True)]  # not all calls' memory

    def _alone(self, call: _Call) -> list[Tensor]:
        if not self._is_coarse(call):
            return self.generate(call.z, call.c, call.stages)
        return self._in_batches(call.z, call.c, call.stages)

    def _in_batches(self, z: Tensor, c: Tensor, stages: tuple[int, ...] | None) -> list[Tensor]:
        """The rows in as few batches of exact sizes as possible."""
        parts, done = [], 0
        while done < len(z):
            size = next(n for n in range(min(self.most, len(z) - done), 0, -1) if self._is_exact(n, z, c))
            parts.append(self.generate(z[done : done + size], c[done : done + size], stages))
            done += size
        return parts[0] if len(parts) == 1 else [torch.cat(stage) for stage in zip(*parts, strict=True)]

    def _is_coarse(self, call: _Call) -> bool:
        return (self.stages - 1 if call.stages is None else max(call.stages)) == 0

    def _is_exact(self, size: int, z: Tensor, c: Tensor) -> bool:
        """Whether images in a batch of ``size`` are those of batches of one, bit for bit, on this machine."""
        if size not in self._exact:
            draws = torch.Generator().manual_seed(0)
            z, c = (torch.randn((size, *x.shape[1:]), generator=draws).to(x.device, x.dtype) for x in (z, c))
            alone = [self.generate(x, y, (0,))[0] for x, y in zip(z.split(1), c.split(1), strict=True)]
            self._exact[size] = torch.equal(self.generate(z, c, (0,))[0], torch.cat(alone))
        return self._exact[size]


def shared(pipe: StackGANPipeline) -> StackGANPipeline:
    """The pipeline, changed so that many threads can use it: their images form batches."""
    if not isinstance(pipe.generator, DynamicBatching):
        pipe.generator = DynamicBatching(pipe.generator, len(pipe.sizes))
    return pipe
