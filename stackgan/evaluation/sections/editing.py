"""Editing of photos: painted birds with one colour word of the caption changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data_prep.painted import COLOURS, caption_colours, recoloured, recorded_bird
from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.attribute_classifier import PARTS, SCENE, SIDE, AttributeClassifier, true_attributes
from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Sheet, Table, percent
from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import centre_crops, to_pil, to_tensor
from stackgan.pipeline import StackGANPipeline

__all__ = ["Editing", "Recolouring", "edit_sheet", "editing", "recolourings", "section"]

MOST = 1000  # edits
BATCH = 50


def section(context: Context) -> Findings:
    """Attributes of edited photos by the attribute classifier."""
    context.require_posterior()
    context.require_text_encoder()
    classifier, seed = context.attribute_classifier, context.settings.seed
    if classifier is None:
        raise NotMeasured("it needs painted birds, whose attributes are known")
    found = editing(context.pipe, classifier, context.split, min(context.count, MOST), seed)
    rows: list[tuple[str, ...]] = [
        ("named part in its new colour", percent(found.changed), "", ""),
        ("other parts in their colour", percent(found.others_kept), percent(found.reconstruction["colours"]), ""),
    ]
    sides = (found.kept, found.reconstruction, found.other_photos)
    rows += [(f"same {name}", *(percent(side[name]) for side in sides)) for name in SCENE]
    rows.append(("tilt, mean difference", *(f"{side['tilt']:.1f}°" for side in sides)))
    rows.append(("length, mean difference", *(percent(side["scale"]) for side in sides)))
    header = ("", "edit against reconstruction", "reconstruction against photo", "other photos")
    return Findings(
        figures=asdict(found),
        protocol=f"{found.pictures:,} photos, with one colour word of the caption changed to another colour for one "
        "part; attributes by the attribute classifier. Other photos: reconstructions of different photos, as a "
        "baseline of unrelated images.",
        tables=[Table(header, rows)],
        headlines=[("edits that take the new colour", percent(found.changed))],
        sheets=[Sheet("edits", "Photo, reconstruction, edit:", edit_sheet(context.pipe, context.split, seed=seed))],
    )


@dataclass(frozen=True)
class Recolouring:
    """An edit: image ``row`` of a split, its caption, and the caption with another ``colour`` of ``part``."""

    row: int
    caption: str
    new_caption: str
    part: str
    colour: str


@dataclass(frozen=True)
class Editing:
    """Attributes of photos edited by changing one colour word of the caption. Shares are 0–1.

    Attributes:
        pictures: number of images.
        changed: share whose named part is classified as the new colour; ``parts``: the same for each part.
        others_kept: share of the other two parts' colours classified as in the reconstruction.
        kept: edit against reconstruction of the same photo (:meth:`Attributes.scene_agreement`).
        other_photos: reconstructions against those of other photos, a baseline of unrelated images.
        reconstruction: reconstruction against the truth; ``colours``: share of crown, breast and wing.
    """

    pictures: int
    changed: float
    parts: dict[str, float]
    others_kept: float
    kept: dict[str, float]
    other_photos: dict[str, float]
    reconstruction: dict[str, float]


def recolourings(split: PreparedSplit, count: int, seed: int = 0) -> list[Recolouring]:
    """One edit for each of the split's first ``count`` images, of crown, breast and wing alternately.

    Raises:
        ValueError: an image has no caption that names all three parts with replaceable colours.
    """
    rng = np.random.default_rng((seed, 0xED))
    return [_recolouring(i, split.records[i].captions, rng) for i in range(min(count, len(split)))]


def _recolouring(row: int, captions: Sequence[str], rng: np.random.Generator) -> Recolouring:
    for turn in range(len(PARTS)):
        part = PARTS[(row + turn) % len(PARTS)]
        for caption in captions:
            named = caption_colours(caption)
            if len(named) < len(PARTS):
                continue
            colour = str(rng.choice([c for c in COLOURS if c != named[part]]))
            changed = recoloured(caption, part, colour)
            if changed is not None:
                return Recolouring(row, caption, changed, part, colour)
    raise ValueError(f"image {row + 1}: no caption names crown, breast and wing with a colour word each")


def editing(
    pipe: StackGANPipeline, classifier: AttributeClassifier, split: PreparedSplit, count: int, seed: int = 0
) -> Editing:
    """Edit ``count`` images of a painted split and classify the results.

    Raises:
        ValueError: the checkpoint has no posterior, or the split has no parameters of birds.
    """
    edits = recolourings(split, count, seed)
    rebuilt, edited = [], []
    for start in range(0, len(edits), BATCH):
        part = edits[start : start + BATCH]
        photos = [Image.fromarray(split.images[e.row]) for e in part]
        old, new = [e.caption for e in part], [e.new_caption for e in part]
        rebuilt.append(_tensors(pipe.reconstruct(photos, old).images))
        edited.append(_tensors(pipe.edit(photos, old, new).images))
    before, after = classifier.predict(torch.cat(rebuilt)), classifier.predict(torch.cat(edited))
    truth = true_attributes([recorded_bird(split.records[e.row].parameters) for e in edits])
    column = np.array([PARTS.index(e.part) for e in edits])
    changed = after.colours[np.arange(len(edits)), column] == np.array([e.colour for e in edits])
    others = np.arange(len(PARTS)) != column[:, None]
    return Editing(
        pictures=len(edits),
        changed=float(changed.mean()),
        parts={part: float(changed[column == i].mean()) for i, part in enumerate(PARTS) if (column == i).any()},
        others_kept=float((after.colours == before.colours)[others].mean()),
        kept=after.scene_agreement(before),
        other_photos=before.scene_agreement(before.rolled(1)),
        reconstruction={"colours": float((before.colours == truth.colours).mean()), **before.scene_agreement(truth)},
    )


def edit_sheet(pipe: StackGANPipeline, split: PreparedSplit, count: int = 12, seed: int = 0) -> Image.Image:
    """The split's first ``count`` images: the photo, its reconstruction and the edit, with the new caption below."""
    rows = []
    for edit in recolourings(split, count, seed):
        photo = Image.fromarray(split.images[edit.row])
        images = pipe.edit(photo, edit.caption, [edit.caption, edit.new_caption]).images
        middle = to_pil(to_tensor(photo, pipe.sizes[-1])[None])
        rows.append((f"{edit.part} now {edit.colour}: {edit.new_caption}", [*middle, *images]))
    return caption_sheet(rows, columns=3)


def _tensors(images: Sequence[Image.Image]) -> Tensor:
    whole = centre_crops(np.stack([np.asarray(image) for image in images]), images[0].width)
    return F.interpolate(whole, (SIDE, SIDE), mode="area")
