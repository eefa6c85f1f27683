"""How well photos are edited, where the truth is known: painted birds, one colour word of the caption changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data_prep.painted import COLOURS, caption_colours, painting_of, recoloured
from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.attribute_classifier import PARTS, SIDE, PaintedReader, true_reading
from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import centre_crops, to_pil, to_tensor
from stackgan.pipeline import StackGANPipeline

__all__ = ["Editing", "Recolouring", "edit_sheet", "editing", "recolourings"]

BATCH = 50


@dataclass(frozen=True)
class Recolouring:
    """One edit: picture ``row`` of a split, its caption, and the caption that gives ``part`` another ``colour``."""

    row: int
    caption: str
    new_caption: str
    part: str
    colour: str


@dataclass(frozen=True)
class Editing:
    """What became of photos whose caption had one colour word changed. Shares are 0–1.

    Attributes:
        pictures: how many.
        changed: share whose named part is read in the new colour; ``parts``: the same for each part.
        others_kept: share of the other two parts' colours read as in the reconstruction.
        kept: edit against reconstruction of the same photo (:meth:`Reading.scene_like`).
        other_photos: reconstructions against those of other photos, for comparison: what no link at all would give.
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
    """One edit for each of the split's first ``count`` pictures; crown, breast and wing take turns.

    Raises:
        ValueError: a picture has no caption that names all three parts and can be changed so.
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
    raise ValueError(f"picture {row + 1}: no caption names crown, breast and wing with a word for each")


def editing(
    pipe: StackGANPipeline, reader: PaintedReader, split: PreparedSplit, count: int, seed: int = 0
) -> Editing:
    """Edit ``count`` pictures of a painted split and read what came of it.

    Raises:
        ValueError: a checkpoint without a posterior, a split without the birds' parameters.
    """
    edits = recolourings(split, count, seed)
    rebuilt, edited = [], []
    for start in range(0, len(edits), BATCH):
        part = edits[start : start + BATCH]
        photos = [Image.fromarray(split.images[e.row]) for e in part]
        old, new = [e.caption for e in part], [e.new_caption for e in part]
        rebuilt.append(_tensors(pipe.reconstruct(photos, old).images))
        edited.append(_tensors(pipe.edit(photos, old, new).images))
    before, after = reader.read(torch.cat(rebuilt)), reader.read(torch.cat(edited))
    truth = true_reading([painting_of(split.records[e.row].parameters) for e in edits])
    column = np.array([PARTS.index(e.part) for e in edits])
    changed = after.colours[np.arange(len(edits)), column] == np.array([e.colour for e in edits])
    others = np.arange(len(PARTS)) != column[:, None]
    return Editing(
        pictures=len(edits),
        changed=float(changed.mean()),
        parts={part: float(changed[column == i].mean()) for i, part in enumerate(PARTS) if (column == i).any()},
        others_kept=float((after.colours == before.colours)[others].mean()),
        kept=after.scene_like(before),
        other_photos=before.scene_like(before.rolled(1)),
        reconstruction={"colours": float((before.colours == truth.colours).mean()), **before.scene_like(truth)},
    )


def edit_sheet(pipe: StackGANPipeline, split: PreparedSplit, count: int = 12, seed: int = 0) -> Image.Image:
    """The split's first ``count`` pictures: the photo, its reconstruction, the edit; the new caption under them."""
    rows = []
    for edit in recolourings(split, count, seed):
        photo = Image.fromarray(split.images[edit.row])
        pictures = pipe.edit(photo, edit.caption, [edit.caption, edit.new_caption]).images
        middle = to_pil(to_tensor(photo, pipe.sizes[-1])[None])
        rows.append((f"{edit.part} now {edit.colour}: {edit.new_caption}", [*middle, *pictures]))
    return caption_sheet(rows, columns=3)


def _tensors(images: Sequence[Image.Image]) -> Tensor:
    whole = centre_crops(np.stack([np.asarray(image) for image in images]), images[0].width)
    return F.interpolate(whole, (SIDE, SIDE), mode="area")
