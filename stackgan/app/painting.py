"""Image generation for the page: from user input to images with captions, seeds and warnings; without Gradio.

Invalid input raises ``ValueError`` with a sentence that can be shown on the page.
"""

import logging
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from stackgan.generation.batch import slug
from stackgan.images import png
from stackgan.pipeline import PipelineOutput, StackGANPipeline
from stackgan.text.base import CaptionWarning
from stackgan.version import __version__

__all__ = [
    "DEFAULT_COUNT",
    "DEFAULT_SEED",
    "EXAMPLE_COUNT",
    "MAX_CAPTION",
    "MAX_COUNT",
    "MAX_PAGE_SEED",
    "GalleryState",
    "GeneratedImage",
    "GenerationResult",
    "checked_caption",
    "choose_seed",
    "edit_photo",
    "generate",
    "generate_examples",
    "generate_live",
    "generate_without_caption",
    "interpolate",
    "png_bytes",
    "preview",
]

MAX_COUNT, DEFAULT_COUNT = 16, 4
MAX_PAGE_SEED = 2**53 - 1  # the largest integer that JavaScript represents exactly
DEFAULT_SEED = 1
MAX_CAPTION = 2000  # characters
EXAMPLE_COUNT = 8  # initial images of the page
BATCH = 1  # images generated at a time: no rounding by others, so that an image comes back to the bit


@dataclass(frozen=True)
class GeneratedImage:
    """One sample: ``stages`` are its images, coarsest first; ``caption`` is empty without text.

    ``seed`` is None if the latent was encoded from a photo.
    """

    caption: str
    seed: int | None
    stages: list[Image.Image]

    @property
    def name(self) -> str:
        """Prefix of its file name: the caption's words and the seed."""
        origin = "from-photo" if self.seed is None else f"seed-{self.seed}"
        return f"{slug(self.caption) or 'image'}_{origin}"


@dataclass(frozen=True)
class GenerationResult:
    """Result of one request.

    Attributes:
        warnings: about the caption, as sentences.
        seconds: time of the generation.
        checkpoint: fingerprint of the checkpoint.
        reusable: whether the caption tab can generate these seeds again.
        preview_of: sides of the stages to come, of a preview; its images have the coarsest stage only.
    """

    images: list[GeneratedImage]
    truncation: float
    warnings: list[str]
    seconds: float
    checkpoint: str
    reusable: bool = True
    preview_of: tuple[int, ...] = ()


@dataclass(frozen=True)
class GalleryState:
    """Inputs of the images in the gallery; ``entered`` is the seed on the page, ``seed`` the one that was used."""

    caption: str
    count: int
    seed: int | None
    truncation: float
    entered: float | None

    @classmethod
    def of(cls, result: GenerationResult, entered: float | None) -> "GalleryState":
        first = result.images[0]
        return cls(first.caption, len(result.images), first.seed, result.truncation, entered)

    def is_of(self, caption: str, count: float | None, seed: float | None, truncation: float | None) -> bool:
        return (self.caption, self.count, self.seed, self.truncation) == (caption, count, seed, truncation)


def generate(
    pipe: StackGANPipeline, caption: str, count: float | None, seed: float | None, truncation: float | None
) -> GenerationResult:
    """Generate ``count`` images of a caption, with the seeds ``seed``, ``seed + 1``, …

    Args:
        caption: what to generate; empty for a checkpoint trained without text.
        count: 1 to 16.
        seed: an integer from 0.
        truncation: 0 (no variation) to 2; 1 is the trained distribution.

    Raises:
        ValueError: an argument is missing or out of range.
    """
    return _generate(pipe, caption, count, seed, truncation, None)


