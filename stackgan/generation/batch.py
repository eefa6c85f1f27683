"""Generate images for every line of a captions file of any length; interrupted batches are resumed.

An image depends only on its caption and seed, on some machines up to rounding. An interrupted batch gives the same
bytes as an uninterrupted one: chunks and number of threads are the same in each call. A chunk with any missing file
is generated again as a whole; existing files are not replaced.

Encoding the captions of the next chunks, generating a chunk, and compressing and writing the PNGs of the previous one
run concurrently (:mod:`stackgan.generation.writer`). Memory use is that of a few chunks, independent of the length of
the file.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stackgan.captions.file import Line, Rejected, Survey, read_captions, survey
from stackgan.generation.batch_folder import GRID_IMAGES, MANIFEST, METADATA, REJECTS, claimed, write_grid
from stackgan.generation.writer import Chunk, ahead, chunked, image_facts, image_texts, is_whole, slug, write_chunks
from stackgan.io.files import atomic_file
from stackgan.latent.sampling import check_sampling
from stackgan.pipeline import StackGANPipeline
from stackgan.version import __version__

__all__ = ["batch", "generate_batch", "image_seed", "parse_shard"]

JOB_FORMAT = 2
SHOWN = 20  # warnings to print; the manifest has all of them
BLOCK = 8  # chunks whose captions are encoded together, so that copies are encoded once


def batch(
    file: Path,
    *,
    checkpoint: str | Path,
    out: Path,
    count: int = 1,
    seed: int = 0,
    truncation: float | None = None,
    size: int | None = None,
    best_of: int = 1,
    shard: str | None = None,
    batch_size: int = 16,
    device: str | None = None,
    precision: str = "fp32",
    compiled: bool = False,
) -> int:
    """Generate images for every line of a captions file into ``out``, or resume an earlier call.

    Returns 0, or 1 if the file has invalid lines: these are set aside in ``rejects.jsonl`` in ``out``, each with its
    line number and the reason, and images are generated for the others. That file is a captions file: once its
    captions, seeds or counts are mended, it can be given to another call. An existing one is not replaced.

    Files are named ``<line>-<copy>_<caption>.png``. Beside them are ``manifest.jsonl`` (an object for each image),
    ``metadata.jsonl`` (file_name and text: the folder is a data set in the ImageFolder convention), ``grid.png`` (the
    first 100 with their captions) and ``batch.json`` (the settings of the batch). Equal captions
    give equal images; use ``count`` for several images of a caption.

    Args:
        file: ``.txt`` (a caption per line), ``.jsonl`` or ``.csv`` (caption, and optionally seed and count).
        count: images per caption, for lines without a count.
        seed: see :func:`image_seed`; a seed in a line is used directly, and incremented for further copies.
        truncation: None for the value recommended by the checkpoint.
        size: side of the stage to save in pixels; None for the finest.
        best_of: candidates for each image (:meth:`~stackgan.pipeline.StackGANPipeline.best_seeds`); the manifest has
            the seed that was chosen.
        shard: generate a part of the images, such as "2/4" for the second of four calls, each with its own ``out``
            and possibly on its own machine. A part has every fourth block of ``BLOCK`` · ``batch_size`` images, so
            that its files equal those of one call if all use the same number of threads;
            :func:`~stackgan.generation.merge.merge` joins the folders.
        batch_size: images generated at a time.
        precision, compiled: see :class:`~stackgan.pipeline.StackGANPipeline`; constant for the whole batch.

    Raises:
        ValueError: a captions file without a valid line (the message names the first), an argument out of range, or
            a folder that contains other files or cannot be written.
        FileNotFoundError: the file does not exist.
    """
    check_sampling([seed], truncation, batch_size=batch_size)
    part, parts = parse_shard(shard) if shard is not None else (1, 1)
    if count < 1:
        raise ValueError(f"count {count} is too small: it is the number of images per caption, 1 or more")
    found = survey(file, count)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device, precision=precision, compiled=compiled)
    truncation = pipe.truncation if truncation is None else truncation
    size = pipe.sizes[pipe.stages_of(size)[-1]]
    if not pipe.conditional:
        raise ValueError(f"{checkpoint}: was trained without text: use generate --seeds, not batch")
    first = pipe.encode([found.first])  # raises before a folder is created if there is no text encoder
    pipe.best_seeds(first, [0], best_of)  # or no image tower
    job = _job(pipe, found, count, seed, truncation, size, batch_size, best_of)
    if parts > 1:
        job["shard"] = f"{part}/{parts}"
    with claimed(out, job):
        _show_blank(file, found)
        _write_rejects(file, found, count, out / REJECTS)
        how = f"{pipe.device.type}, {precision}, {torch.get_num_threads()} threads"
        total = _images_of(part, parts, found.images, BLOCK * batch_size)
        of_all = f" of {found.images}" if parts > 1 else ""
        print(f"generating {total}{of_all} images on {how}{', compiled' * compiled}", file=sys.stderr)
        start, report = time.perf_counter(), _Report(total)
        tasks = _tasks(read_captions(file, reject=_leave_out, count=count), count, seed, found)
        blocks = islice(chunked(tasks, BLOCK * batch_size), part - 1, None, parts)
        try:
            with (
                tqdm(total=total, unit="img", dynamic_ncols=True) as bar,
                closing(_generate_missing(pipe, blocks, out, truncation, size, batch_size, best_of)) as chunks,
            ):
                for records, generated in chunks:
                    report.add(records, generated)
                    bar.update(len(records))
        except KeyboardInterrupt:
            print(
                f"stopped at {report.done} of {total} images; the same command resumes",
                file=sys.stderr,
            )
            raise
    report.show(out, time.perf_counter() - start)
    return _show_rejected(found, out / REJECTS)


def generate_batch(
    pipe: StackGANPipeline,
    file: Path,
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float | None = None,
    size: int | None = None,
    batch_size: int = 16,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[list[dict[str, Any]]]:
    """Write the files of :func:`batch` with a loaded pipeline; yields the manifest's records of each chunk.

    Args:
        stop: called after every chunk; True ends the batch, with the manifest of the images generated so far.

    Raises:
        ValueError, FileNotFoundError: as :func:`batch`, at the first chunk.
    """
    truncation = pipe.truncation if truncation is None else truncation
    check_sampling([seed], truncation, batch_size=batch_size)
    found, size = survey(file, count), pipe.sizes[pipe.stages_of(size)[-1]]
    with claimed(out, _job(pipe, found, count, seed, truncation, size, batch_size)):
        _write_rejects(file, found, count, out / REJECTS)
        tasks = _tasks(read_captions(file, reject=_leave_out, count=count), count, seed, found)
        blocks = chunked(tasks, BLOCK * batch_size)
        with closing(_generate_missing(pipe, blocks, out, truncation, size, batch_size, stop=stop)) as chunks:
            for records, _ in chunks:
                yield records


def _job(
    pipe: StackGANPipeline,
    found: Survey,
    count: int,
    seed: int,
    truncation: float,
    size: int,
    batch_size: int,
    best_of: int = 1,
) -> dict[str, Any]:
    """The settings of a batch, which a call that resumes it must share."""
    job = {
        "format": JOB_FORMAT,
        "stackgan": __version__,
        "checkpoint": pipe.fingerprint,
        "captions": found.digest,
        "seed": seed,
        "count": count,
        "truncation": float(truncation),
        "size": size,
        "batch_size": batch_size,
        "device": pipe.device.type,
        "precision": pipe.precision,
        "compiled": pipe.compiled,
        "threads": torch.get_num_threads(),
    }
    if best_of == 1:
        return job
    job = job | {"best_of": best_of}
    return job if pipe.realism is None else job | {"realism": pipe.realism.identity}


def image_seed(seed: int, caption: str, copy: int) -> int:
    """Seed of an image: the first 32 bits of sha256("seed\\ncopy\\ncaption"), with copies numbered from 1.

    It does not depend on the rest of the file, so that lines may be added, removed and moved.

    >>> image_seed(0, "a small red bird", 1)
    4150509146
    """
    digest = hashlib.sha256(f"{seed}\n{copy}\n{caption}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def parse_shard(text: str) -> tuple[int, int]:
    """Number and count of a shard such as ``2/4``.

    >>> parse_shard("2/4")
    (2, 4)
    >>> parse_shard("0/4")
    Traceback (most recent call last):
        ...
    ValueError: --shard '0/4': expected i/n with i from 1 to n, such as 1/4, 2/4, 3/4 and 4/4
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise ValueError(f"--shard {text!r}: expected i/n with i from 1 to n, such as 1/4, 2/4, 3/4 and 4/4")
    return part, parts


