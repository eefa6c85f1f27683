"""Interpolation between two captions or two seeds, as a video."""

from __future__ import annotations

from pathlib import Path

from stackgan.generation.generate import print_warnings
from stackgan.generation.writer import make_folder, write_png
from stackgan.images.video import check_video, save_video, strip
from stackgan.pipeline import StackGANPipeline

__all__ = ["interpolate"]


def interpolate(
    captions: tuple[str, str],
    seeds: tuple[int, int] = (0, 0),
    *,
    checkpoint: str | Path,
    out: Path = Path("walk.gif"),
    frames: int = 24,
    seconds: float = 3.0,
    truncation: float | None = None,
    device: str | None = None,
) -> list[Path]:
    """Write a video from one caption and seed to another and back (``out``), and some of its images in a row (.png).

    Args:
        out: .gif, .webp or .mp4.
        frames: number of frames, including both ends.
        seconds: from the first frame to the last.
        truncation: None for the value recommended by the checkpoint.

    Raises:
        ValueError: another file extension, fewer than 2 frames, an empty caption.
    """
    check_video(out)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    truncation = pipe.truncation if truncation is None else truncation
    images = pipe.interpolate(captions, seeds, frames=frames, truncation=truncation).images
    print_warnings(pipe, captions)
    make_folder(out.parent)
    save_video(images, out, seconds=seconds)
    facts = {"caption": " → ".join(captions), "seeds": f"{seeds[0]}, {seeds[1]}", "checkpoint": pipe.fingerprint}
    write_png(out.with_suffix(".png"), strip(images), facts)
    return [out, out.with_suffix(".png")]
