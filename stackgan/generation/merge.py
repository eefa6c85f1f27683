"""Joins the folders of the shards of a batch to the folder that one call would have written."""

from __future__ import annotations

import heapq
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from stackgan.generation.batch import parse_shard
from stackgan.generation.batch_folder import (
    GRID_IMAGES,
    JOB,
    MANIFEST,
    METADATA,
    REJECTS,
    claimed,
    read_job,
    write_grid,
)
from stackgan.generation.writer import is_whole
from stackgan.io.files import atomic_file
from stackgan.io.json_reader import Fields, parse_json

__all__ = ["merge"]

_RECORD = Fields({"file": str, "line": int, "copy": int, "caption": str})


def merge(merge: Sequence[Path], *, out: Path) -> int:
    """Join the folders of all shards of a batch in ``out``, or resume an earlier call; returns 0.

    ``out`` has the files of an unsharded call: images (hard links where the file system allows it, else copies),
    ``manifest.jsonl`` and ``metadata.jsonl`` in the order of the captions file, ``grid.png``, ``batch.json`` and
    ``rejects.jsonl``. The shards are not changed. Memory use does not depend on the number of images.

    Args:
        merge: the folders of the shards, in any order.

    Raises:
        ValueError: a folder is not a shard, the shards are of different batches, one is missing, given twice or
            incomplete.
        FileNotFoundError: a folder does not exist.
    """
    job, shards = _check_shards(merge)
    records = heapq.merge(*map(_records, shards), key=lambda record: record[0])
    with (
        claimed(out, job),
        atomic_file(out / MANIFEST) as partial,
        partial.open("wb") as manifest,
        atomic_file(out / METADATA) as second,
        second.open("wb") as metadata,
    ):
        images = 0
        first: list[dict[str, Any]] = []
        for _, folder, record, line, entry in records:
            _link(folder / record["file"], out / record["file"])
            manifest.write(line)
            metadata.write(entry)
            images += 1
            if len(first) < GRID_IMAGES:
                first.append(record)
        if first:
            write_grid(out, first)
        if (shards[0] / REJECTS).is_file() and not (out / REJECTS).exists():
            with atomic_file(out / REJECTS) as rejects:
                shutil.copyfile(shards[0] / REJECTS, rejects)
    print(f"{images} images of {len(shards)} shards in {out}")
    return 0


def _check_shards(folders: Sequence[Path]) -> tuple[dict[str, Any], list[Path]]:
    """Settings of the whole batch, and the folders in the order of their shards."""
    jobs = {folder: _read_shard(folder) for folder in folders}
    if len(jobs) < len(folders):
        raise ValueError(f"{next(f for f in folders if folders.count(f) > 1)}: is named twice; name each shard once")
    places = {folder: parse_shard(job.pop("shard")) for folder, job in jobs.items()}
    first = folders[0]
    for folder, job in jobs.items():
        keys = [key for key in dict.fromkeys((*jobs[first], *job)) if jobs[first].get(key) != job.get(key)]
        keys = [key for key in keys if key != "threads"]
        if keys or places[folder][1] != places[first][1]:
            what = ", ".join(keys) or f"{places[folder][1]} shards there, {places[first][1]} here"
            raise ValueError(f"{folder}: is of another batch than {first} ({what}); name the shards of one batch")
    by_part: dict[int, Path] = {}
    for folder, (part, parts) in places.items():
        other = by_part.setdefault(part, folder)
        if other != folder:
            raise ValueError(f"{folder}: is shard {part}/{parts} like {other}; name each shard once")
    parts = places[first][1]
    missing = [f"{part}/{parts}" for part in range(1, parts + 1) if part not in by_part][:10]
    if missing:
        raise ValueError(f"shards {', '.join(missing)} are missing; name the folders of all {parts}")
    threads = sorted({job["threads"] for job in jobs.values()})
    if len(threads) > 1:
        numbers = ", ".join(map(str, threads))
        print(
            f"the shards were generated with {numbers} threads: rounding differs between them; "
            "for the same bytes everywhere set OMP_NUM_THREADS",
            file=sys.stderr,
        )
    return jobs[by_part[1]], [by_part[part] for part in sorted(by_part)]


def _read_shard(folder: Path) -> dict[str, Any]:
    if not (folder / JOB).is_file():
        raise FileNotFoundError(f"{folder}: no {JOB} in it; name folders that `stackgan batch --shard` wrote")
    job = read_job(folder / JOB)
    if "shard" not in job:
        raise ValueError(f"{folder}: is a whole batch and no shard; name folders that `stackgan batch --shard` wrote")
    for name in (MANIFEST, METADATA):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: shard {job['shard']} is not complete; run its command again")
    return job


def _records(folder: Path) -> Iterator[tuple[tuple[int, int], Path, dict[str, Any], bytes, bytes]]:
    """Yield (line, copy), folder, record, line of the manifest and line of the metadata for each image of a shard."""
    with (folder / MANIFEST).open("rb") as manifest, (folder / METADATA).open("rb") as metadata:
        for number, (line, entry) in enumerate(zip_longest(manifest, metadata, fillvalue=b""), 1):
            where = f"{folder / MANIFEST}, line {number}"
            record = parse_json(line, where, _RECORD, advice="run the command of this shard again")
            name = record["file"]
            if Path(name).name != name or "\\" in name or not is_whole(folder / name) or not entry:
                raise ValueError(f"{where}: {name!r} is missing or not complete; run the command of this shard again")
            yield (record["line"], record["copy"]), folder, record, line, entry


def _link(source: Path, target: Path) -> None:
    """Hard link to the image, or a copy on another file system; a complete file is left as it is."""
    if is_whole(target):
        return
    with atomic_file(target) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
