"""From embeddings and seeds to PNG files: chunks are generated while the files of the one before are written.

A file is there whole or not at all. Every image is stored with its caption, seed, truncation and checkpoint as text
chunks (:func:`image_facts`).
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

from stackgan.images.png import PNG_END, png_bytes
from stackgan.io.files import write_atomic
from stackgan.pipeline import StackGANPipeline, to_pil
from stackgan.version import __version__

__all__ = ["Chunk", "ahead", "chunked", "image_facts", "is_whole", "make_folder", "slug", "write_chunks", "write_png"]

SLUG = 60  # characters of a caption in a file name
WRITERS = 8  # threads that make and write PNGs, at most

_T = TypeVar("_T")


@dataclass(frozen=True)
class Chunk(Generic[_T]):
    """Images generated together.

    Attributes:
        images: what its owner calls them, B.
        embeddings: (B, T); None for a checkpoint without text.
        seeds: B.
        files: place in the chunk, file and text chunks of those to be written; without any, nothing is generated.
    """

    images: list[_T]
    embeddings: Tensor | None
    seeds: list[int]
    files: list[tuple[int, Path, dict[str, Any]]]


def write_chunks(
    pipe: StackGANPipeline, chunks: Iterable[Chunk[_T]], truncation: float, size: int
) -> Generator[Chunk[_T]]:
    """Generate chunk after chunk; each is returned, in order, when its files are on disk.

    While a chunk is generated, the PNGs of the one before are made and written on threads. An interruption waits for
    what has been generated; no file is ever half there.
    """
    stages = [pipe.sizes.index(size)]

    def generate(chunk: Chunk[_T]) -> tuple[Chunk[_T], Tensor | None]:
        return chunk, _generate(pipe, chunk.embeddings, chunk.seeds, truncation, stages) if chunk.files else None

    with ThreadPoolExecutor(min(WRITERS, os.cpu_count() or 1), thread_name_prefix="png") as pool:

        def start(generated: tuple[Chunk[_T], Tensor | None]) -> tuple[Chunk[_T], list[Future[None]]]:
            chunk, pixels = generated
            images = to_pil(pixels) if pixels is not None else []
            return chunk, [pool.submit(write_png, file, images[place], facts) for place, file, facts in chunk.files]

        # A GPU works asynchronously: only when the next chunk is on its way are this one's pixels waited for.
        for chunk, files in ahead(map(start, ahead(map(generate, chunks)))):
            for file in files:
                file.result()
            yield chunk


def ahead(items: Iterable[_T]) -> Iterator[_T]:
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


def _generate(
    pipe: StackGANPipeline, embeddings: Tensor | None, seeds: Sequence[int], truncation: float, stages: Sequence[int]
) -> Tensor:
    """Pixels (B, 3, s, s) of one stage for each row of ``embeddings`` (B, T) and its seed, in one batch."""
    with torch.inference_mode():
        return pipe.generate(embeddings, seeds, truncation, stages)[0]


def chunked(items: Iterable[_T], length: int) -> Iterator[list[_T]]:
    """The items in lists of ``length``, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, length)):
        yield chunk


# --- files --------------------------------------------------------------------------------------------------


def image_facts(pipe: StackGANPipeline, caption: str, seed: int, truncation: float) -> dict[str, Any]:
    """What determines an image: the manifest and the PNG's text chunks have it."""
    return {"caption": caption, "seed": seed, "truncation": float(truncation), "checkpoint": pipe.fingerprint}


def write_png(file: Path, image: Image.Image, texts: dict[str, Any]) -> None:
    """A PNG with text chunks, the first of which names this program; whole or not at all."""
    write_atomic(file, png_bytes(image, {"Software": f"stackgan {__version__}"} | texts))


def is_whole(file: Path) -> bool:
    """Whether a PNG is there to its last bytes; a power failure can leave an empty file under its name."""
    try:
        with file.open("rb") as stream:
            stream.seek(-len(PNG_END), os.SEEK_END)
            return stream.read() == PNG_END
    except OSError:
        return False


def make_folder(out: Path) -> None:
    """Make ``out`` and check that files can be written there; raises ``ValueError`` otherwise."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"{out}: cannot write there ({error.strerror}); name another folder with --out") from None


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
