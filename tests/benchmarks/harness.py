"""Shared by all benchmarks: candidates in separate processes, timed in alternation; peak speed, versions, tables.

A candidate is a function that returns another one, the work of one round. Each runs in a separate process, with its
own allocator settings, number of threads and compiled code. Rounds alternate (A B C A B C): only one process works at
a time, and a varying machine load affects all of them. A ratio is the median over rounds of the ratio of the two
times of a round; its spread is given by the quartiles.
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

__all__ = ["Candidate", "Times", "baseline", "gmacs_at_peak", "print_table", "print_versions", "race"]

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "stackgan_v2_baseline.py"


def baseline() -> ModuleType | None:
    """The published model in plain eager PyTorch from beside the repository; None if it is missing."""
    if not REFERENCE.is_file():
        return None
    spec = spec_from_file_location("stackgan_v2_baseline", REFERENCE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- rounds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A program whose speed is compared.

    Attributes:
        name: shown in tables.
        make: a module-level function (it is pickled) that returns the work of a round.
        arguments: of ``make``.
        keep_pages: whether its allocator keeps freed pages (:func:`stackgan.runtime.allocator.keep_pages`).
        threads: of PyTorch; None for as many as it chooses.
        units: number of units (images) of one round, for seconds per unit.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    arguments: dict[str, Any] = field(default_factory=dict)
    keep_pages: bool = True
    threads: int | None = None
    units: int = 1


@dataclass(frozen=True)
class Times:
    """Seconds per unit of each round, and the peak memory of the process in MiB."""

    seconds: tuple[float, ...]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def faster_than(self, other: Times) -> tuple[float, float, float]:
        """Speed-up over ``other`` per round: median, lower and upper quartile."""
        ratios = [b / a for a, b in zip(self.seconds, other.seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return middle, low, high


def race(candidates: Sequence[Candidate], rounds: int = 9, warm_up: int = 2) -> dict[str, Times]:
    """Time every candidate ``rounds`` times in alternation, after ``warm_up`` rounds that are not counted.

    Raises:
        RuntimeError: a candidate failed; its traceback is on stderr.
    """
    with _started(candidates) as connections:
        for _ in range(warm_up):
            for connection in connections.values():
                _round(connection)
        seconds: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
        for _ in range(rounds):
            for candidate in candidates:
                seconds[candidate.name].append(_round(connections[candidate.name]) / candidate.units)
        peaks = {}
        for name, connection in connections.items():
            connection.send("peak")
            peaks[name] = float(connection.recv())
    return {name: Times(tuple(values), peaks[name]) for name, values in seconds.items()}


@contextmanager
def _started(candidates: Sequence[Candidate]) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    try:
        for candidate in candidates:  # sequentially, as building in parallel would not be faster
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(candidate, there), daemon=True)
            process.start()
            there.close()
            processes.append(process)
            connections[candidate.name] = here
            _answer(here)
        yield connections
    finally:
        for connection in connections.values():
            connection.close()
        for process in processes:
            process.join(10)
            process.terminate()


def _serve(candidate: Candidate, connection: Connection) -> None:
    """Process of a candidate: build, then one round per message."""
    if candidate.keep_pages:
        from stackgan.runtime.allocator import keep_pages

        keep_pages()
    if candidate.threads is not None:
        torch.set_num_threads(candidate.threads)
    work = candidate.make(**candidate.arguments)
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
        raise RuntimeError("a candidate failed: see the traceback above") from None


def _peak_mib() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would include the parent process
        return (
            int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024
        )
    import resource

    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 1024 if sys.platform != "darwin" else kib / 1024 / 1024


# --- the machine --------------------------------------------------------------------------------------------


def gmacs_at_peak(dtype: torch.dtype = torch.float32, threads: int | None = None) -> float:
    """10⁹ multiply-adds per second in a large channels-last convolution, as the peak of this machine."""
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
    """Print one line: processor, threads, PyTorch, Python."""
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
    """Print a Markdown table."""
    print(f"\n{title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    sys.stdout.flush()