def _generate(
    pipe: StackGANPipeline,
    caption: str,
    count: float | None,
    seed: float | None,
    truncation: float | None,
    size: int | None,
) -> GenerationResult:
    """:func:`generate`, of one stage only with ``size``."""
    text = checked_caption(caption, "what should the image show?" if pipe.conditional else None)
    seeds = _seeds(count, seed)
    if truncation is None or not 0 <= truncation <= 2:
        raise ValueError(f"The variety is {truncation}: it must be from 0 to 2.")
    captions = [text] if pipe.conditional else None
    scale = float(truncation)
    out, seconds = _timed(lambda: pipe(captions, seeds=seeds, truncation=scale, size=size, batch_size=BATCH))
    warnings = [_as_sentence(warning) for warning in out.warnings]
    images = _images([text] * len(seeds), seeds, out)
    return GenerationResult(images, float(truncation), warnings, seconds, pipe.fingerprint)


def preview(
    pipe: StackGANPipeline, caption: str, count: float | None, seed: float | None, truncation: float | None
) -> GenerationResult:
    """The coarsest stage of what :func:`generate` generates, which takes a fraction of its time."""
    coarse = _generate(pipe, caption, count, seed, truncation, pipe.sizes[0])
    return replace(coarse, preview_of=tuple(pipe.sizes))


def generate_live(
    pipe: StackGANPipeline,
    shown: GalleryState | None,
    caption: str,
    count: float | None,
    seed: float | None,
    truncation: float | None,
    keep: bool,
) -> Iterator[GenerationResult]:
    """A :func:`preview`, if the tree has several stages, and the images of changed inputs.

    Yields nothing if the images would not change, or for inputs that are not valid (yet). If the page still has the
    seed from before the last generation, the seed used then is meant.
    """
    words = _words(caption)
    if shown is not None and seed == shown.entered and not keep:
        seed = shown.seed
    missing = pipe.conditional and not words
    if missing or (shown is not None and shown.is_of(words, count, seed, truncation)):
        return
    try:
        if len(pipe.sizes) > 1:
            yield preview(pipe, words, count, seed, truncation)
        yield generate(pipe, words, count, seed, truncation)
    except ValueError:  # reported when the button is pressed
        return
    except Exception:
        logging.exception("live generation failed")


def generate_examples(pipe: StackGANPipeline) -> GenerationResult | None:
    """Initial images of the page, from the checkpoint's example captions; also warms up the pipeline.

    None for a checkpoint that takes captions but has no examples.
    """
    captions = pipe.examples[:EXAMPLE_COUNT] if pipe.conditional else [""] * EXAMPLE_COUNT
    if not captions:
        pipe(["an image"], seeds=[0])
        return None
    seeds = list(range(len(captions)))
    scale = pipe.truncation
    start, images = time.perf_counter(), []
    for caption, seed in zip(captions, seeds, strict=True):  # one by one, as everywhere on the page
        out = pipe(caption if pipe.conditional else None, seeds=seed, truncation=scale)
        images += _images([caption], [seed], out)
    return GenerationResult(images, scale, [], time.perf_counter() - start, pipe.fingerprint)


def generate_without_caption(
    pipe: StackGANPipeline, count: float | None, seed: float | None, truncation: float
) -> GenerationResult:
    """Generate ``count`` images with conditioning codes sampled from the flow p(c).

    Raises:
        ValueError: the count or the seed is missing or out of range.
    """
    seeds = _seeds(count, seed)
    out, seconds = _timed(lambda: pipe.sample(seeds, truncation=float(truncation)))
    images = _images([""] * len(seeds), seeds, out)
    return GenerationResult(images, float(truncation), [], seconds, pipe.fingerprint, reusable=False)


def edit_photo(pipe: StackGANPipeline, photo: Image.Image | None, caption: str, new_caption: str) -> GenerationResult:
    """Reconstruct the photo, and decode its latent with the new caption if there is one.

    Raises:
        ValueError: the photo or its caption is missing.
    """
    if photo is None:
        raise ValueError("Choose a photo first.")
    old, new = _words(caption), _words(new_caption)
    if not old:
        raise ValueError("Describe the photo: the description is needed to encode its style.")
    captions = [old, new] if new else [old]
    out, seconds = _timed(lambda: pipe.edit(photo, old, captions))
    warnings = [_as_sentence(warning) for warning in out.warnings]
    images = _images(captions, [None] * len(captions), out)
    return GenerationResult(images, 1.0, warnings, seconds, pipe.fingerprint, reusable=False)


