"""Image generation for the page: from user input to images with captions, seeds and warnings; without Gradio.

Invalid input raises ``ValueError`` with a sentence that can be shown on the page.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from stackgan.app.image_request import (
    DEFAULT_SEED,
    MAX_COUNT,
    MAX_PAGE_SEED,
    CheckedRequest,
    ImageRequest,
    checked_integer,
    plain_text,
)
from stackgan.generation.batch import slug
from stackgan.generation.image_settings import ImageSettings, link_query, png_texts
from stackgan.images import png
from stackgan.pipeline import PipelineOutput, StackGANPipeline
from stackgan.text.base import CaptionWarning
from stackgan.version import __version__

__all__ = [
    "EXAMPLE_COUNT",
    "GeneratedImage",
    "GenerationResult",
    "OutOfDate",
    "best_seed",
    "choose_seed",
    "edit_photo",
    "generate",
    "generate_examples",
    "generate_live",
    "generate_without_caption",
    "png_bytes",
    "preview",
]

EXAMPLE_COUNT = 8  # initial images of the page


@dataclass(frozen=True)
class GeneratedImage:
    """One sample: ``stages`` are its images, coarsest first; ``caption`` is empty without text.

    ``seed`` is None if the latent was encoded from a photo. ``settings`` are those that generate it again; None if
    the caption tab cannot.
    """

    caption: str
    seed: int | None
    stages: list[Image.Image]
    settings: ImageSettings | None = None

    @property
    def name(self) -> str:
        """Prefix of its file name: the caption's words and the seed."""
        origin = "from-photo" if self.seed is None else f"seed-{self.seed}"
        if self.settings is not None and self.settings.variation is not None:
            origin += "-variation-{}-{:g}".format(*self.settings.variation)
        return f"{slug(self.caption) or 'image'}_{origin}"

    @property
    def query(self) -> str:
        """The query of a link to this image; empty without settings."""
        return link_query(self.settings) if self.settings is not None else ""


@dataclass(frozen=True)
class GenerationResult:
    """Result of one request.

    Attributes:
        warnings: about the caption, as sentences.
        seconds: time of the generation.
        checkpoint: fingerprint of the checkpoint.
        preview_of: sides of the stages to come, of a preview; its images have the coarsest stage only.
        request: that was generated; None for other images than the caption tab's.
    """

    images: list[GeneratedImage]
    truncation: float
    warnings: list[str]
    seconds: float
    checkpoint: str
    preview_of: tuple[int, ...] = ()
    request: CheckedRequest | None = None

    @property
    def query(self) -> str:
        """The query of a link to all images; empty if there is none."""
        first = self.images[0].settings
        return link_query(first, len(self.images)) if first is not None and self.request is not None else ""


class OutOfDate(Exception):
    """Generation was stopped because there is a newer request."""


def generate(
    pipe: StackGANPipeline, request: ImageRequest, current: Callable[[], bool] = lambda: True
) -> GenerationResult:
    """Generate the images of a request: those of the coarsest stage at once, larger ones one at a time.

    Args:
        current: is called before each image, or once for several.

    Raises:
        ValueError: a value of the request is missing or out of range.
        OutOfDate: ``current`` returned False.
    """
    checked = request.checked(pipe)
    start, images = time.perf_counter(), []
    embeddings = pipe.encode([checked.caption]) if pipe.conditional else None
    settings = checked.images(pipe)
    coarse = (checked.size or pipe.sizes[-1]) == pipe.sizes[0]
    exact = pipe.device.type == "cpu"  # elsewhere, codes are computed together and differ by rounding
    together = len(settings) if coarse and exact and settings[0].variation is None else 1
    for first in range(0, len(settings), together):
        if not current():
            raise OutOfDate
        part = settings[first : first + together]
        out = pipe(
            embeddings=embeddings,
            seeds=[each.seed for each in part],
            truncation=checked.truncation,
            size=checked.size,
            variation=part[0].variation,
        )
        for each, *tree in zip(part, *out.stages, strict=True):
            images.append(GeneratedImage(checked.caption, each.seed, tree, each))
    took = time.perf_counter() - start
    warnings = [_as_sentence(warning) for warning in pipe.warnings([checked.caption] if pipe.conditional else [])]
    return GenerationResult(images, checked.truncation, warnings, took, pipe.fingerprint, request=checked)


def preview(
    pipe: StackGANPipeline, request: ImageRequest, current: Callable[[], bool] = lambda: True
) -> GenerationResult:
    """The coarsest stage of what :func:`generate` generates, which takes a fraction of its time."""
    checked = request.checked(pipe)
    coarse = generate(pipe, checked.at_size(pipe.sizes[0]), current)
    sizes = tuple(pipe.sizes) if checked.size is None else (checked.size,)
    return replace(coarse, preview_of=sizes, request=checked)


