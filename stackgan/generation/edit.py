"""What a checkpoint can do besides painting captions, from the command line: photos, no words at all, walks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from stackgan.generation.batch import make_folder, say_notices, slug, write_png
from stackgan.images.video import save_film, strip
from stackgan.pipeline import StackGANPipeline, check_sampling
from stackgan.version import __version__

__all__ = ["edit", "open_photo", "sample", "walk"]


def open_photo(file: Path) -> Image.Image:
    """Raises ``ValueError`` for a file that is no picture, ``FileNotFoundError`` for none."""
    try:
        with Image.open(file) as image:
            image.load()
            return image.copy()
    except (UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: not a picture that can be read ({error})") from None


def edit(
    photo: Path,
    caption: str,
    new_captions: Sequence[str] = (),
    *,
    checkpoint: Path,
    out: Path = Path("out"),
    device: str | None = None,
) -> list[Path]:
    """Write the photo's reconstruction, then one picture for each new caption.

    Args:
        caption: what the photo shows.
        new_captions: what it is to show; none for the reconstruction alone.

    Raises:
        ValueError: a file that is no picture, a checkpoint that cannot read photos.
    """
    image = open_photo(photo)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    texts = [caption, *new_captions]
    pictures = pipe.edit(image, caption, texts).images
    if pipe.text_encoder is not None:
        say_notices(pipe, texts)
    make_folder(out)
    files = []
    for i, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
        name = "reconstruction" if i == 0 else f"edit-{i:02d}_{slug(text)}"
        files.append(out / f"{name}.png")
        write_png(files[-1], picture, {"caption": text, "photo": photo.name, **_facts(pipe)})
    return files


def sample(
    seeds: Sequence[int] = range(8),
    *,
    checkpoint: Path,
    out: Path = Path("out"),
    truncation: float | None = None,
    device: str | None = None,
) -> list[Path]:
    """Write one picture without words for each seed, named ``sample_seed-<seed>.png``.

    ``truncation`` is what the checkpoint recommends where it is None.
    """
    check_sampling(seeds, truncation)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    truncation = pipe.truncation if truncation is None else truncation
    make_folder(out)
    files = []
    for seed, picture in zip(seeds, pipe.sample(seeds, truncation=truncation).images, strict=True):
        files.append(out / f"sample_seed-{seed}.png")
        write_png(files[-1], picture, {"seed": seed, "truncation": truncation, **_facts(pipe)})
    return files


def walk(
    captions: tuple[str, str],
    seeds: tuple[int, int] = (0, 0),
    *,
    checkpoint: Path,
    out: Path = Path("walk.gif"),
    frames: int = 24,
    truncation: float | None = None,
    device: str | None = None,
) -> list[Path]:
    """Write a film (``out``, .gif or .mp4) from one caption and seed to another, and its strip (.png) beside it.

    ``truncation`` is what the checkpoint recommends where it is None.

    Raises:
        ValueError: another ending, fewer than 2 frames, an empty caption.
    """
    if out.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"--out {out}: a walk is written as a .gif or an .mp4")
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    truncation = pipe.truncation if truncation is None else truncation
    pictures = pipe.walk(captions, seeds, frames=frames, truncation=truncation).images
    say_notices(pipe, captions)
    make_folder(out.parent)
    save_film(pictures, out)
    facts = {"caption": " → ".join(captions), "seeds": f"{seeds[0]}, {seeds[1]}", **_facts(pipe)}
    write_png(out.with_suffix(".png"), strip(pictures), facts)
    return [out, out.with_suffix(".png")]


def _facts(pipe: StackGANPipeline) -> dict[str, str]:
    return {"Software": f"stackgan {__version__}", "checkpoint": pipe.fingerprint}
