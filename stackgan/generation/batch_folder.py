"""The folder of a batch: names of its files, its settings, one call at a time, and the grid of the first images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from stackgan.generation.writer import make_folder, write_png
from stackgan.images.grid import caption_sheet
from stackgan.io.files import write_atomic
from stackgan.io.json_reader import Fields, read_json

__all__ = [
    "GRID",
    "GRID_IMAGES",
    "JOB",
    "MANIFEST",
    "METADATA",
    "REJECTS",
    "claimed",
    "read_job",
    "write_grid",
]

MOST_THREADS = 4096
JOB, MANIFEST, METADATA, GRID, REJECTS = "batch.json", "manifest.jsonl", "metadata.jsonl", "grid.png", "rejects.jsonl"
GRID_IMAGES, GRID_COLUMNS, GRID_SIDE, MOST_GRID_SIDE = 100, 10, 128, 256  # columns of images of GRID_SIDE px


def write_grid(out: Path, records: Sequence[dict[str, Any]]) -> None:
    """Grid of the first images with captions; copies are side by side if all captions have the same number."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["line"], []).append(record)
    each = {len(group) for group in groups.values()}
    with Image.open(out / records[0]["file"]) as first:
        side = min(max(first.width, GRID_SIDE), MOST_GRID_SIDE)
    across = GRID_COLUMNS * GRID_SIDE // side
    together = len(each) == 1 and max(each) <= across
    cells = list(groups.values()) if together else [[record] for record in records]
    rows = [(group[0]["caption"], [Image.open(out / record["file"]) for record in group]) for group in cells]
    columns = max(1, across // len(cells[0]))
    sheet = caption_sheet(rows, columns=min(columns, len(rows)), side=side)
    write_png(out / GRID, sheet, {})


@contextmanager
def claimed(out: Path, job: dict[str, Any]) -> Iterator[None]:
    """Create ``out``, lock it, check that it belongs to this job, and remove partial files.

    Within the context, the number of threads is the one that the job started with, as rounding depends on it.
    """
    make_folder(out)
    threads = torch.get_num_threads()
    handle = os.open(out, os.O_RDONLY) if os.name == "posix" else None
    try:
        if handle is not None:
            _lock(handle, out)
        known = (out / JOB).is_file()
        if known:
            torch.set_num_threads(_check_same(out, job))
        with os.scandir(out) as entries:
            for entry in entries:
                if entry.name.startswith(".") and ".partial-" in entry.name:
                    (out / entry.name).unlink(missing_ok=True)
                elif not known and not entry.name.startswith("."):
                    raise ValueError(f"{out}: is not empty and not a batch; name another folder with --out")
        if not known:
            write_atomic(out / JOB, (json.dumps(job, indent=2) + "\n").encode())
        yield
    finally:
        torch.set_num_threads(threads)
        if handle is not None:
            os.close(handle)


def _lock(handle: int, out: Path) -> None:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{out}: another batch is writing to this folder; wait, or name another folder") from None
    except OSError:
        pass  # a file system without locks: concurrent batches are not detected


def _check_same(out: Path, job: dict[str, Any]) -> int:
    """Raise ``ValueError`` if the folder belongs to another job; returns the number of threads it started with."""
    found = read_job(out / JOB)
    hashed = {"checkpoint": "another checkpoint", "captions": "another captions file"}
    differing = [
        hashed.get(key) or f"{key} {found.get(key, 'not set')} there, {job.get(key, 'not set')} here"
        for key in dict.fromkeys((*job, *found))
        if key != "threads" and found.get(key) != job.get(key)
    ]
    if differing:
        raise ValueError(
            f"{out}: holds another batch ({', '.join(differing)}); "
            "name another folder with --out, or give the same settings to resume it"
        )
    return int(found["threads"])


def read_job(file: Path) -> dict[str, Any]:
    """The settings of the batch in a folder; raises ``ValueError`` for a file that no batch wrote."""
    advice = "not a batch of this program; name another folder with --out"
    found: dict[str, Any] = read_json(file, Fields({"threads": int}, {"shard": str}), advice=advice)
    if not 1 <= found["threads"] <= MOST_THREADS:
        raise ValueError(f"{file}: threads is {found['threads']}, expected 1 to {MOST_THREADS}; {advice}")
    return found
