"""Source of evaluated images: a pipeline with a fixed truncation and stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stackgan.data.prepared import PreparedSplit
from stackgan.pipeline import StackGANPipeline
from stackgan.text.load import encoder_kind, stored_embeddings
from stackgan.text.precomputed import PrecomputedEmbeddings

__all__ = ["ImageSource", "embeddings_of"]


@dataclass(frozen=True)
class ImageSource:
    """A pipeline with a fixed truncation and stage.

    Attributes:
        truncation: factor of the noise of z and c, 0 to 2.
        stage: of the tree, from 0; -1 is the finest.
    """

    pipe: StackGANPipeline
    truncation: float = 1.0
    stage: int = -1

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> embeddings (B, T)."""
        return self.pipe.encode(captions)

    def images(self, embeddings: Tensor | None, seeds: Sequence[int]) -> Tensor:
        """One batch of images: embeddings (B, T), None without text, B seeds -> (B, 3, s, s) in [−1, 1]."""
        return self.pipe.generate(embeddings, seeds, self.truncation, self._stages)[-1]

    @torch.inference_mode()
    def without_text(self, seeds: Sequence[int], *, standard_normal: bool = False) -> Tensor:
        """The same without text, c ~ p(c), or with ``standard_normal`` c ~ N(0, I)."""
        z_noise, c_noise = (self.truncation * noise for noise in self.pipe.noise(seeds))
        c = c_noise if standard_normal else self.pipe.model.codes(len(c_noise)).sample(noise=c_noise)
        return self.pipe.decode(c, z_noise, self._stages)[-1]

    @property
    def _stages(self) -> list[int]:
        return [range(len(self.pipe.sizes))[self.stage]]


def embeddings_of(pipe: StackGANPipeline, split: PreparedSplit, rows: Sequence[int]) -> Tensor | None:
    """Embeddings (B, T) of the captions ``rows`` of the split; None for a checkpoint without text.

    For a checkpoint that was trained on precomputed embeddings, these are read from the split.

    Raises:
        FileNotFoundError: the split has no embeddings of that name.
    """
    if not pipe.conditional:
        return None
    setting = pipe.config.text.encoder
    without_weights = pipe.text_encoder is None or isinstance(pipe.text_encoder, PrecomputedEmbeddings)
    if encoder_kind(setting)[0].load is None and without_weights:
        return torch.from_numpy(np.array(stored_embeddings(split, setting)[np.asarray(rows)]))
    return pipe.encode([split.captions[row] for row in rows])
