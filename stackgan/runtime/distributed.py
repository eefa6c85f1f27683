"""Several processes that train one model on one batch: ranks, collective operations, what rank 0 alone does.

``torchrun`` and other launchers start the processes and name them in the environment (RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT). Every process holds the whole model, and rank r of W computes rows r, r + W, r + 2W, … of
the batch. All processes together compute what one does on the whole batch, up to the order of sums: within
:func:`sharded`,

- random numbers are drawn for the whole batch in every process, from generators in the same state
  (:func:`whole_count`, :func:`own_rows`);
- what depends on other rows of the batch is computed from rows of all processes (:func:`gather_rows`) or from means
  over them (:func:`mean_over_ranks`), both differentiable to any order;
- the loss of a process is the mean over its own rows, or a function of the whole batch that is the same in all of
  them; the loss of the batch is the mean over processes, and so is its gradient (:func:`average_gradients`).

Outside of :func:`sharded`, and in a program of one process, these functions return what they are given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from stackgan.runtime.device import chosen_device

__all__ = [
    "ProcessLost",
    "average_gradients",
    "first_before_others",
    "gather_rows",
    "greatest",
    "is_first",
    "mean_over_ranks",
    "on_first",
    "own_rows",
    "processes",
    "rank",
    "sharded",
    "shares",
    "sum_over_ranks",
    "whole_count",
    "world",
]

T = TypeVar("T")

STEP_LIMIT = timedelta(minutes=5)  # for a collective operation within a step, and for all processes to start
OUTPUT_LIMIT = timedelta(hours=24)  # for what one process does alone: a text encoder's training, an evaluation
BUCKET = 2**23  # numbers per all-reduce of gradients


class ProcessLost(ValueError):
    """Another process of the job has ended, or does not answer."""


@dataclass
class _Job:
    """The processes of this program.

    Attributes:
        shares: number of processes that the batch is divided among: ``count`` within :func:`sharded`, otherwise 1.
        control: group for numbers and messages on the CPU, so that they never wait for a GPU's queue.
    """

    rank: int = 0
    count: int = 1
    shares: int = 1
    control: Any = None


_job = _Job()


def rank() -> int:
    """Number of this process, from 0."""
    return _job.rank


def world() -> int:
    """Number of processes."""
    return _job.count


def shares() -> int:
    """Number of processes that the batch is divided among: all within :func:`sharded`, otherwise 1."""
    return _job.shares


def is_first() -> bool:
    """Whether this process writes the files and messages of the job."""
    return _job.rank == 0


@contextmanager
def processes(device: str | None = None) -> Iterator[torch.device]:
    """Join the other processes of the job, if a launcher started several; the value is this process's device.

    With NVIDIA GPUs each process of a machine has one, by LOCAL_RANK, and NCCL connects them; otherwise gloo does.
    The context ends in all processes at the same time, so that none ends while the first still writes. An error that
    :func:`on_first` passed on ends the others without a message, with exit code 2.

    Args:
        device: as for :func:`~stackgan.runtime.device.chosen_device`; without an index with several processes.

    Raises:
        ValueError: the environment is incomplete, or there are more processes than GPUs.
        ProcessLost: the other processes did not start, or one of them ended before this one.
    """
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        yield chosen_device(device)
        return
    here = _own_device(device)
    global _job
    job = _Job(_number("RANK"), count)
    with _words():
        dist.init_process_group("nccl" if here.type == "cuda" else "gloo", timeout=STEP_LIMIT)
        job.control = dist.new_group(backend="gloo", timeout=OUTPUT_LIMIT)
    _job = job
    try:
        yield here
        _barrier()
        dist.destroy_process_group()
    except _PassedOn:
        raise SystemExit(2) from None
    finally:
        _job = _Job()


@contextmanager
def sharded() -> Iterator[None]:
    """Within this context the batch at hand is this process's share of a batch of all processes."""
    before, _job.shares = _job.shares, _job.count
    try:
        yield
    finally:
        _job.shares = before


# --- rows ---------------------------------------------------------------------------------------------------


def whole_count(count: int) -> int:
    """Rows of the batch of all processes, of which this one has ``count``."""
    return count * _job.shares


def own_rows(whole: Tensor, dim: int = 0) -> Tensor:
    """This process's rows of a tensor for the whole batch, along ``dim``."""
    if _job.shares == 1:
        return whole
    index = [slice(None)] * dim + [slice(_job.rank, None, _job.shares)]
    return whole[tuple(index)].contiguous()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (B, …) of every process in the order of the whole batch, (W · B, …); differentiable to any order."""
    return cast(Tensor, _GatherRows.apply(rows)) if _job.shares > 1 else rows


def sum_over_ranks(value: Tensor) -> Tensor:
    """Σ over processes of a tensor of one shape; differentiable to any order."""
    return cast(Tensor, _Sum.apply(value)) if _job.shares > 1 else value


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean over processes of a tensor of one shape; differentiable to any order."""
    return sum_over_ranks(value) / _job.shares if _job.shares > 1 else value


