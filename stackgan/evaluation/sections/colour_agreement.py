"""Agreement of named colours: colours of generated painted birds, predicted by the attribute classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from data_prep.painted import held_out_combinations, recorded_bird
from stackgan.evaluation.attribute_classifier import PARTS, SIDE, AttributeClassifier, Attributes, true_attributes
from stackgan.evaluation.caption_choice import full_caption_rows
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Table, percent
from stackgan.evaluation.image_sets import ImageSet, Photos

__all__ = ["ColourAgreement", "chance", "classified", "classifier_accuracy", "colour_agreement", "section"]


def section(context: Context) -> Findings:
    """Named colours found on generated birds, with a shuffled control and the accuracy of the classifier."""
    classifier = context.attribute_classifier
    if classifier is None or not context.pipe.conditional:
        raise NotMeasured("it needs captions of painted birds, whose attributes are known")
    _, named = full_caption_rows(context.split, context.count)
    found = classified(classifier, context.generated).colours
    own, control = colour_agreement(found, named), colour_agreement(found, np.roll(named, 1, axis=0))
    real = classifier_accuracy(classifier, context.reference)
    figures: dict[str, Any] = {
        "generated": asdict(own),
        "shuffled_control": asdict(control),
        "chance": chance(named),
        "reader_on_real": real,
    }
    keys = ["named", "all_three", "held_out"]
    words = ["named colours found", "all three parts right", "colours of combinations held out of training"]
    columns = [figures["generated"], figures["shuffled_control"], real]
    rows = [(word, *(percent(c[key]) for c in columns)) for key, word in zip(keys, words, strict=True)]
    rows += [(part, *(percent(c["parts"][part]) for c in columns)) for part in PARTS]
    return Findings(
        figures=figures,
        protocol="Captions that name crown, breast and wing; colours by the attribute classifier, a network trained "
        "on drawn birds. Shuffled: the same images with the next image's caption. Drawn birds: the "
        "classifier on the split's own images, whose attributes are known. "
        f"By chance: {percent(figures['chance'])}.",
        tables=[Table(("", "generated", "shuffled", "drawn birds"), rows)],
        headlines=[("named colours found", percent(own.named))],
    )


@dataclass(frozen=True)
class ColourAgreement:
    """Shares (0–1) of named colours that the attribute classifier predicts.

    ``named``: of all named colours of crown, breast and wing; ``all_three``: of images with all three right;
    ``held_out``: of colours in combinations of two parts that are held out of the train split; ``parts``: a share per
    part.
    """

    pictures: int
    named: float
    all_three: float
    held_out: float | None
    parts: dict[str, float]


def colour_agreement(found: NDArray[np.str_], named: NDArray[np.str_]) -> ColourAgreement:
    """Compare predicted colours (N, 3) with named colours (N, 3), columns crown, breast, wing.

    >>> a = colour_agreement(np.array([["red", "white", "black"]]), np.array([["red", "blue", "black"]]))
    >>> round(a.named, 3), a.all_three, a.parts["breast"]
    (0.667, 0.0, 0.0)
    """
    if found.shape != named.shape or found.ndim != 2 or found.shape[1] != len(PARTS) or not len(found):
        raise ValueError(f"colours found {found.shape} and named {named.shape} must both be (N, {len(PARTS)}), N > 0")
    right = found == named
    unseen = np.zeros_like(right)
    for i, row in enumerate(named):
        for combination in held_out_combinations(dict(zip(PARTS, row.tolist(), strict=True))):
            unseen[i, [PARTS.index(part) for part, _ in combination]] = True
    return ColourAgreement(
        pictures=len(named),
        named=float(right.mean()),
        all_three=float(right.all(1).mean()),
        held_out=float(right[unseen].mean()) if unseen.any() else None,
        parts={part: float(right[:, i].mean()) for i, part in enumerate(PARTS)},
    )


def classified(classifier: AttributeClassifier, images: ImageSet) -> Attributes:
    """Predicted attributes of all images of a set."""
    chunks = images.chunks("classifying attributes")
    return Attributes.join([classifier.predict(F.interpolate(chunk, (SIDE, SIDE), mode="area")) for chunk in chunks])


def classifier_accuracy(classifier: AttributeClassifier, photos: Photos) -> dict[str, Any]:
    """Accuracy of the attribute classifier on a split's images, for colours and the scene."""
    truth = true_attributes([recorded_bird(record.parameters) for record in photos.split.records])
    found = classified(classifier, photos)
    return {**asdict(colour_agreement(found.colours, truth.colours)), **found.scene_agreement(truth)}


def chance(named: NDArray[np.str_]) -> float:
    """Expected agreement of two independent rows: the sum over colours of the squared frequency, mean over parts."""
    total = 0.0
    for column in named.T:
        _, counts = np.unique(column, return_counts=True)
        total += float(((counts / len(column)) ** 2).sum())
    return total / named.shape[1]