def _images_of(part: int, parts: int, images: int, block: int) -> int:
    """How many of ``images`` a shard has, which takes every block whose number is part - 1 modulo parts."""
    whole, rest = divmod(images, block)
    mine = len(range(part - 1, whole, parts)) * block
    return mine + rest if whole % parts == part - 1 else mine


@dataclass(frozen=True)
class _Task:
    """One image to generate."""

    line: int
    copy: int
    caption: str
    seed: int
    name: str


def _tasks(lines: Iterable[Line], count: int, seed: int, found: Survey) -> Iterator[_Task]:
    """Tasks of the lines, in order; numbers in file names are zero-padded to sort correctly."""
    line_digits, copy_digits = max(5, len(str(found.last_line))), len(str(found.most_copies))
    for line in lines:
        words = slug(line.caption)
        for copy in range(1, (line.count or count) + 1):
            own = image_seed(seed, line.caption, copy) if line.seed is None else line.seed + copy - 1
            name = f"{line.number:0{line_digits}}-{copy:0{copy_digits}}{'_' if words else ''}{words}.png"
            yield _Task(line.number, copy, line.caption, own, name)


def _generate_missing(
    pipe: StackGANPipeline,
    blocks: Iterable[list[_Task]],
    out: Path,
    truncation: float,
    size: int,
    batch_size: int,
    best_of: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[tuple[list[dict[str, Any]], int]]:
    """Generate missing images in chunks; write the manifest of all images, and the grid of the first ones.

    Yields the records of each chunk and how many of its images were generated. The files are complete when the
    generator is exhausted, which is also after ``stop`` returned True.
    """

    @lru_cache(maxsize=4096)
    def warnings_of(caption: str) -> tuple[str, ...]:
        return tuple(warning.message for warning in pipe.warnings([caption]))

    with (
        atomic_file(out / MANIFEST) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as manifest,
        atomic_file(out / METADATA) as second,
        second.open("w", encoding="utf-8", newline="\n") as metadata,
        ThreadPoolExecutor(1, thread_name_prefix="png-grid") as pool,
        closing(_encoded(pipe, blocks, out, truncation, size, batch_size, best_of)) as encoded,
        closing(write_chunks(pipe, encoded, truncation, size)) as written,
    ):
        first: list[dict[str, Any]] = []
        grid: Future[None] | None = None
        for chunk in written:
            records = []
            for task in chunk.images:
                record: dict[str, Any] = {"file": task.name, "line": task.line, "copy": task.copy}
                record |= image_facts(pipe, task.caption, task.seed, truncation)
                record |= {"size": size, "notices": list(warnings_of(task.caption))}
                records.append(record)
                manifest.write(json.dumps(record, ensure_ascii=False) + "\n")
                entry = {"file_name": task.name, "text": task.caption, "seed": task.seed}
                metadata.write(json.dumps(entry, ensure_ascii=False) + "\n")
                if len(first) < GRID_IMAGES:
                    first.append(record)
            if grid is None and len(first) == GRID_IMAGES:
                grid = pool.submit(write_grid, out, first)  # concurrently with generating the rest
            yield records, len(chunk.files)
            if stop():
                break
        if first:  # a shard may have no images
            (grid or pool.submit(write_grid, out, first)).result()


def _encoded(
    pipe: StackGANPipeline,
    blocks: Iterable[list[_Task]],
    out: Path,
    truncation: float,
    size: int,
    batch_size: int,
    best_of: int,
) -> Generator[Chunk[_Task]]:
    """Yield chunks of tasks with their embeddings; the next block is encoded while the current one is used.

    The captions of a block are encoded together, or not at all if all of its files exist: on a GPU, rounding depends
    on the other captions of a batch, so these must not depend on where an earlier call was stopped.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="captions") as pool:

        def start(block: list[_Task]) -> tuple[list[_Task], set[str], Future[Tensor] | None]:
            missing = {task.name for task in block if not is_whole(out / task.name)}
            captions = list(dict.fromkeys(task.caption for task in block))
            return block, missing, pool.submit(pipe.encode, captions) if missing else None

        for block, missing, embeddings in ahead(map(start, blocks)):
            row_of = {caption: row for row, caption in enumerate(dict.fromkeys(p.caption for p in block))}
            for chunk in chunked(block, batch_size):
                if best_of != 1:
                    rows = embeddings.result()[[row_of[p.caption] for p in chunk]] if embeddings else None
                    chunk = _with_best_seeds(pipe, chunk, missing, rows, out, truncation, best_of)
                files = [
                    (place, out / task.name, image_texts(pipe, task.caption, task.seed, truncation, size))
                    for place, task in enumerate(chunk)
                    if task.name in missing
                ]
                rows = embeddings.result()[[row_of[p.caption] for p in chunk]] if embeddings and files else None
                yield Chunk(chunk, rows, [task.seed for task in chunk], files)


def _with_best_seeds(
    pipe: StackGANPipeline,
    chunk: list[_Task],
    missing: set[str],
    embeddings: Tensor | None,
    out: Path,
    truncation: float,
    best_of: int,
) -> list[_Task]:
    """The tasks with the seeds chosen among candidates, or, where the image is there, with the one in its file."""
    tasks = []
    for place, task in enumerate(chunk):
        if task.name in missing:
            assert embeddings is not None
            seed = pipe.best_seeds(embeddings[[place]], [task.seed], best_of, truncation)[0]
        else:
            with Image.open(out / task.name) as image:
                seed = int(image.info["seed"])
        tasks.append(replace(task, seed=seed))
    return tasks


class _Report:
    """Counts images and keeps the first warnings of the text encoder, in constant memory."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.generated = total, 0, 0
        self.messages: dict[str, list[int]] = {}
        self.further = 0

    def add(self, records: Sequence[Mapping[str, Any]], generated: int) -> None:
        """Add a chunk: its records in the manifest, and how many of its images did not exist."""
        self.done += len(records)
        self.generated += generated
        for record in records:
            for message in record["notices"] if record["copy"] == 1 else ():
                if message in self.messages:
                    self.messages[message][1] += 1
                elif len(self.messages) < SHOWN:
                    self.messages[message] = [record["line"], 1]
                else:
                    self.further += 1

    def show(self, out: Path, seconds: float) -> None:
        for message, (line, captions) in self.messages.items():
            also = f" (and {captions - 1} more captions)" if captions > 1 else ""
            print(f"line {line}{also}: {message}", file=sys.stderr)
        if self.further:
            print(f"{self.further} more such warnings are in {out / MANIFEST}", file=sys.stderr)
        there = self.done - self.generated
        print(
            f"{self.done} images in {out}: {self.generated} generated in {seconds:.1f} s"
            + (f", {there} existed already" if there else "")
        )


def _show_blank(file: Path, found: Survey) -> None:
    if found.blank:
        more = ", …" if found.blank > len(found.first_blank) else ""
        numbers = ", ".join(map(str, found.first_blank)) + more
        print(f"{file.name}: skipped as blank or a comment: {found.blank:,} (line {numbers})", file=sys.stderr)


def _leave_out(line: Rejected) -> None:
    """Invalid lines are in the rejects file already."""


def _write_rejects(file: Path, found: Survey, count: int, rejects: Path) -> None:
    """Write the invalid lines of ``file`` to ``rejects``, unless an earlier call did: it may be mended by now."""
    if not found.rejected or rejects.exists():
        return
    with atomic_file(rejects) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        for _ in read_captions(file, reject=lambda line: stream.write(line.to_json()), count=count):
            pass


def _show_rejected(found: Survey, rejects: Path) -> int:
    """Report the invalid lines; returns the exit code of the batch."""
    first = found.first_rejected
    if first is None:
        return 0
    lines = "1 line is" if found.rejected == 1 else f"{found.rejected} lines are"
    print(
        f"{lines} not valid and set aside in {rejects} (line {first.number}: {first.reason}); mend that file and "
        "give it as the captions file of another batch",
        file=sys.stderr,
    )
    return 1
