"""Batches on the page: a captions file or pasted captions to a ZIP of images; without Gradio.

The images, their names and seeds, the manifest and the rejected lines are those of ``stackgan batch``.
"""

from __future__ import annotations

import shlex
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackgan.app.image_request import MAX_PAGE_SEED, checked_integer
from stackgan.captions.file import Rejected, Survey, read_captions, survey
from stackgan.generation.batch import generate_batch
from stackgan.generation.batch_folder import GRID, MANIFEST, REJECTS
from stackgan.pipeline import StackGANPipeline

__all__ = ["MAX_BATCH", "MAX_FILE", "BatchProgress", "BatchRequest", "run_batch"]

MAX_BATCH = 1000  # images of a batch on the page
MAX_FILE = 20 * 2**20  # bytes of a captions file
BATCH_SIZE = 4  # images generated at a time: few, so that a batch stops soon
SHOWN = 20  # rejected lines and warnings to show; the files have all of them
UPDATE_SECONDS = 0.25  # shortest time between two reports
PASTED = "captions.txt"


@dataclass(frozen=True)
class BatchRequest:
    """Inputs of a batch: ``file`` or ``text``, one caption a line; ``count`` images of every caption.

    ``truncation`` and ``size`` are None for the checkpoint's recommended truncation and finest stage.
    """

    file: Path | None
    text: str
    count: float | None
    seed: float | None
    truncation: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class BatchProgress:
    """State of a batch.

    Attributes:
        total, done: numbers of images.
        folder: with the images.
        new: records of the manifest since the last report.
        finished, stopped: whether this is the last report, and whether the batch was stopped before its end.
        seconds: since its start.
        archive, manifest, rejects: files, of the last report; rejects is None if every line is valid.
        rejected: number of invalid lines; ``first_rejected`` are the first of them.
        blank: number of blank lines and comments that were skipped.
        warnings: the first warnings of captions, with the number of the line.
    """

    total: int
    done: int
    folder: Path
    new: list[dict[str, Any]]
    seconds: float
    finished: bool = False
    stopped: bool = False
    archive: Path | None = None
    manifest: Path | None = None
    rejects: Path | None = None
    rejected: int = 0
    first_rejected: list[Rejected] = field(default_factory=list)
    blank: int = 0
    warnings: list[str] = field(default_factory=list)


def run_batch(
    pipe: StackGANPipeline, request: BatchRequest, folder: Path, stop: Callable[[], bool] = lambda: False
) -> Iterator[BatchProgress]:
    """Generate a batch into ``folder``; reports a few times a second, and at last with the files.

    Args:
        folder: empty; the archive and the files in the reports are in it.
        stop: called after every few images; True ends the batch, and the last report has what was made.

    Raises:
        ValueError: no captions, no valid one, too many images, a setting out of range; the message can be shown.
    """
    start = time.perf_counter()
    count = checked_integer("The number of images per caption", request.count, 1, MAX_BATCH)
    seed = checked_integer("The seed", request.seed, 0, MAX_PAGE_SEED)
    file = _captions_file(request, folder)
    name = file.name
    try:
        found = survey(file, count)
        _check_total(request, found.images, name, count, seed)
        rejected = _first_rejected(file, count) if found.rejected else []
        out, reported = folder / "batch", start
        names, new, warnings = list[str](), list[dict[str, Any]](), list[str]()
        settings: dict[str, Any] = {
            "count": count,
            "seed": seed,
            "truncation": request.truncation,
            "size": request.size,
        }
        yield BatchProgress(found.images, 0, out, [], 0.0)
        with closing(generate_batch(pipe, file, out, **settings, batch_size=BATCH_SIZE, stop=stop)) as chunks:
            for records in chunks:
                new += records
                names += [record["file"] for record in records]
                warnings += _warnings(records)
                now = time.perf_counter()
                if now - reported >= UPDATE_SECONDS and len(names) < found.images:
                    yield BatchProgress(found.images, len(names), out, new, now - start)
                    reported, new = now, []
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(str(error).replace(str(file), name)) from None
    seconds = time.perf_counter() - start
    yield _last(found, rejected, warnings, names, BatchProgress(found.images, len(names), out, new, seconds))


def _last(
    found: Survey, rejected: list[Rejected], warnings: list[str], names: list[str], now: BatchProgress
) -> BatchProgress:
    """The last report, with the files of the batch; ``names`` are those of its images."""
    archive = now.folder.parent / f"batch_{now.done}-images.zip"
    _write_archive(now.folder, archive, names)
    return BatchProgress(
        now.total,
        now.done,
        now.folder,
        now.new,
        now.seconds,
        finished=True,
        stopped=now.done < now.total,
        archive=archive,
        manifest=now.folder / MANIFEST,
        rejects=now.folder / REJECTS if found.rejected else None,
        rejected=found.rejected,
        first_rejected=rejected,
        blank=found.blank,
        warnings=list(dict.fromkeys(warnings))[:SHOWN],
    )


def _captions_file(request: BatchRequest, folder: Path) -> Path:
    """The captions file that was chosen, or a new one of the pasted captions."""
    if request.file is not None and request.text.strip():
        raise ValueError("There are captions in the box and a file: remove one of the two.")
    if request.file is None:
        if not request.text.strip():
            raise ValueError("Write captions, one on each line, or choose a captions file.")
        file = folder / PASTED
        file.write_text(request.text, "utf-8", errors="surrogatepass")
        _check_size(file)
        return file
    _check_size(request.file)
    return request.file


def _check_size(file: Path) -> None:
    size = file.stat().st_size
    if size > MAX_FILE:
        raise ValueError(
            f"{file.name} has {size / 2**20:.1f} MB; this page takes up to {MAX_FILE // 2**20} MB: split it, or use "
            f"the command line: {_command(file.name, 1, 0)}"
        )


def _check_total(request: BatchRequest, images: int, name: str, count: int, seed: int) -> None:
    if images > MAX_BATCH:
        raise ValueError(
            f"{name} asks for {images:,} images; this page makes up to {MAX_BATCH:,} at once: give fewer captions, "
            f"or use the command line: {_command(name, count, seed, request.truncation, request.size)}"
        )


def _command(name: str, count: int, seed: int, truncation: float | None = None, size: int | None = None) -> str:
    """The command that generates the same batch."""
    options = f" --count {count} --seed {seed}"
    options += f" --truncation {truncation:g}" if truncation is not None else ""
    options += f" --size {size}" if size is not None else ""
    return f"stackgan batch {shlex.quote(name)} --checkpoint CHECKPOINT --out batch{options}"


def _first_rejected(file: Path, count: int) -> list[Rejected]:
    found: list[Rejected] = []
    for _ in read_captions(file, reject=lambda line: found.append(line) if len(found) < SHOWN else None, count=count):
        pass
    return found


def _warnings(records: list[dict[str, Any]]) -> list[str]:
    return [
        f"Line {record['line']}: {message}"
        for record in records
        if record["copy"] == 1
        for message in record["notices"]
    ]


def _write_archive(folder: Path, archive: Path, names: list[str]) -> None:
    """ZIP of a batch's tables and of its images ``names``: others may be there, of chunks after a stop."""
    tables = [file.name for file in folder.iterdir() if file.suffix != ".png" or file.name == GRID]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as stream:  # PNGs are compressed already
        for name in sorted([*tables, *names]):
            stream.write(folder / name, name)
