"""Interpolation on the page: the image at a position between two captions and seeds, and all of them as a video.

Without Gradio. Invalid input raises ``ValueError`` with a sentence that can be shown on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from stackgan.app.image_request import MAX_PAGE_SEED, checked_caption, checked_integer, checked_number
from stackgan.images import png
from stackgan.images.video import check_video, save_video, strip
from stackgan.pipeline import StackGANPipeline
from stackgan.version import __version__

__all__ = [
    "MAX_FRAMES",
    "MAX_SECONDS",
    "Blend",
    "BlendRequest",
    "CheckedBlend",
    "VideoRequest",
    "blend_png",
    "generate_blend",
    "write_video",
]

MAX_FRAMES, MAX_SECONDS = 96, 30
CHUNK = 4  # frames generated at a time: few, so that the progress is shown often


@dataclass(frozen=True)
class BlendRequest:
    """A position from 0 (the first caption and seed) to 1 (the second), as entered: see :meth:`checked`."""

    captions: tuple[str, str]
    seeds: tuple[float | None, float | None]
    position: float | None = 0.5

    def checked(self, pipe: StackGANPipeline) -> CheckedBlend:
        """The request with integers and the checkpoint's recommended truncation.

        Raises:
            ValueError: a caption or a number is missing or out of range.
        """
        first, second = (
            checked_caption(caption, f"the {which} of the two is empty.")
            for caption, which in zip(self.captions, ("first", "second"), strict=True)
        )
        one, two = (
            checked_integer(f"The {which} seed", seed, 0, MAX_PAGE_SEED)
            for seed, which in zip(self.seeds, ("first", "second"), strict=True)
        )
        return CheckedBlend((first, second), (one, two), checked_number("The position", self.position, 0, 1))


@dataclass(frozen=True)
class CheckedBlend(BlendRequest):
    """A :class:`BlendRequest` whose values are present and in range."""

    seeds: tuple[int, int]
    position: float = 0.5

    @property
    def name(self) -> str:
        """Of its file, without extension."""
        return f"blend_seeds-{self.seeds[0]}-{self.seeds[1]}_at-{self.position:g}"


@dataclass(frozen=True)
class Blend:
    """One image between two; a preview is the coarsest stage of the tree, and ``size`` the side of the finest."""

    request: CheckedBlend
    image: Image.Image
    size: int
    preview: bool = False


def generate_blend(pipe: StackGANPipeline, request: BlendRequest) -> Iterator[Blend]:
    """The coarsest stage, if the tree has several, and the finest.

    Raises:
        ValueError: see :meth:`BlendRequest.checked`.
    """
    asked = request.checked(pipe)
    for size in dict.fromkeys((pipe.sizes[0], pipe.sizes[-1])):
        image = _images(pipe, asked, [asked.position], size)[0]
        yield Blend(asked, image, pipe.sizes[-1], preview=size != pipe.sizes[-1])


def blend_png(blend: Blend, pipe: StackGANPipeline) -> bytes:
    """The image as a PNG with text chunks of its settings."""
    return png.png_bytes(blend.image, _facts(blend.request, pipe) | {"position": f"{blend.request.position:g}"})


@dataclass(frozen=True)
class VideoRequest:
    """A video of ``frames`` images and ``seconds`` from the first to the last, and back; ``suffix`` is its type."""

    ends: BlendRequest
    frames: float | None = 24
    seconds: float | None = 3
    suffix: str = ".gif"


def write_video(
    pipe: StackGANPipeline,
    request: VideoRequest,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, Path]:
    """Write the video and a PNG of some of its images in a row; returns the two files.

    Args:
        progress: is called with the number of images that are done, and of all.

    Raises:
        ValueError: a value is missing or out of range, or the type of video cannot be written here.
    """
    video = folder / f"interpolation{request.suffix}"
    check_video(video)
    asked = replace(request.ends, position=0).checked(pipe)
    frames = checked_integer("The number of images", request.frames, 2, MAX_FRAMES)
    seconds = checked_number("The duration in seconds", request.seconds, 0.1, MAX_SECONDS)
    images: list[Image.Image] = []
    while len(images) < frames:
        progress(len(images), frames)
        numbers = range(len(images), min(len(images) + CHUNK, frames))
        images += _images(pipe, asked, [number / (frames - 1) for number in numbers], pipe.sizes[-1])
    save_video(images, video, seconds=seconds)
    row = folder / "interpolation.png"
    row.write_bytes(png.png_bytes(strip(images), _facts(asked, pipe)))
    return video, row


def _images(pipe: StackGANPipeline, asked: CheckedBlend, positions: list[float], size: int) -> list[Image.Image]:
    out = pipe.interpolate(asked.captions, asked.seeds, positions=positions, truncation=pipe.truncation, size=size)
    return list(out.images)


def _facts(asked: CheckedBlend, pipe: StackGANPipeline) -> dict[str, object]:
    return {
        "Software": f"stackgan {__version__}",
        "caption": " → ".join(asked.captions),
        "seeds": f"{asked.seeds[0]}, {asked.seeds[1]}",
        "truncation": pipe.truncation,
        "checkpoint": pipe.fingerprint,
    }
