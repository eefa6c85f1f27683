"""Figures of latent modules: how much the seed changes, how well photos come back, how many dimensions are used."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.data.prepared import PreparedSplit
from stackgan.images.pixels import LEVELS_PER_UNIT, centre_crops
from stackgan.latent.posterior import ACTIVE, kl_to_prior
from stackgan.pipeline import StackGANPipeline

__all__ = ["diversity", "posterior_figures", "real_pictures", "seconds_to_sample", "text_free"]

COARSE = 16  # px at which pictures are compared: pose, place and background, no texture


@torch.inference_mode()
def diversity(
    pipe: StackGANPipeline, embeddings: Tensor, real: Tensor, seeds: int = 8, truncation: float = 1.0
) -> float:
    """Mean absolute difference at 16 px between pictures of one caption, as a share of that between real pictures.

    Args:
        embeddings: (B, T) of some tens of captions.
        real: (N, 3, s, s) in [−1, 1], of different captions.
        seeds: pictures a caption, 2 or more.
        truncation: of all pictures.
    """
    painted = (pipe.paint(e.expand(seeds, -1), range(seeds), truncation)[-1] for e in embeddings)
    pictures = torch.stack([_coarse(images) for images in painted])
    between = torch.stack([(pictures - pictures.roll(shift, 1)).abs().mean() for shift in range(1, seeds)]).mean()
    coarse = _coarse(real).to(pictures.device)
    others = torch.stack([(coarse - coarse.roll(shift, 0)).abs().mean() for shift in (1, 2, 3)]).mean()
    return float(between / others)


@torch.inference_mode()
def posterior_figures(pipe: StackGANPipeline, split: PreparedSplit, count: int = 500) -> dict[str, float]:
    """Reconstruction error, active units and KL(q ‖ p) on the split's own pictures with their first captions.

    ``reconstruction`` is the mean absolute error in levels of 255; ``kl`` in nats a picture, from one draw of q.
    """
    model, side = pipe.model, pipe.sizes[-1]
    assert model.posterior is not None
    real = real_pictures(split, count, side)
    captions = [split.captions[split.offsets[row]] for row in range(len(real))]
    errors, kls, mus = [], [], []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(real), 50):
        x = real[start : start + 50].to(pipe.device)
        c = model.condition(pipe.encode(captions[start : start + 50]).to(pipe.device)).mu
        q, p = model.posterior(x, c), model.prior(c)
        errors.append((pipe.generator(q.mode, c)[-1].float() - x).abs().mean((1, 2, 3)))
        z = q.sample(noise=torch.randn(q.mu.shape, generator=generator).to(pipe.device))
        kls.append(kl_to_prior(q, p, z))
        mus.append(q.mu)
    return {
        "reconstruction": float(torch.cat(errors).mean() * LEVELS_PER_UNIT),
        "kl": float(torch.cat(kls).mean()),
        "active_units": float((torch.cat(mus).var(0) > ACTIVE).sum()),
    }


def seconds_to_sample(pipe: StackGANPipeline, embedding: Tensor | None, count: int = 64, repeats: int = 3) -> float:
    """Median seconds from embeddings to ``count`` pictures of one caption (1, T), or of none, in one batch."""
    e = embedding.expand(count, -1) if embedding is not None else None
    times = []
    with torch.inference_mode():
        pipe.paint(e, range(count))
        for _ in range(repeats):
            start = time.perf_counter()
            pipe.paint(e, range(count))
            if pipe.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return float(np.median(times))


@torch.inference_mode()
def text_free(
    pipe: StackGANPipeline, seeds: Sequence[int], *, plain: bool = False, truncation: float = 1.0
) -> Tensor:
    """Pictures (B, 3, s, s) without text, one a seed; ``plain`` draws c from N(0, I) in place of p(c)."""
    z_noise, c_noise = (truncation * noise for noise in pipe.noise(seeds))
    c = c_noise if plain else pipe.model.codes(len(c_noise)).sample(noise=c_noise)
    return pipe.generator(pipe.model.prior(c).sample(noise=z_noise), c, [len(pipe.sizes) - 1])[-1]


def real_pictures(split: PreparedSplit, count: int, side: int) -> Tensor:
    """The middles of the split's first pictures, (count, 3, side, side) in [−1, 1]."""
    return centre_crops(split.images[:count], side)


def _coarse(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images.float(), COARSE)
