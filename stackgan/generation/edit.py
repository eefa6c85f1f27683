"""Editing of photos by captions, and sampling without text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from stackgan.generation.generate import print_warnings
from stackgan.generation.writer import make_folder, slug, write_png
from stackgan.images.photos import open_rgb
from stackgan.latent.sampling import check_sampling
from stackgan.pipeline import StackGANPipeline

__all__ = ["edit", "open_photo", "sample"]


def open_photo(file: Path) -> Image.Image:
    """Read a photo upright as RGB, as ``stackgan prepare`` does.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it cannot be read as an image; names the file.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        return open_rgb(file)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def edit(
    photo: Path,
    caption: str,
    new_captions: Sequence[str] = (),
    *,
    checkpoint: str | Path,
    out: Path = Path("out"),
    device: str | None = None,
) -> list[Path]:
    """Write the photo's reconstruction and one image for each new caption.

    Args:
        caption: of the photo.
        new_captions: of the edited images; none for the reconstruction only.

    Raises:
        ValueError: the file is not an image, or the checkpoint has no posterior.
    """
    image = open_photo(photo)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    texts = [caption, *new_captions]
    images = pipe.edit(image, caption, texts).images
    print_warnings(pipe, texts)
    make_folder(out)
    files = []
    for i, (text, edited) in enumerate(zip(texts, images, strict=True)):
        name = "reconstruction" if i == 0 else f"edit-{i:02d}_{slug(text)}"
        files.append(out / f"{name}.png")
        write_png(files[-1], edited, {"caption": text, "photo": photo.name, "checkpoint": pipe.fingerprint})
    return files


def sample(
    seeds: Sequence[int] = range(8),
    *,
    checkpoint: str | Path,
    out: Path = Path("out"),
    truncation: float | None = None,
    device: str | None = None,
) -> list[Path]:
    """Write one image without text for each seed, named ``sample_seed-<seed>.png``.

    Args:
        truncation: None for the value recommended by the checkpoint.

    Raises:
        ValueError: a seed or truncation is out of range, or the folder cannot be written.
    """
    check_sampling(seeds, truncation)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    truncation = pipe.truncation if truncation is None else truncation
    make_folder(out)
    files = []
    for seed, image in zip(seeds, pipe.sample(seeds, truncation=truncation).images, strict=True):
        files.append(out / f"sample_seed-{seed}.png")
        write_png(files[-1], image, {"seed": seed, "truncation": truncation, "checkpoint": pipe.fingerprint})
    return files
