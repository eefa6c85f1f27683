"""Settings of an evaluation: all but the checkpoint, the data and the report's folder.

This file imports nothing heavy, so that the command line can read fields and defaults from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["EvaluationSettings"]


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of one evaluation, checked when they are made.

    Attributes:
        split: of the prepared folder: its captions are generated, its photos are the reference.
        count: images to generate, 2 or more. Captions are taken image after image: every image's first, then every
            image's second, and from the start again where there are too few; of painted birds those that name crown,
            breast and wing.
        seed: image i is generated with seed ``seed + i``.
        truncation: of all measured images, 0 to 2 (:meth:`StackGANPipeline.__call__`). The 64 samples are shown with
            the truncation that the checkpoint recommends besides, which the command line and the app use.
        features: folder of a feature network (:func:`stackgan.evaluation.features.load_features`).
        inception: ``auto``, or the file of the weights (:func:`stackgan.evaluation.inception.load_inception`).
        flip_reference: count the mirror images of the split's photos as reference photos too.
        scorer: folder of a compact dual encoder trained apart from the checkpoint, the independent image–text scorer;
            without one, one is trained on the train split and kept in the prepared folder's cache.
        clip: folder or hub name of a CLIP model, for its R-precision and the CLIP score.
        out_of_domain: text file of sentences that are no captions, one a line: how well log p(c) detects them.
        hide_captions: show the colours that captions name in place of the captions, for data whose captions may not
            be passed on. The sheets of nearest training photos show photos all the same.
        device: ``cpu``, ``cuda``; None for CUDA where there is one.

    Raises:
        ValueError: fewer than 2 images, a seed or truncation out of range.
    """

    split: str = "test"
    count: int = 30_000
    seed: int = 0
    truncation: float = 1.0
    features: Path | None = None
    inception: str | None = None
    flip_reference: bool = False
    scorer: Path | None = None
    clip: str | None = None
    out_of_domain: Path | None = None
    hide_captions: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        from stackgan.latent.sampling import check_sampling  # here: it imports torch, which --help does without

        if self.count < 2:
            raise ValueError(f"--num {self.count}: it must be 2 or more")
        check_sampling([self.seed], self.truncation)
