"""What the latent modules make of a caption, as numbers and pictures; without Gradio.

The distribution q(c | e) of CA_NET by dimension, images of codes sampled from it, images with parts of the latent
modules switched off, and the position of the caption among the training captions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from stackgan.app.image_request import MAX_PAGE_SEED, checked_caption
from stackgan.captions.word_statistics import caption_words
from stackgan.images.pixels import to_pil
from stackgan.pipeline import StackGANPipeline

__all__ = ["CodeNumbers", "Domain", "Picture", "Pictures", "code_numbers", "domain", "pictures", "usable_caption"]

SAMPLES = 6  # codes c ~ q(c | e) shown
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # factors on the noise of c
LARGEST = 128  # px: the finest stage up to this side is shown
BATCH = 8


@dataclass(frozen=True)
class CodeNumbers:
    """q(c | e) of one caption, by dimension of the code.

    Attributes:
        mu, sigma: C means and standard deviations.
        kl: C terms of KL(q(c | e) ‖ N(0, I)), in nats.
    """

    mu: list[float]
    sigma: list[float]
    kl: list[float]

    @property
    def total(self) -> float:
        """KL(q(c | e) ‖ N(0, I)) in nats."""
        return math.fsum(self.kl)

    @property
    def order(self) -> list[int]:
        """Dimensions, the one with the largest KL first."""
        return sorted(range(len(self.kl)), key=lambda dim: -self.kl[dim])

    @property
    def for_half(self) -> int:
        """The smallest number of dimensions that hold half of the total."""
        reached = 0.0
        for number, dim in enumerate(self.order, 1):
            reached += self.kl[dim]
            if reached >= self.total / 2:
                return number
        return len(self.kl)


@dataclass(frozen=True)
class Domain:
    """Where a caption lies among the training captions.

    Attributes:
        score, threshold: of the word statistics, in nats; None for a checkpoint without, or a caption without words.
        captions: number of training captions counted.
        words: (word, training captions that hold it) for the different words of the caption.
        log_prob, share: log p(c) in nats and the share of training captions with at most that density;
            share is None for a checkpoint without a flow p(c).
        nearest: (example caption of the checkpoint, cosine similarity of its embedding), nearest first.
    """

    score: float | None
    threshold: float | None
    captions: int
    words: list[tuple[str, int]]
    log_prob: float
    share: float | None
    nearest: list[tuple[str, float]]

    @property
    def inside(self) -> bool | None:
        """Whether the score reaches the threshold; None if there is none."""
        return None if self.score is None or self.threshold is None else self.score >= self.threshold


@dataclass(frozen=True)
class Picture:
    """An image with what it shows.

    Attributes:
        distance: ‖c − mu‖ of its code, where that is of interest.
    """

    label: str
    image: Image.Image
    distance: float | None = None


@dataclass(frozen=True)
class Pictures:
    """Images of one caption and seed: by code, by truncation of the code, and by parts switched off."""

    samples: list[Picture]
    levels: list[Picture]
    modules: list[Picture]


def usable_caption(caption: str | None) -> str:
    """The caption without line breaks and repeated spaces.

    Raises:
        ValueError: it is empty or too long; the message can be shown on the page.
    """
    return checked_caption(caption, "there is nothing to analyse.")


@torch.inference_mode()
def code_numbers(pipe: StackGANPipeline, caption: str) -> CodeNumbers:
    """q(c | e) of a caption; raises ``ValueError`` as :func:`usable_caption`."""
    q = pipe.model.condition(pipe.encode([usable_caption(caption)]).to(pipe.device))
    return CodeNumbers(q.mu[0].tolist(), q.std[0].tolist(), q.kl_per_dimension()[0].tolist())


@torch.inference_mode()
def domain(pipe: StackGANPipeline, caption: str) -> Domain:
    """The position of a caption; raises ``ValueError`` as :func:`usable_caption`."""
    text = usable_caption(caption)
    words = list(dict.fromkeys(caption_words(text)))
    statistics = pipe.statistics
    score = threshold = None
    if statistics is not None and words:
        score = statistics.score(text)
        threshold = score - statistics.margin(text)
    density = pipe.caption_log_prob(text)[0]
    return Domain(
        score,
        threshold,
        statistics.captions if statistics is not None else 0,
        [(word, statistics.words.get(word, 0)) for word in words] if statistics is not None else [],
        density.log_prob,
        density.share,
        _nearest(pipe, text),
    )


def _nearest(pipe: StackGANPipeline, text: str) -> list[tuple[str, float]]:
    if not pipe.examples:
        return []
    e = pipe.encode([text, *pipe.examples])
    likeness = torch.nn.functional.cosine_similarity(e[:1], e[1:]).tolist()
    return sorted(zip(pipe.examples, likeness, strict=True), key=lambda pair: -pair[1])


@torch.inference_mode()
def pictures(pipe: StackGANPipeline, caption: str, seed: float | None) -> Pictures:
    """Images of a caption, all with the z noise of ``seed``.

    Raises:
        ValueError: as :func:`usable_caption`, or an invalid seed; the message can be shown on the page.
    """
    text = usable_caption(caption)
    if seed is None or seed != seed or not 0 <= seed <= MAX_PAGE_SEED - SAMPLES or seed != int(seed):
        raise ValueError(f"The seed must be an integer from 0 to {MAX_PAGE_SEED - SAMPLES}.")
    q = pipe.model.condition(pipe.encode([text]).to(pipe.device))
    z_noise, c_noise = pipe.noise(range(int(seed), int(seed) + SAMPLES))
    z_noise = z_noise[:1]

    around = q.mu + q.std * c_noise
    levels = q.mu + torch.tensor(LEVELS, device=q.mu.device)[:, None] * q.std * c_noise[:1]
    labels, codes, styles = _modules(pipe, q.mu, around[:1], c_noise[:1], z_noise)
    styles_of_codes = [pipe.model.prior(c).sample(noise=z_noise.expand(len(c), -1)) for c in (around, levels)]
    images = _images(pipe, torch.cat([around, levels, codes]), torch.cat([*styles_of_codes, styles]))
    first, second = len(around), len(around) + len(levels)
    return Pictures(
        _with_distance([f"code {n}" for n in range(1, SAMPLES + 1)], images[:first], around - q.mu),
        _with_distance([f"truncation {level:g}" for level in LEVELS], images[first:second], levels - q.mu),
        [Picture(label, image) for label, image in zip(labels, images[second:], strict=True)],
    )


def _modules(
    pipe: StackGANPipeline, mu: Tensor, c: Tensor, c_noise: Tensor, z_noise: Tensor
) -> tuple[list[str], Tensor, Tensor]:
    """Labels, codes (V, C) and styles (V, Z): the checkpoint's own latent modules, then with parts switched off."""

    def style(code: Tensor, noise: Tensor) -> Tensor:
        return pipe.model.prior(code).sample(noise=noise)

    still = torch.zeros_like(z_noise)
    rows = [
        ("all modules", c, style(c, z_noise)),
        ("c at its mean", mu, style(mu, z_noise)),
        ("z at its mean", c, style(c, still)),
        ("c and z at their means", mu, style(mu, still)),
    ]
    if any(True for _ in pipe.model.prior.parameters()):  # other than N(0, I)
        rows.append(("z from N(0, I)", c, z_noise))
    free = pipe.model.codes(1).sample(noise=c_noise)
    rows.append(("no caption: c from p(c)", free, style(free, z_noise)))
    if pipe.model.has_code_flow:
        rows.append(("no caption: c from N(0, I)", c_noise, style(c_noise, z_noise)))
    return [row[0] for row in rows], torch.cat([row[1] for row in rows]), torch.cat([row[2] for row in rows])


def _images(pipe: StackGANPipeline, codes: Tensor, styles: Tensor) -> list[Image.Image]:
    stage = max((place for place, side in enumerate(pipe.sizes) if side <= LARGEST), default=0)
    images: list[Image.Image] = []
    for start in range(0, len(codes), BATCH):
        part = slice(start, start + BATCH)
        images += to_pil(pipe.generator(styles[part], codes[part], [stage])[0])
    return images


def _with_distance(labels: list[str], images: list[Image.Image], offsets: Tensor) -> list[Picture]:
    distances = offsets.norm(dim=1).tolist()
    return [Picture(*row) for row in zip(labels, images, distances, strict=True)]
