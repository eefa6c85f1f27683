"""Writes PNG files for embeddings and seeds: a chunk is generated while the files of the previous one are written.

Files are written atomically. Every image is stored with its caption, seed, truncation and checkpoint in text chunks
(:mod:`stackgan.generation.image_settings`).
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

from stackgan.generation.image_settings import ImageSettings, png_texts
from stackgan.images.pixels import to_pil
from stackgan.images.png import PNG_END, png_bytes
from stackgan.io.files import write_atomic
from stackgan.pipeline import StackGANPipeline
from stackgan.version import __version__

__all__ = [
    "Chunk",
    "ahead",
    "chunked",
    "image_facts",
    "image_texts",
    "is_whole",
    "make_folder",
    "slug",
    "write_chunks",
    "write_png",
]

SLUG = 60  # maximum number of a caption's characters in a file name
WRITERS = 8  # maximum number of threads that compress and write PNGs

_T = TypeVar("_T")


@dataclass(frozen=True)
class Chunk(Generic[_T]):
    """Images generated together.

    Attributes:
        images: B keys of the caller.
        embeddings: (B, T); None for a checkpoint without text.
        seeds: B.
        files: (index in the chunk, file, text chunks) of the images to write; if empty, nothing is generated.
    """

    images: list[_T]
    embeddings: Tensor | None
    seeds: list[int]
    files: list[tuple[int, Path, dict[str, Any]]]


def write_chunks(
    pipe: StackGANPipeline, chunks: Iterable[Chunk[_T]], truncation: float, size: int
) -> Generator[Chunk[_T]]:
    """Generate chunks in order; each is yielded when its files are on disk.

    While a chunk is generated, threads compress and write the PNGs of the previous one. On interruption, the files of
    generated chunks are completed.
    """
    stages = [pipe.sizes.index(size)]

    def generate(chunk: Chunk[_T]) -> tuple[Chunk[_T], Tensor | None]:
        return chunk, _generate(pipe, chunk.embeddings, chunk.seeds, truncation, stages) if chunk.files else None

    with ThreadPoolExecutor(min(WRITERS, os.cpu_count() or 1), thread_name_prefix="png") as pool:

        def start(generated: tuple[Chunk[_T], Tensor | None]) -> tuple[Chunk[_T], list[Future[None]]]:
            chunk, pixels = generated
            images = to_pil(pixels) if pixels is not None else []
            return chunk, [pool.submit(write_png, file, images[place], facts) for place, file, facts in chunk.files]

        # A GPU works asynchronously: the pixels of this chunk are copied after the next one was launched.
        for chunk, files in ahead(map(start, ahead(map(generate, chunks)))):
            for file in files:
                file.result()
            yield chunk


def ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield each item after the next one was started; after an interruption, the remaining started ones."""
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
    """The settings that determine an image, for a manifest."""
    return {"caption": caption, "seed": seed, "truncation": float(truncation), "checkpoint": pipe.fingerprint}


def image_texts(pipe: StackGANPipeline, caption: str, seed: int, truncation: float, size: int) -> dict[str, str]:
    """The same for the text chunks of its PNG, and the chunk that other programs read."""
    settings = ImageSettings(caption, seed, float(truncation), pipe.fingerprint, pipe.name)
    return png_texts(settings, (size, size))


def write_png(file: Path, image: Image.Image, texts: dict[str, Any]) -> None:
    """Write a PNG atomically, with text chunks, the first of which names this program."""
    write_atomic(file, png_bytes(image, {"Software": f"stackgan {__version__}"} | texts))


def is_whole(file: Path) -> bool:
    """Whether a PNG exists and is complete; a power failure can leave an empty file under its name."""
    try:
        with file.open("rb") as stream:
            stream.seek(-len(PNG_END), os.SEEK_END)
            return stream.read() == PNG_END
    except OSError:
        return False


def make_folder(out: Path) -> None:
    """Create ``out`` and check that files can be written there; raises ``ValueError`` otherwise."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"{out}: cannot write there ({error.strerror}); name another folder with --out") from None


def slug(caption: str) -> str:
    """A caption as part of a file name: lower-case ASCII words joined by dashes, cut after a word; may be empty.

    >>> slug("A small, red bird — très joli!")
    'a-small-red-bird-tres-joli'
    """
    ascii_only = unicodedata.normalize("NFKD", caption).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
    if len(words) <= SLUG:
        return words
    return words[: SLUG + 1].rpartition("-")[0] or words[:SLUG]