def interpolate(
    pipe: StackGANPipeline,
    captions: tuple[str, str],
    seeds: tuple[float | None, float | None],
    frames: int,
) -> list[Image.Image]:
    """Interpolate from one caption and seed to another in ``frames`` images.

    Raises:
        ValueError: a caption or a seed is missing.
    """
    start, end = map(_words, captions)
    if not (start and end):
        raise ValueError("Write both captions: the first and the last of the interpolation.")
    first, last = (_integer("The seed", seed, 0, MAX_PAGE_SEED) for seed in seeds)
    return pipe.interpolate((start, end), (first, last), frames=frames, truncation=pipe.truncation).images


def choose_seed(seed: float | None, keep: bool, used: int | None) -> float | None:
    """The seed to generate with: the one on the page, or a new one if it was used before and ``keep`` is false.

    >>> choose_seed(7, keep=False, used=None), choose_seed(7, keep=True, used=7)
    (7, 7)
    >>> choose_seed(7, keep=False, used=7) == 7
    False
    """
    if keep or used is None or seed != used:
        return seed
    fresh = random.SystemRandom().randrange(10**6 - 1)
    return fresh + (fresh >= used)  # never the one that was used


def png_bytes(image: GeneratedImage, stage: int, truncation: float, checkpoint: str) -> bytes:
    """A stage of an image as PNG, with text chunks that allow generating it again."""
    facts: dict[str, Any] = {"Software": f"stackgan {__version__}"}  # the same keys as in stackgan batch
    facts |= {"caption": image.caption, "seed": image.seed if image.seed is not None else "read from a photo"}
    facts |= {"truncation": truncation, "checkpoint": checkpoint}
    return png.png_bytes(image.stages[stage], facts)


def _timed(run: Callable[[], PipelineOutput]) -> tuple[PipelineOutput, float]:
    start = time.perf_counter()
    out = run()
    return out, time.perf_counter() - start


def _images(captions: Sequence[str], seeds: Sequence[int | None], out: PipelineOutput) -> list[GeneratedImage]:
    trees = [list(tree) for tree in zip(*out.stages, strict=True)]
    return [GeneratedImage(*parts) for parts in zip(captions, seeds, trees, strict=True)]


def _words(text: str | None) -> str:
    """Text without line breaks and repeated spaces; the value of a Gradio text box may be None."""
    return " ".join((text or "").split())


def checked_caption(caption: str | None, question: str | None) -> str:
    """The caption without line breaks and repeated spaces.

    Args:
        question: ends the message about an empty caption; None to allow one.

    Raises:
        ValueError: it is empty or too long; the message can be shown on the page.
    """
    text = _words(caption)
    if question is not None and not text:
        raise ValueError(f"Write a caption first: {question}")
    if len(text) > MAX_CAPTION:
        raise ValueError(f"The caption is {len(text)} characters long: please keep it below {MAX_CAPTION}.")
    return text


def _seeds(count: float | None, seed: float | None) -> list[int]:
    number = _integer("The number of images", count, 1, MAX_COUNT)
    first = _integer("The seed", seed, 0, MAX_PAGE_SEED - MAX_COUNT)
    return list(range(first, first + number))


def _integer(what: str, value: float | None, low: int, high: int) -> int:
    if value is None or not math.isfinite(value):
        raise ValueError(f"{what} is missing: enter an integer from {low}.")
    if value != int(value):
        raise ValueError(f"{what} is {value}: it must be an integer.")
    if value < low:
        raise ValueError(f"{what} is {int(value)}: the smallest is {low}.")
    if value > high:
        raise ValueError(f"{what} is {int(value)}: the largest is {high}.")
    return int(value)


def _as_sentence(warning: CaptionWarning) -> str:
    """A text encoder's warning as a sentence that does not mention tokens."""
    message = warning.message.strip().rstrip(".")
    if warning.kind == "truncated":
        cut = re.search(r"the text from .*", message, re.DOTALL)
        return f"The caption is too long for the text encoder: {cut.group() if cut else message}."
    return f"{message[:1].upper()}{message[1:]}{'' if message.endswith('?') else '.'}"
