"""Captions in, PNG files out: a handful from the command line, or a text file of any length.

A picture depends on its own caption and seed alone, up to rounding. A batch is the same byte for byte however
often it is interrupted, being cut into the same chunks and painted by as many threads each time. A chunk of
which any file is missing is painted whole again; files that are there are left alone.

Four things overlap: the captions of the next chunks are encoded, a chunk is painted, the one before it is turned into
PNGs on threads, and these are written. All of it is a few chunks deep, whatever the length of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stackgan.captions.file import Line, Survey, read_captions, survey
from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import to_pil
from stackgan.images.png import PNG_END, png_bytes
from stackgan.io.files import write_atomic
from stackgan.pipeline import StackGANPipeline, check_sampling
from stackgan.version import __version__

__all__ = ["batch", "generate", "make_folder", "picture_seed", "say_notices", "slug", "write_png"]

JOB, MANIFEST, GRID = "batch.json", "manifest.jsonl", "grid.png"
JOB_FORMAT = 2
SLUG = 60  # characters of a caption in a file name
GRID_PICTURES, GRID_COLUMNS, GRID_SIDE = 100, 10, 128
SHOWN = 20  # messages printed one by one; the manifest has all of them
BLOCK = 8  # chunks whose captions are encoded at once, so that copies and neighbours share one pass
WRITERS = 8  # threads that make and write PNGs, at most

_T = TypeVar("_T")


# --- from the command line ----------------------------------------------------------------------------------


def generate(
    captions: Sequence[str],
    *,
    seeds: Sequence[int],
    checkpoint: Path,
    out: Path,
    truncation: float | None = None,
    size: int | None = None,
    batch_size: int = 16,
    device: str | None = None,
    precision: str = "fp32",
) -> list[Path]:
    """Paint every caption with every seed into ``out``, named ``<caption>_seed-<seed>.png``.

    Args:
        captions: empty for a checkpoint that was trained without text.
        seeds, batch_size, precision: as :class:`~stackgan.pipeline.StackGANPipeline` takes them.
        truncation: the same; None for the one that the checkpoint recommends.
        size: side of the stage to save in pixels; None for the finest.

    Raises:
        ValueError: an argument out of range, a size that is not in the tree, a folder that cannot be written.
    """
    check_sampling(seeds, truncation, batch_size=batch_size)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device, precision=precision)
    truncation = pipe.truncation if truncation is None else truncation
    size = _stage(pipe, size)
    texts = list(dict.fromkeys(caption.strip() for caption in captions))
    embeddings = None
    if pipe.conditional:
        if not texts:
            raise ValueError(f"{checkpoint}: this checkpoint paints captions: give one or more")
        embeddings = pipe.encode(texts)  # no text encoder, empty caption: said before a folder is made
        say_notices(pipe, texts)
    elif texts:
        raise ValueError(f"{checkpoint}: this checkpoint was trained without text: leave the captions out")
    make_folder(out)
    jobs = [(row, seed) for row in range(max(1, len(texts))) for seed in dict.fromkeys(seeds)]
    files: list[Path] = []

    def chunks() -> Iterator[_Chunk[tuple[int, int]]]:
        for chunk in _chunks(jobs, batch_size):
            todo = []
            for place, (row, seed) in enumerate(chunk):
                text = texts[row] if texts else ""
                files.append(out / _name_of(text, seed))
                todo.append((place, files[-1], _facts(pipe, text, seed, truncation)))
            e = embeddings[[row for row, _ in chunk]] if embeddings is not None else None
            yield _Chunk(chunk, e, [seed for _, seed in chunk], todo)

    with (
        tqdm(total=len(jobs), unit="img", dynamic_ncols=True, leave=False) as bar,
        closing(_written(pipe, chunks(), truncation, size)) as written,
    ):
        for chunk in written:
            bar.update(len(chunk.pictures))
    return files


def _name_of(caption: str, seed: int) -> str:
    """A name that no other caption shares: a hash is added where the words alone do not tell."""
    words = slug(caption)
    if words.replace("-", " ") != caption:
        words = "-".join(filter(None, (words, hashlib.sha256(caption.encode()).hexdigest()[:8])))
    return f"{words}_seed-{seed}.png" if words else f"seed-{seed}.png"


def say_notices(pipe: StackGANPipeline, captions: Sequence[str]) -> None:
    if pipe.text_encoder is not None:
        for notice in pipe.text_encoder.notices(captions):
            print(f'"{captions[notice.index]}": {notice.message}', file=sys.stderr)


# --- from a file --------------------------------------------------------------------------------------------


def batch(
    file: Path,
    *,
    checkpoint: Path,
    out: Path,
    count: int = 1,
    seed: int = 0,
    truncation: float | None = None,
    size: int | None = None,
    batch_size: int = 16,
    device: str | None = None,
    precision: str = "fp32",
    compiled: bool = False,
) -> int:
    """Paint every line of a captions file into ``out``; goes on where an earlier call was stopped. Returns 0.

    Files are named ``<line>-<copy>_<caption>.png``. Beside them are ``manifest.jsonl`` (an object a picture),
    ``grid.png`` (the first 100 with their captions) and ``batch.json`` (which batch this is). Equal captions
    get equal pictures: ask for copies with ``count``.

    Args:
        file: ``.txt`` (a caption a line), ``.jsonl`` or ``.csv`` (caption, and seed and count where wanted).
        count: pictures a caption, where the line does not say.
        seed: see :func:`picture_seed`; a line's own seed is taken as it is, its further copies count up.
        truncation: None for the one that the checkpoint recommends.
        size: side of the stage to save in pixels; None for the finest.
        batch_size: pictures painted at a time.
        precision, compiled: as :class:`~stackgan.pipeline.StackGANPipeline` takes them; a batch goes on as it began.

    Raises:
        ValueError: a broken captions file (the line is named), an argument out of range, a folder that holds
            another batch or something else, or cannot be written. FileNotFoundError: no such file.
    """
    check_sampling([seed], truncation, batch_size=batch_size)
    if count < 1:
        raise ValueError(f"count {count} is too small: it is the pictures a caption, 1 or more")
    found = survey(file, count)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device, precision=precision, compiled=compiled)
    truncation = pipe.truncation if truncation is None else truncation
    size = _stage(pipe, size)
    if not pipe.conditional:
        raise ValueError(f"{checkpoint}: was trained without text: use generate --seeds, not batch")
    pipe.encode([found.first])  # a checkpoint without text encoder is told before a folder is made
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
        "precision": precision,
        "compiled": compiled,
        "threads": torch.get_num_threads(),
    }
    with _claimed(out, job):
        _say_blank(file, found)
        how = f"{pipe.device.type}, {precision}, {torch.get_num_threads()} threads"
        print(f"painting {found.pictures} pictures on {how}{', compiled' * compiled}", file=sys.stderr)
        start, report = time.perf_counter(), _Report(found.pictures)
        pictures = _pictures(read_captions(file), count, seed, found)
        try:
            _paint_missing(pipe, pictures, out, truncation, size, batch_size, report)
        except KeyboardInterrupt:
            print(
                f"stopped at {report.done} of {found.pictures} pictures; the same command goes on",
                file=sys.stderr,
            )
            raise
    report.say(out, time.perf_counter() - start)
    return 0


def picture_seed(seed: int, caption: str, copy: int) -> int:
    """A picture's own seed: the first 32 bits of sha256("seed\\ncopy\\ncaption"), copies counting from 1.

    It depends on nothing else in the file, so that lines may be added, dropped and moved.

    >>> picture_seed(0, "a small red bird", 1)
    4150509146
    """
    digest = hashlib.sha256(f"{seed}\n{copy}\n{caption}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@dataclass(frozen=True)
class _Picture:
    line: int
    copy: int
    caption: str
    seed: int
    name: str


def _pictures(lines: Iterable[Line], count: int, seed: int, found: Survey) -> Iterator[_Picture]:
    """The pictures of the lines, in order; numbers are padded so that names sort."""
    line_digits, copy_digits = max(5, len(str(found.last_line))), len(str(found.most_copies))
    for line in lines:
        words = slug(line.caption)
        for copy in range(1, (line.count or count) + 1):
            own = picture_seed(seed, line.caption, copy) if line.seed is None else line.seed + copy - 1
            name = f"{line.number:0{line_digits}}-{copy:0{copy_digits}}{'_' if words else ''}{words}.png"
            yield _Picture(line.number, copy, line.caption, own, name)


def _paint_missing(
    pipe: StackGANPipeline,
    pictures: Iterable[_Picture],
    out: Path,
    truncation: float,
    size: int,
    batch_size: int,
    report: _Report,
) -> None:
    """Paint what is not there yet, chunk by chunk; write the manifest of everything, and the grid of the first."""

    @lru_cache(maxsize=4096)
    def notices(caption: str) -> tuple[str, ...]:
        encoder = pipe.text_encoder
        return tuple(notice.message for notice in encoder.notices([caption])) if encoder else ()

    with (
        tqdm(total=report.total, unit="img", dynamic_ncols=True) as bar,
        _replacing(out / MANIFEST) as manifest,
        ThreadPoolExecutor(1, thread_name_prefix="png-grid") as pool,
        closing(_encoded(pipe, pictures, out, truncation, batch_size)) as encoded,
        closing(_written(pipe, encoded, truncation, size)) as written,
    ):
        first: list[dict[str, Any]] = []
        grid: Future[None] | None = None
        for chunk in written:
            painted = {place for place, _, _ in chunk.files}
            for place, picture in enumerate(chunk.pictures):
                told = notices(picture.caption)
                report.add(picture, told, painted=place in painted)
                record = {"file": picture.name, "line": picture.line, "copy": picture.copy}
                record |= _facts(pipe, picture.caption, picture.seed, truncation)
                record |= {"size": size, "notices": list(told)}
                manifest(json.dumps(record, ensure_ascii=False) + "\n")
                if len(first) < GRID_PICTURES:
                    first.append(record)
            if grid is None and len(first) == GRID_PICTURES:
                grid = pool.submit(_write_grid, out, first)  # while the rest is painted
            bar.update(len(chunk.pictures))
        (grid or pool.submit(_write_grid, out, first)).result()


def _encoded(
    pipe: StackGANPipeline, pictures: Iterable[_Picture], out: Path, truncation: float, batch_size: int
) -> Generator[_Chunk[_Picture]]:
    """The pictures in chunks with their embeddings; those of the next block are made while this one is used.

    A block's captions are encoded together, or not at all where none of its files is missing: what is encoded beside
    a caption decides its roundings, so that must not depend on where an earlier call was stopped.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="captions") as pool:

        def start(block: list[_Picture]) -> tuple[list[_Picture], set[str], Future[Tensor] | None]:
            missing = {picture.name for picture in block if not _is_whole(out / picture.name)}
            captions = list(dict.fromkeys(picture.caption for picture in block))
            return block, missing, pool.submit(pipe.encode, captions) if missing else None

        for block, missing, embeddings in _ahead(map(start, _chunks(pictures, BLOCK * batch_size))):
            row_of = {caption: row for row, caption in enumerate(dict.fromkeys(p.caption for p in block))}
            for chunk in _chunks(block, batch_size):
                files = [
                    (place, out / picture.name, _facts(pipe, picture.caption, picture.seed, truncation))
                    for place, picture in enumerate(chunk)
                    if picture.name in missing
                ]
                rows = embeddings.result()[[row_of[p.caption] for p in chunk]] if embeddings and files else None
                yield _Chunk(chunk, rows, [picture.seed for picture in chunk], files)


