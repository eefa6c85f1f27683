"""What every benchmark needs: contestants in processes of their own, raced in alternation; peak, versions, tables.

A contestant is a function that makes another one, the work of one round. Each lives in a process of its own, so that
the allocator (pages kept or not), the number of threads and compiled code belong to it alone. Rounds go A B C A B C:
only one process works at a time, and a machine that slows down slows all of them. A ratio is the median over rounds
of the two times of one round; its spread is the quartiles.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

__all__ = ["Contestant", "Times", "baseline", "gmacs_at_peak", "print_table", "print_versions", "race"]

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "stackgan_v2_baseline.py"


def baseline() -> ModuleType | None:
    """The published model in plain eager PyTorch, from beside the repository; None on a user's machine."""
    if not REFERENCE.is_file():
        return None
    spec = spec_from_file_location("stackgan_v2_baseline", REFERENCE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- races --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contestant:
    """One of those that race.

    Attributes:
        name: shown in tables.
        make: a function of a module (it is sent to another process) that returns the work of a round.
        arguments: of ``make``.
        keep_pages: whether its allocator keeps freed pages (:func:`stackgan.runtime.allocator.keep_pages`).
        threads: of PyTorch; None for as many as it chooses.
        units: what one round makes (images), to turn seconds into seconds a unit.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    arguments: dict[str, Any] = field(default_factory=dict)
    keep_pages: bool = True
    threads: int | None = None
    units: int = 1


@dataclass(frozen=True)
class Times:
    """Seconds a unit, one a round, and the peak memory of the process in MiB."""

    seconds: tuple[float, ...]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def faster_than(self, other: Times) -> tuple[float, float, float]:
        """How many times faster than ``other``, round by round: median, lower and upper quartile."""
        ratios = [b / a for a, b in zip(self.seconds, other.seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return middle, low, high


def race(contestants: Sequence[Contestant], rounds: int = 9, warm_up: int = 2) -> dict[str, Times]:
    """Time every contestant ``rounds`` times in alternation, after ``warm_up`` rounds each that do not count.

    Raises:
        RuntimeError: a contestant failed; its traceback is on stderr.
    """
    with _started(contestants) as connections:
        for _ in range(warm_up):
            for connection in connections.values():
                _round(connection)
        seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
        for _ in range(rounds):
            for contestant in contestants:
                seconds[contestant.name].append(_round(connections[contestant.name]) / contestant.units)
        peaks = {}
        for name, connection in connections.items():
            connection.send("peak")
            peaks[name] = float(connection.recv())
    return {name: Times(tuple(values), peaks[name]) for name, values in seconds.items()}


@contextmanager
def _started(contestants: Sequence[Contestant]) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    try:
        for contestant in contestants:  # one after the other: building beside each other would not be quicker
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(contestant, there), daemon=True)
            process.start()
            there.close()
            processes.append(process)
            connections[contestant.name] = here
            _answer(here)
        yield connections
    finally:
        for connection in connections.values():
            connection.close()
        for process in processes:
            process.join(10)
            process.terminate()


def _serve(contestant: Contestant, connection: Connection) -> None:
    """A contestant's process: build, then one round for every message."""
    if contestant.keep_pages:
        from stackgan.runtime.allocator import keep_pages

        keep_pages()
    if contestant.threads is not None:
        torch.set_num_threads(contestant.threads)
    work = contestant.make(**contestant.arguments)
    connection.send("ready")
    while True:
        try:
            order = connection.recv()
        except EOFError:
            return
        if order == "peak":
            connection.send(_peak_mib())
            continue
        began = time.perf_counter()
        work()
        connection.send(time.perf_counter() - began)


def _round(connection: Connection) -> float:
    connection.send("go")
    return float(_answer(connection))


def _answer(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError("a contestant failed: see the traceback above") from None


def _peak_mib() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the process that this one was forked from
        return (
            int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024
        )
    import resource

    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 1024 if sys.platform != "darwin" else kib / 1024 / 1024


# --- the machine --------------------------------------------------------------------------------------------


def gmacs_at_peak(dtype: torch.dtype = torch.float32, threads: int | None = None) -> float:
    """10⁹ multiply-adds a second that this machine reaches in a large channels-last convolution, its best case."""
    if threads is not None:
        torch.set_num_threads(threads)
    conv = torch.nn.Conv2d(256, 256, 3, 1, 1, bias=False).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(8, 256, 64, 64).to(dtype).to(memory_format=torch.channels_last)
    work = 8 * 64 * 64 * 256 * 256 * 9 / 1e9
    best = float("inf")
    with torch.inference_mode():
        for _ in range(8):
            began = time.perf_counter()
            conv(x)
            best = min(best, time.perf_counter() - began)
    return work / best


def print_versions() -> None:
    """One line: processor, threads, PyTorch, Python."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    capability = torch.backends.cpu.get_cpu_capability()
    print(
        f"{name}, {os.cpu_count()} cores ({capability}), {torch.get_num_threads()} threads; "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table, so that it can be pasted."""
    print(f"\n{title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    sys.stdout.flush()
