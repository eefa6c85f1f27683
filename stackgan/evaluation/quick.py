"""A few figures of a model in training, cheap enough to take every few minutes.

Without any network from outside there are three, so that every run has something to steer by:

- ``pyramid_distance``: kernel distance in :class:`stackgan.evaluation.features.Pyramid`'s hand-made features, to all
  photos of the split. Falls while pictures become sharper, truer in colour and more varied; knows nothing of birds.
- ``diversity``: how much the seed changes, as a share of how much real pictures differ
  (:func:`stackgan.evaluation.latents.diversity`); near 0 when noise is ignored.
- ``caption_agreement``: share of pictures whose own caption scores higher than nine others' with the checkpoint's own
  compact encoder and its image half; 0.1 by chance. Checkpoints with another encoder have none. Training may have
  used that very half (loss.contrast), so it compares one run's moments, and judges no model against another.

With a feature network there is ``kernel_distance`` in its features too.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.features import Features, pyramid_features
from stackgan.evaluation.image_sets import Photos, caption_rows, embeddings_of, painted_captions
from stackgan.evaluation.latents import diversity, real_pictures
from stackgan.evaluation.metrics import kernel_distance
from stackgan.images.pixels import from_levels
from stackgan.pipeline import StackGANPipeline
from stackgan.text.compact import CompactEncoder

__all__ = ["caption_agreement", "quick_figures"]

DIVERSITY_CAPTIONS, DIVERSITY_SEEDS = 20, 4
REAL_MOST = 500  # photos that diversity is a share of
OTHERS = 9  # captions of other pictures that a picture's own is set against


def quick_figures(
    pipe: StackGANPipeline,
    split: PreparedSplit,
    network: Features | None = None,
    count: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Paint ``count`` captions of the split with seeds seed, seed + 1, … and measure; the names are told above.

    Features of the split's photos are cached in the prepared folder; nothing else is written. The model is left as
    it was found. Restores nothing of torch's random state, because it draws from generators of its own alone.

    Raises:
        ValueError: ``count`` below 2.
    """
    if count < 2:
        raise ValueError(f"count is {count}: distances need 2 pictures or more")
    rows = caption_rows(split, count) if pipe.conditional else np.zeros(count, np.int64)
    pictures = painted_captions(pipe, split, rows.tolist(), seed, folder=None)
    levels = torch.cat([pictures.shard(start, stop) for start, stop in pictures.spans()])
    photos = Photos(split, pipe.sizes[-1])
    found: dict[str, float] = {}
    if network is not None:
        reference = photos.features(network).features
        found["kernel_distance"] = kernel_distance(network.describe(levels).features, reference).value
    pyramid = pyramid_features(pipe.device)
    reference = photos.features(pyramid).features
    found["pyramid_distance"] = kernel_distance(pyramid.describe(levels).features, reference).value
    e = embeddings_of(pipe, split, rows[:DIVERSITY_CAPTIONS].tolist())
    if e is not None:
        real = real_pictures(split, REAL_MOST, pipe.sizes[-1])
        found["diversity"] = diversity(pipe, e, real, DIVERSITY_SEEDS)
    encoder = pipe.text_encoder
    if isinstance(encoder, CompactEncoder) and _sees(encoder):
        captions = encoder.encode([split.captions[row] for row in rows.tolist()])
        parts = (from_levels(part.to(encoder.device)) for part in levels.split(100))
        with torch.inference_mode():
            found["caption_agreement"] = caption_agreement(captions, torch.cat([*map(encoder.encode_images, parts)]))
    return found


def _sees(encoder: CompactEncoder) -> bool:
    """Whether the encoder has its image half; a folder may have been copied without."""
    try:
        return encoder.image_tower is not None
    except FileNotFoundError:
        return False


def caption_agreement(captions: Tensor, pictures: Tensor) -> float:
    """Share of pictures (N, T) whose own caption, row i of (N, T), has a higher cosine than nine others'.

    The others are those of the pictures 1, 2, … 9 N/10 further on, as far as N goes; equal captions are no rivals.
    """
    a, b = F.normalize(captions.float(), dim=1), F.normalize(pictures.float(), dim=1)
    own = (a * b).sum(1)
    won = torch.ones(len(a), dtype=torch.bool, device=a.device)
    for turn in range(1, OTHERS + 1):
        shift = turn * len(a) // (OTHERS + 1)
        if shift:
            other = a.roll(shift, 0)
            won &= (own > (other * b).sum(1)) | (other == a).all(1)
    return float(won.double().mean())
