"""Diversity: difference between images of one caption with different seeds, relative to that of real images."""

from __future__ import annotations

import torch
from torch import Tensor

from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Table
from stackgan.evaluation.image_sets import real_images
from stackgan.evaluation.image_source import ImageSource
from stackgan.images.diversity import averaged_down, mean_difference

__all__ = ["diversity", "section"]

CAPTIONS, PHOTOS, SEEDS = 40, 1000, 8


def section(context: Context) -> Findings:
    """Diversity over seeds for the first captions."""
    embeddings = context.embeddings(context.rows[:CAPTIONS])
    if embeddings is None:
        raise NotMeasured("the checkpoint was trained without text, so there are no captions")
    value = diversity(context.source, embeddings, real_images(context.split, PHOTOS, context.side))
    return Findings(
        figures={"diversity": value},
        protocol=f"Mean absolute difference at 16 px between {SEEDS} seeds of each of {len(embeddings)} captions, as "
        "a share of that between real images. 0: the seed changes nothing; 1: images of one caption differ as much "
        "as any two real images, whatever their captions.",
        tables=[Table(("", ""), [("diversity", f"{value:.3f}")])],
        headlines=[("diversity over seeds (real images: 1)", f"{value:.2f}")],
    )


@torch.inference_mode()
def diversity(source: ImageSource, embeddings: Tensor, real: Tensor, seeds: int = SEEDS) -> float:
    """Mean absolute difference at 16 px between images of one caption, divided by that between real images.

    Args:
        embeddings: (B, T) of some tens of captions.
        real: (N, 3, s, s) in [−1, 1], of different captions.
        seeds: images per caption, 2 or more.
    """
    images = torch.stack([averaged_down(source.images(e.expand(seeds, -1), range(seeds))) for e in embeddings])
    between = mean_difference(images, range(1, seeds), dim=1)
    return float(between / mean_difference(averaged_down(real).to(images.device), (1, 2, 3)))
