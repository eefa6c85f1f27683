"""Settings of an evaluation, except for the checkpoint, the data and the report's folder.

This module has no slow imports, so that the command line can read fields and defaults from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["EvaluationSettings"]


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of one evaluation, checked at creation.

    Attributes:
        split: of the prepared folder: images are generated for its captions and compared with its photos.
        count: number of images to generate, 2 or more. Captions are every image's first, then every image's second,
            and so on, repeated if there are too few; for painted birds, only those that name crown, breast and wing.
        seed: image i is generated with seed ``seed + i``.
        truncation: of all evaluated images, 0 to 2 (:meth:`StackGANPipeline.__call__`). The 64 samples are also shown
            with the checkpoint's recommended truncation, the default of the command line and the app.
        features: name or folder of a feature network (:func:`stackgan.evaluation.features.load_features`).
        trust_remote_code: execute the Python file of a features folder.
        inception: ``auto``, or the file of the weights (:func:`stackgan.evaluation.inception.load_inception`).
        flip_reference: count the mirror images of the split's photos as reference photos too.
        scorer: folder of a compact dual encoder that was trained independently of the checkpoint, as image–text
            scorer; by default one is trained on the train split and stored in the prepared folder's cache.
        clip: folder or hub name of a CLIP model, for its R-precision and the CLIP score.
        out_of_domain: text file of sentences that are not captions, one per line, to be detected by log p(c).
        hide_captions: show the colours in captions instead of the captions, for data whose captions may not be
            redistributed. The sheets of nearest training photos still show photos.
        device: ``cpu``, ``cuda``; None for CUDA if available.

    Raises:
        ValueError: fewer than 2 images, or a seed or truncation out of range.
    """

    split: str = "test"
    count: int = 30_000
    seed: int = 0
    truncation: float = 1.0
    features: str | None = None
    trust_remote_code: bool = False
    inception: str | None = None
    flip_reference: bool = False
    scorer: Path | None = None
    clip: str | None = None
    out_of_domain: Path | None = None
    hide_captions: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        from stackgan.latent.sampling import check_sampling  # imports torch, which --help does not need

        if self.count < 2:
            raise ValueError(f"--num {self.count}: it must be 2 or more")
        check_sampling([self.seed], self.truncation)