def generate_live(
    pipe: StackGANPipeline,
    request: ImageRequest,
    shown: str,
    coarse: bool,
    current: Callable[[], bool] = lambda: True,
) -> GenerationResult | None:
    """The images of a request that changed, or their :func:`preview`.

    None if they are those shown, for values that are not valid (yet), or once ``current`` returns False.

    Args:
        shown: query of the images that the page shows; empty if there are none.
        coarse: preview, if the request has several stages.
    """
    try:
        checked = request.checked(pipe)
        if link_query(checked.images(pipe)[0], checked.count) == shown:
            return None
        if coarse and checked.size != pipe.sizes[0] and len(pipe.sizes) > 1:
            return preview(pipe, checked, current)
        return generate(pipe, checked, current)
    except (ValueError, OutOfDate):  # a ValueError is reported when the button is pressed
        return None
    except Exception:
        logging.exception("live generation failed")
        return None


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
        settings = ImageSettings(caption, seed, scale, pipe.fingerprint, pipe.name)
        images.append(GeneratedImage(caption, seed, [stage[0] for stage in out.stages], settings))
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
    return GenerationResult(images, float(truncation), [], seconds, pipe.fingerprint)


def edit_photo(pipe: StackGANPipeline, photo: Image.Image | None, caption: str, new_caption: str) -> GenerationResult:
    """Reconstruct the photo, and decode its latent with the new caption if there is one.

    Raises:
        ValueError: the photo or its caption is missing.
    """
    if photo is None:
        raise ValueError("Choose a photo first.")
    old, new = plain_text(caption), plain_text(new_caption)
    if not old:
        raise ValueError("Describe the photo: the description is needed to encode its style.")
    captions = [old, new] if new else [old]
    out, seconds = _timed(lambda: pipe.edit(photo, old, captions))
    warnings = [_as_sentence(warning) for warning in out.warnings]
    images = _images(captions, [None] * len(captions), out)
    return GenerationResult(images, 1.0, warnings, seconds, pipe.fingerprint)


def best_seed(pipe: StackGANPipeline, request: ImageRequest, candidates: int) -> int:
    """The best of new seeds for a caption (:meth:`~stackgan.pipeline.StackGANPipeline.best_seeds`).

    Raises:
        ValueError: the caption is missing or too long, or the checkpoint cannot compare images with captions.
    """
    checked = replace(request, seed=DEFAULT_SEED).checked(pipe)
    if not pipe.conditional:
        raise ValueError("This checkpoint takes no captions to compare images with.")
    first = random.SystemRandom().randrange(10**6 // candidates)
    return pipe.best_seeds(pipe.encode([checked.caption]), [first], candidates, checked.truncation)[0]


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
    """A stage of an image as PNG, with text chunks that allow generating it again if it has settings."""
    pixels = image.stages[stage]
    facts: dict[str, Any] = {"Software": f"stackgan {__version__}"}  # the same keys as in stackgan batch
    if image.settings is not None:
        facts |= png_texts(image.settings, pixels.size)
    else:
        facts |= {"caption": image.caption, "seed": image.seed if image.seed is not None else "read from a photo"}
        facts |= {"truncation": truncation, "checkpoint": checkpoint}
    return png.png_bytes(pixels, facts)


def _timed(run: Callable[[], PipelineOutput]) -> tuple[PipelineOutput, float]:
    start = time.perf_counter()
    out = run()
    return out, time.perf_counter() - start


def _images(captions: Sequence[str], seeds: Sequence[int | None], out: PipelineOutput) -> list[GeneratedImage]:
    trees = [list(tree) for tree in zip(*out.stages, strict=True)]
    return [GeneratedImage(*parts) for parts in zip(captions, seeds, trees, strict=True)]


def _seeds(count: float | None, seed: float | None) -> list[int]:
    number = checked_integer("The number of images", count, 1, MAX_COUNT)
    first = checked_integer("The seed", seed, 0, MAX_PAGE_SEED - MAX_COUNT)
    return list(range(first, first + number))


def _as_sentence(warning: CaptionWarning) -> str:
    """A text encoder's warning as a sentence that does not mention tokens."""
    message = warning.message.strip().rstrip(".")
    if warning.kind == "truncated":
        cut = re.search(r"the text from .*", message, re.DOTALL)
        return f"The caption is too long for the text encoder: {cut.group() if cut else message}."
    return f"{message[:1].upper()}{message[1:]}{'' if message.endswith('?') else '.'}"