class _Report:
    """Counts, and the first things that the text encoder did not understand; bounded for any file."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.painted = total, 0, 0
        self.messages: dict[str, list[int]] = {}
        self.further = 0

    def add(self, picture: _Picture, notices: Sequence[str], painted: bool) -> None:
        self.done += 1
        self.painted += painted
        if picture.copy > 1:
            return
        for message in notices:
            if message in self.messages:
                self.messages[message][1] += 1
            elif len(self.messages) < SHOWN:
                self.messages[message] = [picture.line, 1]
            else:
                self.further += 1

    def say(self, out: Path, seconds: float) -> None:
        for message, (line, captions) in self.messages.items():
            also = f" (and {captions - 1} more captions)" if captions > 1 else ""
            print(f"line {line}{also}: {message}", file=sys.stderr)
        if self.further:
            print(f"{self.further} more such notices are in {out / MANIFEST}", file=sys.stderr)
        there = self.done - self.painted
        print(
            f"{self.done} pictures in {out}: {self.painted} painted in {seconds:.1f} s"
            + (f", {there} were there already" if there else "")
        )


def _say_blank(file: Path, found: Survey) -> None:
    if found.blank:
        more = ", …" if found.blank > len(found.first_blank) else ""
        numbers = ", ".join(map(str, found.first_blank)) + more
        print(f"{file}: {found.blank} blank lines skipped ({numbers})", file=sys.stderr)


def _write_grid(out: Path, records: Sequence[dict[str, Any]]) -> None:
    """The first pictures over their captions; copies side by side where all captions have as many."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["line"], []).append(record)
    each = {len(group) for group in groups.values()}
    together = len(each) == 1 and max(each) <= GRID_COLUMNS
    cells = list(groups.values()) if together else [[record] for record in records]
    rows = [(group[0]["caption"], [Image.open(out / record["file"]) for record in group]) for group in cells]
    columns = max(1, GRID_COLUMNS // len(cells[0]))
    sheet = caption_sheet(rows, columns=min(columns, len(rows)), side=GRID_SIDE)
    write_png(out / GRID, sheet, {"Software": f"stackgan {__version__}"})


# --- the folder ---------------------------------------------------------------------------------------------


@contextmanager
def _claimed(out: Path, job: dict[str, Any]) -> Iterator[None]:
    """``out`` made, locked against another process, checked to be this job's, cleared of broken-off files.

    The number of threads, which decides roundings, is the one the job began with while this lasts.
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
                    raise ValueError(f"{out}: is not empty and holds no batch; name another folder with --out")
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
        raise ValueError(f"{out}: another batch is painting here just now; wait, or name another folder") from None
    except OSError:
        pass  # a file system without locks: two batches at once are then the user's to avoid


def _check_same(out: Path, job: dict[str, Any]) -> int:
    """Refuse a folder that began as another job; returns the number of threads that it began with."""
    try:
        found = json.loads((out / JOB).read_text("utf-8"))
        threads = int(found["threads"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{out / JOB}: not a batch of this program; name another folder with --out") from None
    hashed = {"checkpoint": "another checkpoint", "captions": "another captions file"}
    differing = [
        hashed.get(key) or f"{key} {found.get(key)} there, {job[key]} here"
        for key in job
        if key != "threads" and found.get(key) != job[key]
    ]
    if differing:
        raise ValueError(
            f"{out}: holds another batch ({', '.join(differing)}); "
            "name another folder with --out, or give the same again to go on with it"
        )
    return max(1, threads)


def make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"{out}: cannot write there ({error.strerror}); name another folder with --out") from None


def _is_whole(file: Path) -> bool:
    """Whether a PNG is there to its last bytes; a power failure can leave an empty file under its name."""
    try:
        with file.open("rb") as stream:
            stream.seek(-len(PNG_END), os.SEEK_END)
            return stream.read() == PNG_END
    except OSError:
        return False


@contextmanager
def _replacing(file: Path) -> Iterator[Callable[[str], object]]:
    """Write a text file piece by piece; it takes its name at a clean exit."""
    partial = file.with_name(f".{file.name}.partial-{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream.write
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


# --- painting -----------------------------------------------------------------------------------------------


def _stage(pipe: StackGANPipeline, size: int | None) -> int:
    if size is None:
        return pipe.sizes[-1]
    if size not in pipe.sizes:
        raise ValueError(
            f"size {size} is not in this checkpoint's tree: choose from {', '.join(map(str, pipe.sizes))}"
        )
    return size


@dataclass(frozen=True)
class _Chunk(Generic[_T]):
    """Pictures painted together.

    Attributes:
        pictures: what its owner calls them, B.
        embeddings: (B, T); None for a checkpoint without text.
        seeds: B.
        files: place in the chunk, file and text chunks of those to be written; without any, nothing is painted.
    """

    pictures: list[_T]
    embeddings: Tensor | None
    seeds: list[int]
    files: list[tuple[int, Path, dict[str, Any]]]


def _written(
    pipe: StackGANPipeline, chunks: Iterable[_Chunk[_T]], truncation: float, size: int
) -> Generator[_Chunk[_T]]:
    """Paint chunk after chunk; each is returned, in order, when its files are on disk.

    While a chunk is painted, the PNGs of the one before are made and written on threads. An interruption waits for
    what has been painted; no file is ever half there.
    """
    stages = [pipe.sizes.index(size)]

    def paint(chunk: _Chunk[_T]) -> tuple[_Chunk[_T], Tensor | None]:
        return chunk, _paint(pipe, chunk.embeddings, chunk.seeds, truncation, stages) if chunk.files else None

    with ThreadPoolExecutor(min(WRITERS, os.cpu_count() or 1), thread_name_prefix="png") as pool:

        def start(painted: tuple[_Chunk[_T], Tensor | None]) -> tuple[_Chunk[_T], list[Future[None]]]:
            chunk, pixels = painted
            images = to_pil(pixels) if pixels is not None else []
            return chunk, [pool.submit(_save, file, images[place], facts) for place, file, facts in chunk.files]

        # A GPU paints asynchronously: only when the next chunk is on its way are this one's pixels waited for.
        for chunk, files in _ahead(map(start, _ahead(map(paint, chunks)))):
            for file in files:
                file.result()
            yield chunk


def _ahead(items: Iterable[_T]) -> Iterator[_T]:
    """The items, each handed out when the next one has been started; after an interruption those that are left."""
    waiting: deque[_T] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > 1:
                yield waiting.popleft()
    except KeyboardInterrupt:
        yield from waiting
        raise
    yield from waiting


def _paint(
    pipe: StackGANPipeline, embeddings: Tensor | None, seeds: Sequence[int], truncation: float, stages: Sequence[int]
) -> Tensor:
    """Pixels (B, 3, s, s) of one stage for each row of ``embeddings`` (B, T) and its seed, in one batch."""
    with torch.inference_mode():
        return pipe.paint(embeddings, seeds, truncation, stages)[0]


def _facts(pipe: StackGANPipeline, caption: str, seed: int, truncation: float) -> dict[str, Any]:
    return {"caption": caption, "seed": seed, "truncation": float(truncation), "checkpoint": pipe.fingerprint}


def _save(file: Path, image: Image.Image, facts: dict[str, Any]) -> None:
    write_png(file, image, {"Software": f"stackgan {__version__}"} | facts)


def write_png(file: Path, image: Image.Image, texts: dict[str, Any]) -> None:
    """A PNG with text chunks, whole or not at all."""
    write_atomic(file, png_bytes(image, texts))


def slug(caption: str) -> str:
    """A caption for a file name: lower-case ASCII words joined by dashes, cut after a word; may be empty.

    >>> slug("A small, red bird — très joli!")
    'a-small-red-bird-tres-joli'
    """
    ascii_only = unicodedata.normalize("NFKD", caption).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
    if len(words) <= SLUG:
        return words
    return words[: SLUG + 1].rpartition("-")[0] or words[:SLUG]


def _chunks(items: Iterable[_T], length: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, length)):
        yield chunk
