"""Inexpensive metrics for evaluation every few minutes during training.

Three need no further network:

- ``pyramid_distance``: kernel distance to all photos of the split in the features of
  :class:`stackgan.evaluation.features.Pyramid`, which have no learned weights. It decreases as images become sharper,
  more varied and more accurate in colour.
- ``diversity``: difference between images of one caption with different seeds, relative to that of real images
  (:func:`stackgan.evaluation.sections.diversity.diversity`); near 0 when z is ignored.
- ``caption_agreement``: share of images whose own caption scores higher than nine others by the checkpoint's compact
  dual encoder; 0.1 by chance. Not available with other encoders. Training may have used the image tower
  (loss.contrast), so that this metric compares checkpoints of one run, but not different models.

With a feature network, there is also ``kernel_distance`` in its features.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.caption_choice import caption_rows
from stackgan.evaluation.features import FeatureNetwork, pyramid_features
from stackgan.evaluation.image_sets import Photos, images_of_captions, real_images
from stackgan.evaluation.image_source import ImageSource, embeddings_of
from stackgan.evaluation.metrics import kernel_distance
from stackgan.evaluation.sections.diversity import diversity
from stackgan.images.pixels import from_levels
from stackgan.pipeline import StackGANPipeline
from stackgan.text.compact import CompactEncoder

__all__ = ["caption_agreement", "quick_figures"]

DIVERSITY_CAPTIONS, DIVERSITY_SEEDS, DIVERSITY_PHOTOS = 20, 4, 500
OTHERS = 9  # captions of other images that an image's caption is compared with


def quick_figures(
    pipe: StackGANPipeline,
    split: PreparedSplit,
    network: FeatureNetwork | None = None,
    count: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Generate images for ``count`` captions of the split with seeds seed, seed + 1, … and compute the metrics above.

    Features of the split's photos are cached in the prepared folder (:mod:`stackgan.evaluation.cache`); nothing else
    is written. The model and torch's global random state are not changed: all random numbers have separate
    generators.

    Raises:
        ValueError: ``count`` below 2.
    """
    if count < 2:
        raise ValueError(f"count is {count}: distances need 2 images or more")
    source = ImageSource(pipe)
    rows = caption_rows(split, count) if pipe.conditional else np.zeros(count, np.int64)
    images = images_of_captions(source, split, rows.tolist(), seed, folder=None)
    levels = torch.cat([images.shard(start, stop) for start, stop in images.spans()])
    photos = Photos(split, pipe.sizes[-1])
    found: dict[str, float] = {}
    if network is not None:
        reference = photos.features(network).features
        found["kernel_distance"] = kernel_distance(network.extract(levels).features, reference).value
    pyramid = pyramid_features(pipe.device)
    reference = photos.features(pyramid).features
    found["pyramid_distance"] = kernel_distance(pyramid.extract(levels).features, reference).value
    e = embeddings_of(pipe, split, rows[:DIVERSITY_CAPTIONS].tolist())
    if e is not None:
        real = real_images(split, DIVERSITY_PHOTOS, pipe.sizes[-1])
        found["diversity"] = diversity(source, e, real, DIVERSITY_SEEDS)
    encoder = pipe.text_encoder
    if isinstance(encoder, CompactEncoder) and _has_image_tower(encoder):
        captions = encoder.encode([split.captions[row] for row in rows.tolist()])
        parts = (from_levels(part.to(encoder.device)) for part in levels.split(100))
        with torch.inference_mode():
            found["caption_agreement"] = caption_agreement(captions, torch.cat([*map(encoder.encode_images, parts)]))
    return found


def _has_image_tower(encoder: CompactEncoder) -> bool:
    """Whether the encoder's folder contains the image tower, which is optional."""
    try:
        return encoder.image_tower is not None
    except FileNotFoundError:
        return False


def caption_agreement(captions: Tensor, images: Tensor) -> float:
    """Share of images (N, T) whose caption, row i of (N, T), has a higher cosine than nine others.

    The others are those of the images N/10, 2 N/10, … 9 N/10 further on, cyclically; equal captions are ignored.
    """
    a, b = F.normalize(captions.float(), dim=1), F.normalize(images.float(), dim=1)
    own = (a * b).sum(1)
    won = torch.ones(len(a), dtype=torch.bool, device=a.device)
    for turn in range(1, OTHERS + 1):
        shift = turn * len(a) // (OTHERS + 1)
        if shift:
            other = a.roll(shift, 0)
            won &= (own > (other * b).sum(1)) | (other == a).all(1)
    return float(won.double().mean())
