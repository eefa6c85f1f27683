"""What the page is asked to generate: fields of the page, their checks, and the settings of a link or a PNG."""

import math
import secrets
from dataclasses import dataclass, replace
from typing import Self

from stackgan.generation.image_settings import ImageSettings
from stackgan.pipeline import StackGANPipeline

__all__ = [
    "DEFAULT_COUNT",
    "DEFAULT_SEED",
    "MAX_CAPTION",
    "MAX_COUNT",
    "MAX_PAGE_SEED",
    "MAX_TRUNCATION",
    "ImageRequest",
    "checked_caption",
    "checked_integer",
    "checked_number",
    "drawn_seed",
    "plain_text",
]

MAX_COUNT, DEFAULT_COUNT = 16, 4
MAX_PAGE_SEED = 2**53 - 1  # the largest integer that JavaScript represents exactly
DEFAULT_SEED = 1
DRAWN_SEEDS = 2**31  # new seeds are below this
MAX_CAPTION = 2000  # characters
MAX_TRUNCATION = 2


@dataclass(frozen=True)
class ImageRequest:
    """``count`` images of a caption, as entered: numbers may be missing or out of range until :meth:`checked`.

    Attributes:
        caption: empty for a checkpoint trained without text.
        count: 1 to 16.
        seed: of the first image, from 0; the others have the following ones.
        truncation: 0 (no variation) to 2; 1 is the trained distribution.
        size: side in pixels of the only stage to generate; None for all stages.
        strength: 0 to 1; above 0, all images have the same seed and are moved by this much towards the seeds
            ``variation_seed``, ``variation_seed + 1``, …
    """

    caption: str
    count: float | None = DEFAULT_COUNT
    seed: float | None = DEFAULT_SEED
    truncation: float | None = 1.0
    size: int | None = None
    strength: float | None = 0.0
    variation_seed: float | None = 0

    @classmethod
    def of(cls, settings: ImageSettings, count: int, pipe: StackGANPipeline) -> Self:
        """The request that repeats an image; a size that the checkpoint does not have becomes that of all stages."""
        variation_seed, strength = settings.variation or (0, 0.0)
        return cls(
            settings.caption,
            count,
            settings.seed,
            pipe.truncation if settings.truncation is None else settings.truncation,
            settings.size if settings.size in pipe.sizes[:-1] else None,
            strength,
            variation_seed,
        )

    def checked(self, pipe: StackGANPipeline) -> "CheckedRequest":
        """The request with integers, and the caption without line breaks and repeated spaces.

        Raises:
            ValueError: a value is missing or out of range; the message can be shown on the page.
        """
        caption = checked_caption(self.caption, "what should the image show?" if pipe.conditional else None)
        count = checked_integer("The number of images", self.count, 1, MAX_COUNT)
        seed = checked_integer("The seed", self.seed, 0, MAX_PAGE_SEED - MAX_COUNT)
        truncation = checked_number("The variety", self.truncation, 0, MAX_TRUNCATION)
        strength = checked_number("The variation strength", self.strength, 0, 1)
        toward = checked_integer("The variation seed", self.variation_seed, 0, MAX_PAGE_SEED - MAX_COUNT)
        if self.size is not None and self.size not in pipe.sizes:
            sizes = ", ".join(str(size) for size in pipe.sizes)
            raise ValueError(f"The size is {self.size} px: this checkpoint has {sizes}.")
        return CheckedRequest(caption, count, seed, truncation, self.size, strength, toward)


@dataclass(frozen=True)
class CheckedRequest(ImageRequest):
    """An :class:`ImageRequest` whose values are present and in range."""

    count: int = DEFAULT_COUNT
    seed: int = DEFAULT_SEED
    truncation: float = 1.0
    strength: float = 0.0
    variation_seed: int = 0

    def images(self, pipe: StackGANPipeline) -> list[ImageSettings]:
        """Settings of each image."""
        varied = self.strength > 0
        return [
            ImageSettings(
                self.caption,
                self.seed if varied else self.seed + number,
                self.truncation,
                pipe.fingerprint,
                pipe.name,
                self.size,
                (self.variation_seed + number, self.strength) if varied else None,
            )
            for number in range(self.count)
        ]

    def at_size(self, size: int) -> "CheckedRequest":
        return replace(self, size=size)


def drawn_seed() -> int:
    """A new seed, for a program that leaves it out."""
    return secrets.randbelow(DRAWN_SEEDS)


def plain_text(text: str | None) -> str:
    """Text without line breaks and repeated spaces; the value of a Gradio text box may be None."""
    return " ".join((text or "").split())


def checked_caption(caption: str | None, question: str | None) -> str:
    """The caption without line breaks and repeated spaces.

    Args:
        question: ends the message about an empty caption; None to allow one.

    Raises:
        ValueError: it is empty or too long; the message can be shown on the page.
    """
    text = plain_text(caption)
    if question is not None and not text:
        raise ValueError(f"Write a caption first: {question}")
    if len(text) > MAX_CAPTION:
        raise ValueError(f"The caption is {len(text)} characters long: please keep it below {MAX_CAPTION}.")
    return text


def checked_integer(what: str, value: float | None, low: int, high: int) -> int:
    """``value`` as an integer from ``low`` to ``high``.

    Raises:
        ValueError: it is missing, not an integer or out of range; the message begins with ``what``.
    """
    if value is None or not math.isfinite(value):
        raise ValueError(f"{what} is missing: enter an integer from {low}.")
    if value != int(value):
        raise ValueError(f"{what} is {value}: it must be an integer.")
    if value < low:
        raise ValueError(f"{what} is {int(value)}: the smallest is {low}.")
    if value > high:
        raise ValueError(f"{what} is {int(value)}: the largest is {high}.")
    return int(value)


def checked_number(what: str, value: float | None, low: float, high: float) -> float:
    """``value`` as a float from ``low`` to ``high``.

    Raises:
        ValueError: it is missing or out of range; the message begins with ``what``.
    """
    if value is None or not low <= value <= high:
        raise ValueError(f"{what} is {value}: it must be from {low:g} to {high:g}.")
    return float(value)
