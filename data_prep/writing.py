"""Prepares photos on threads and writes the results in order."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from stackgan.data.format import Record
from stackgan.data.writer import PreparedWriter

__all__ = ["Photo", "Problem", "check_folders", "count_workers", "hash_share", "relative", "write_photos"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Photo:
    """A prepared photo: its split, (L, L, 3) uint8, its record, and its original size."""

    split: str
    image: NDArray[np.uint8]
    record: Record
    original: tuple[int, int]


@dataclass(frozen=True)
class Problem:
    """An unusable input: its path relative to the source, and the reason."""

    path: str
    reason: str


def write_photos(
    writer: PreparedWriter,
    items: Iterable[Item],
    prepare: Callable[[Item], Photo | Problem],
    *,
    total: int | None = None,
    workers: int,
    progress: bool,
    written: Callable[[Photo], object] | None = None,
) -> None:
    """Prepare `items` on threads, write photos and problems in order.

    The numbers of photos that were not square and of enlarged ones are stored in the writer's source.

    Args:
        total: number of items, for the progress bar.
        written: called with each photo that was written.
    """
    oblong = enlarged = 0
    with warnings.catch_warnings(), tqdm(total=total, unit=" photos", disable=not progress) as bar:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about unusual metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for result in _ordered_map(prepare, items, workers):
            bar.update()
            if isinstance(result, Photo):
                writer.add(result.split, result.image, result.record)
                oblong += result.original[0] != result.original[1]
                enlarged += max(result.original) < writer.load_side
                if written is not None:
                    written(result)
            else:
                writer.problem(result.path, result.reason)
    writer.source |= {"not_square": oblong, "enlarged": enlarged}


def _ordered_map(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map` on threads, with results in the order of the items, in constant memory.

    Threads instead of processes: Pillow releases the interpreter lock while decoding and resizing, data are not
    copied between processes, and an interrupted run leaves no processes.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in islice(source, 4 * workers):
            waiting.append(pool.submit(work, item))
        while waiting:
            result = waiting.popleft().result()
            for item in islice(source, 1):
                waiting.append(pool.submit(work, item))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def count_workers(requested: int | None) -> int:
    """Number of threads: as requested, or by default the CPU cores of this process, at most four."""
    if requested is not None:
        if requested < 1:
            raise ValueError(f"--workers {requested}: must be 1 or more")
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)


def check_folders(src: Path, out: Path, *, apart: bool) -> None:
    """Raise for an OUT that contains SRC, which --overwrite would delete; with `apart`, also for one inside SRC."""
    source, target = src.resolve(), out.resolve()
    if target == source or target in source.parents:
        raise ValueError(f"{out}: contains the source {src}; name another folder")
    if apart and source in target.parents:
        raise ValueError(f"{out}: is inside the source {src}; name a folder outside of it")


def relative(file: Path, src: Path) -> str:
    """The path of `file` relative to `src`, with forward slashes; begins with `..` for files outside of it."""
    return os.path.relpath(file, src).replace(os.sep, "/")


def hash_share(seed: int, name: str) -> float:
    """A number in [0, 1) that depends only on seed and name, so that splits do not change when photos are added."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) / 2**64
