"""Generate images for captions given on the command line, every caption with every seed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from stackgan.generation.writer import Chunk, chunked, image_texts, make_folder, slug, write_chunks
from stackgan.latent.sampling import check_sampling
from stackgan.pipeline import StackGANPipeline

__all__ = ["generate", "print_warnings"]


def generate(
    captions: Sequence[str] = (),
    *,
    checkpoint: str | Path,
    out: Path = Path("out"),
    seeds: Sequence[int] = range(8),
    truncation: float | None = None,
    size: int | None = None,
    best_of: int = 1,
    batch_size: int = 16,
    device: str | None = None,
    precision: str = "fp32",
) -> list[Path]:
    """Generate an image for every caption and seed into ``out``; returns the files, ``<caption>_seed-<seed>.png``.

    Args:
        captions: empty for a checkpoint that was trained without text.
        seeds, batch_size, precision: see :class:`~stackgan.pipeline.StackGANPipeline`.
        truncation: the same; None for the value recommended by the checkpoint.
        size: side of the stage to save in pixels; None for the finest.
        best_of: candidates for each image (:meth:`~stackgan.pipeline.StackGANPipeline.best_seeds`); a file is named
            by the seed that was chosen, which gives the same image again without ``best_of``.

    Raises:
        ValueError: an argument is out of range, no stage has this size, or the folder cannot be written.
    """
    check_sampling(seeds, truncation, batch_size=batch_size)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device, precision=precision)
    scale = pipe.truncation if truncation is None else truncation
    side = pipe.sizes[pipe.stages_of(size)[-1]]
    texts = list(dict.fromkeys(caption.strip() for caption in captions))
    embeddings = None
    if pipe.conditional:
        if not texts:
            raise ValueError(f"{checkpoint}: this checkpoint generates from captions: pass one or more")
        embeddings = pipe.encode(texts)  # before creating a folder, as it may raise
        print_warnings(pipe, texts)
    elif texts:
        raise ValueError(f"{checkpoint}: this checkpoint was trained without text: leave the captions out")
    elif best_of != 1:
        raise ValueError(f"{checkpoint}: best-of compares images with captions, and this was trained without text")
    rows, wanted = range(max(1, len(texts))), list(dict.fromkeys(seeds))
    jobs = [(row, seed) for row in rows for seed in wanted]
    if embeddings is not None and best_of != 1:
        chosen = (pipe.best_seeds(embeddings[[row]].expand(len(wanted), -1), wanted, best_of, scale) for row in rows)
        jobs = [(row, seed) for row, those in zip(rows, chosen, strict=True) for seed in those]
    make_folder(out)
    files: list[Path] = []

    def chunks() -> Iterator[Chunk[tuple[int, int]]]:
        for chunk in chunked(jobs, batch_size):
            todo = []
            for place, (row, seed) in enumerate(chunk):
                text = texts[row] if texts else ""
                files.append(out / _name_of(text, seed))
                todo.append((place, files[-1], image_texts(pipe, text, seed, scale, side)))
            e = embeddings[[row for row, _ in chunk]] if embeddings is not None else None
            yield Chunk(chunk, e, [seed for _, seed in chunk], todo)

    with (
        tqdm(total=len(jobs), unit="img", dynamic_ncols=True, leave=False) as bar,
        closing(write_chunks(pipe, chunks(), scale, side)) as written,
    ):
        for chunk in written:
            bar.update(len(chunk.images))
    return files


def _name_of(caption: str, seed: int) -> str:
    """Unique file name of a caption: a hash is added if the words alone do not determine the caption."""
    words = slug(caption)
    if words.replace("-", " ") != caption:
        words = "-".join(filter(None, (words, hashlib.sha256(caption.encode()).hexdigest()[:8])))
    return f"{words}_seed-{seed}.png" if words else f"seed-{seed}.png"


def print_warnings(pipe: StackGANPipeline, captions: Sequence[str]) -> None:
    """Print the warnings of captions, a line each, to stderr."""
    for warning in pipe.warnings(captions):
        print(f'"{captions[warning.index]}": {warning.message}', file=sys.stderr)
