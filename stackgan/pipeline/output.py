"""What the pipeline returns: images of every stage in the form that was asked for, and the density of captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stackgan.images.pixels import to_pil
from stackgan.text.base import CaptionWarning

__all__ = ["OUTPUT_TYPES", "CaptionDensity", "PipelineOutput"]


@dataclass(frozen=True)
class PipelineOutput:
    """Generated images.

    Attributes:
        stages: for every stage, coarsest first, an image per sample: PIL images, with ``output_type="np"`` arrays
            (B, s, s, 3) and with ``"pt"`` tensors (B, 3, s, s), both float32 in [0, 1].
        seeds: of the images; given again, they give the same images.
        warnings: about the captions.
    """

    stages: list[Any]
    seeds: list[int]
    warnings: list[CaptionWarning] = field(default_factory=list)

    @property
    def images(self) -> Any:
        """The finest stage."""
        return self.stages[-1]


@dataclass(frozen=True)
class CaptionDensity:
    """Density of a caption under p(c).

    Attributes:
        log_prob: log p(c) in nats at c = mu(e).
        share: of the training captions with at most this density, 0 to 1; None for checkpoints without a flow p(c).
    """

    log_prob: float
    share: float | None


def _pil(parts: Sequence[Tensor]) -> list[Image.Image]:
    return [image for part in parts for image in to_pil(part)]


def _pt(parts: Sequence[Tensor]) -> Tensor:
    return ((torch.cat(list(parts)).float() + 1) / 2).clamp(0, 1)


def _np(parts: Sequence[Tensor]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = _pt(parts).permute(0, 2, 3, 1).cpu().numpy()
    return found


# Name -> function from batches (B, 3, s, s) in [−1, 1] to images.
OUTPUT_TYPES: dict[str, Callable[[Sequence[Tensor]], Any]] = {"pil": _pil, "np": _np, "pt": _pt}
