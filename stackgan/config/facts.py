"""Schema of the entries of a checkpoint's config.json besides the configuration: training, data, fitted priors.

Only this module writes and reads them. Absent keys are unknown facts; unknown keys are errors, as in the
configuration.

>>> facts = CheckpointFacts(trained=TrainingFacts(steps=2, images=32, seconds=5), truncation=0.7)
>>> facts.to_dict()
{'trained': {'steps': 2, 'images': 32, 'seconds': 5}, 'truncation': 0.7}
>>> CheckpointFacts.from_dict(facts.to_dict(), "config.json") == facts
True
>>> CheckpointFacts.from_dict({"trained": {"imags": 32}}, "config.json")
Traceback (most recent call last):
...
ValueError: config.json: unknown config key 'trained.imags': did you mean 'trained.images'?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stackgan.config.parsing import build

__all__ = [
    "CheckpointFacts",
    "DataFacts",
    "FittedPriorFacts",
    "MeasuredFacts",
    "PriorFitFacts",
    "TiltFacts",
    "TrainingFacts",
]


@dataclass(frozen=True)
class TrainingFacts:
    """Length of the training; None is unknown (imported weights, checkpoints of early versions).

    Attributes:
        steps: of the optimisers.
        images: training images seen.
        seconds: spent in the training loop.
        device: type of the device, such as ``cpu`` or ``cuda``.
    """

    steps: int | None = None
    images: int | None = None
    seconds: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class DataFacts:
    """The prepared folder that a checkpoint was trained on.

    Attributes:
        kind: a name of :data:`stackgan.data.kinds.KINDS`.
        identity: digest of its content.
        images, captions: of its train split.
    """

    kind: str
    identity: str
    images: int
    captions: int


@dataclass(frozen=True)
class MeasuredFacts:
    """Figures of an evaluation, as they are shown in the model card.

    Attributes:
        protocol: who measured, on what: a sentence.
        figures: name of each figure, and its value as text.
    """

    protocol: str
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PriorFitFacts:
    """Fit of a flow to held-out rows: negative log-likelihood in nats per dimension, and that of N(0, I).

    Attributes:
        active_units: dimensions of z that carry information, for p(z) alone.
    """

    nats_per_dimension_flow: float
    nats_per_dimension_gaussian: float
    active_units: float | None = None


@dataclass(frozen=True)
class FittedPriorFacts:
    """Flows fitted by ``stackgan fit-prior``: their family, steps of Adam, and the fit of p(z) and p(c)."""

    family: str = ""
    steps: int = 0
    z: PriorFitFacts | None = None
    c: PriorFitFacts | None = None


@dataclass(frozen=True)
class TiltFacts:
    """The prior fitted by ``stackgan tilt-prior``.

    Attributes:
        images: generated for the fit.
        strength: β.
        score, score_gaussian: mean score of images of captions that were held out, at the recommended truncation, and
            that with N(0, I) as the prior.
        kl: KL(p(z | c) ‖ N(0, I)) in nats, a mean over these captions.
        correlation: of the value network with the scores of images that were held out.
    """

    images: int
    strength: float
    score: float
    score_gaussian: float
    kl: float
    correlation: float


@dataclass(frozen=True)
class CheckpointFacts:
    """All facts of a checkpoint.

    Attributes:
        examples: example captions.
        data: None for imported weights.
        trained: this run alone.
        started_from: training of the initialisation source, if the run had one.
        averaged: training of the checkpoints whose mean this one is.
        truncation: recommended for generation; None is 1, the trained distribution.
        imported: sha256 of the files of imported weights.
        measured: evaluations of these weights: during training, and by ``stackgan evaluate``.
    """

    examples: tuple[str, ...] = ()
    data: DataFacts | None = None
    trained: TrainingFacts | None = None
    started_from: TrainingFacts | None = None
    averaged: tuple[TrainingFacts, ...] = ()
    fitted_prior: FittedPriorFacts | None = None
    tilted_prior: TiltFacts | None = None
    truncation: float | None = None
    imported: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[MeasuredFacts, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without unknown facts."""
        plain: dict[str, Any] = _plain(self)
        return plain

    @staticmethod
    def from_dict(values: object, where: str) -> CheckpointFacts:
        """Parse the output of :meth:`to_dict`; raises ``ValueError`` naming ``where`` and the wrong key."""
        return build(CheckpointFacts, values, "", where)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        return {name: _plain(held) for name, held in fields.items() if held is not None and held != () and held != {}}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return dict(value) if isinstance(value, Mapping) else value