class _GatherRows(torch.autograd.Function):
    """Rows of all processes; the gradient of a row is the sum of what every process computes from it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(_job.count)]
        with _words():
            dist.all_gather(parts, rows)
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return cast(Tensor, _OwnRowsOfSum.apply(grad))


class _OwnRowsOfSum(torch.autograd.Function):
    """This process's rows of the sum over processes: the adjoint of :class:`_GatherRows`."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        return _summed(whole)[_job.rank :: _job.count].contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return cast(Tensor, _GatherRows.apply(grad))


class _Sum(torch.autograd.Function):
    """The sum over processes, its own adjoint."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(grad))


def _summed(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    with _words():
        dist.all_reduce(total)
    return total


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients of ``parameters`` by their means over processes, in all of them; within :func:`sharded`.

    Gradients travel in buckets of :data:`BUCKET` numbers. A parameter has a gradient in all processes or in none.
    """
    if _job.shares == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        with _words():
            dist.all_reduce(flat)
        flat /= _job.shares
        for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(mean.view(gradient.shape))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and sum(g.numel() for g in bucket) + gradient.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


# --- agreement ----------------------------------------------------------------------------------------------


def greatest(*values: float) -> list[float]:
    """The greatest of each value over processes, in all of them."""
    if _job.count == 1:
        return list(values)
    numbers = torch.tensor(values, dtype=torch.float64)
    with _words():
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=_job.control)
    return cast(list[float], numbers.tolist())


def on_first(action: Callable[[], T]) -> T:
    """The result of ``action``, called in the first process alone, in all of them; so is its exception.

    ``action`` is without collective operations, and its result is small and can be pickled.
    """
    if _job.count == 1:
        return action()
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if is_first():
        try:
            outcome[0] = action()
        except ProcessLost:
            raise
        except Exception as error:
            failure = error
            outcome[1] = _constructible(type(error), str(error)), str(error)
    with _words():
        dist.broadcast_object_list(outcome, src=0, group=_job.control)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        kind, message = outcome[1]
        raise _passed_on(kind)(message)
    return cast(T, outcome[0])


def first_before_others(action: Callable[[], T]) -> T:
    """The result of ``action``, called in the first process and then, if it succeeded, in the others.

    For what the first process writes to files and the others then find there. An error of one of the others ends the
    job.
    """
    found: list[T] = []

    def act() -> None:
        found.append(action())

    on_first(act)
    if not is_first():
        act()
    greatest(0.0)
    return found[0]


class _PassedOn(Exception):
    """Base of errors that the first process reports."""


def _constructible(kind: type[Exception], message: str) -> type[Exception]:
    """``kind``, or what stands for it if it takes more than a message."""
    try:
        kind(message)
    except TypeError:
        return ValueError
    return kind


def _passed_on(kind: type[Exception]) -> Callable[[str], Exception]:
    """A subclass of ``kind``, to be handled as such, that is told from an error of this process."""
    return type(kind.__name__, (kind, _PassedOn), {})


def _barrier() -> None:
    greatest(0.0)


@contextmanager
def _words() -> Iterator[None]:
    """Turn a failed connection into a sentence."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ProcessLost(
            f"process {_number('RANK', 0)} of {_number('WORLD_SIZE', 1)}: another process of this job ended or does "
            f"not answer ({reason}). What was saved is kept: the same command resumes"
        ) from error


# --- environment --------------------------------------------------------------------------------------------


def _number(name: str, default: int | None = None) -> int:
    """An integer of the environment that launchers set."""
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        found = f"{name} is {text!r}" if text else f"{name} is not set"
        raise ValueError(
            f"{found}, although WORLD_SIZE is {os.environ.get('WORLD_SIZE')!r}: start several processes with "
            "torchrun, or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; one needs none of them"
        )
    return int(text)


def _own_device(name: str | None) -> torch.device:
    """This process's device, one of several processes."""
    wanted = chosen_device(name)
    if wanted.type == "cpu":
        return wanted
    if wanted.type != "cuda":
        raise ValueError(f"device '{wanted}' trains in one process: use cpu or cuda, or start without torchrun")
    if wanted.index is not None:
        raise ValueError(f"device '{wanted}': with several processes each takes a GPU of its own; use --device cuda")
    local, count = _number("LOCAL_RANK"), torch.cuda.device_count()
    if local >= count:
        raise ValueError(
            f"process {local + 1} of this machine has no GPU, as there are {count}: start as many processes as GPUs "
            f"(torchrun --nproc-per-node {count}), or use --device cpu"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device
