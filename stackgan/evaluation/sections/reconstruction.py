"""Reconstruction of photos through the posterior: error, KL(q ‖ p) and active units."""

from __future__ import annotations

import torch

from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, Table
from stackgan.evaluation.image_sets import real_images
from stackgan.images.pixels import LEVELS_PER_UNIT
from stackgan.latent.posterior import ACTIVE, kl_to_prior
from stackgan.pipeline import StackGANPipeline

__all__ = ["posterior_figures", "section"]

PHOTOS, BATCH = 500, 50


def section(context: Context) -> Findings:
    """Reconstruction of the split's photos with their own captions."""
    context.require_posterior()
    context.require_text_encoder()
    figures = posterior_figures(context.pipe, context.split)
    rows = [
        ("reconstruction error, levels of 255", f"{figures['reconstruction']:.1f}"),
        ("KL(q ‖ p), nats per image", f"{figures['kl']:.1f}"),
        ("active units", f"{figures['active_units']:.0f} of {context.pipe.config.latent.dim}"),
    ]
    return Findings(
        figures=figures,
        protocol=f"The split's first {PHOTOS} images with their first captions; the posterior's mean for the error, "
        f"one sample for KL; a unit is active if the variance of its mean is above {ACTIVE} (arXiv:1509.00519).",
        tables=[Table(("", ""), rows)],
    )


@torch.inference_mode()
def posterior_figures(pipe: StackGANPipeline, split: PreparedSplit, count: int = PHOTOS) -> dict[str, float]:
    """Reconstruction error, KL(q ‖ p) and active units on the split's first images with their first captions.

    ``reconstruction`` is the mean absolute error in levels of 255; ``kl`` in nats per image, from one sample of q.
    """
    model = pipe.model
    assert model.posterior is not None
    real = real_images(split, count, pipe.sizes[-1])
    captions = [split.captions[split.offsets[row]] for row in range(len(real))]
    errors, kls, mus = [], [], []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(real), BATCH):
        x = real[start : start + BATCH].to(pipe.device)
        c = model.condition(pipe.encode(captions[start : start + BATCH]).to(pipe.device)).mu
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
