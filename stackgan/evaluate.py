"""Measure a checkpoint. On painted birds, whose truth is known: are the colours that a caption names on the bird?"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.painted import caption_colours, held_out_combinations
from stackgan.checkpoint import write_atomic
from stackgan.pipeline import StackGANPipeline
from stackgan.prepared import PreparedFolder, PreparedSplit
from stackgan.reader import PARTS, SIDE, PaintedReader, centre_crops, load_or_train_reader

__all__ = ["ColourAgreement", "colour_agreement", "evaluate", "full_captions"]


@dataclass(frozen=True)
class ColourAgreement:
    """Shares (0–1) of named colours that the reader finds on the pictures.

    ``named``: of all named colours of crown, breast and wing; ``all_three``: of pictures with all three right;
    ``held_out``: of the colours that make up a combination of two parts that training never showed; ``parts``: one
    share a part.
    """

    pictures: int
    named: float
    all_three: float
    held_out: float | None
    parts: dict[str, float]


def colour_agreement(found: NDArray[np.str_], named: NDArray[np.str_]) -> ColourAgreement:
    """Compare colours read (N, 3) with colours named (N, 3), columns crown, breast, wing.

    >>> a = colour_agreement(np.array([["red", "white", "black"]]), np.array([["red", "blue", "black"]]))
    >>> round(a.named, 3), a.all_three, a.parts["breast"]
    (0.667, 0.0, 0.0)
    """
    if found.shape != named.shape or found.ndim != 2 or found.shape[1] != len(PARTS) or not len(found):
        raise ValueError(f"colours read {found.shape} and named {named.shape} must both be (N, {len(PARTS)}), N > 0")
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


def full_captions(split: PreparedSplit, count: int) -> tuple[list[str], NDArray[np.str_]]:
    """``count`` captions that name crown, breast and wing, one a bird in order, and the colours named (count, 3).

    Raises:
        ValueError: the split has fewer such captions.
    """
    captions: list[str] = []
    colours: list[list[str]] = []
    for turn in range(max(len(record.captions) for record in split.records)):
        for record in split.records:
            full = [c for c in record.captions if len(caption_colours(c)) == len(PARTS)]
            if turn < len(full) and len(captions) < count:
                captions.append(full[turn])
                named = caption_colours(full[turn])
                colours.append([named[part] for part in PARTS])
    if len(captions) < count:
        raise ValueError(
            f"{split.path}: {len(captions)} captions name crown, breast and wing; --num asks for {count}"
        )
    return captions, np.array(colours)


def evaluate(
    checkpoint: Path,
    data: Path,
    *,
    split: str = "test",
    count: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    device: str | None = None,
) -> int:
    """Paint ``count`` captions of the split, read the birds' colours, print and store the figures.

    Raises:
        ValueError: not a folder of painted birds, no such split, fewer captions than asked for.
    """
    prepared = PreparedFolder.open(data)
    if prepared.kind != "painted":
        raise ValueError(f"{data}: is a {prepared.kind} folder; colours by part are known for painted birds only")
    if split not in prepared.splits:
        raise ValueError(f"{data}: has no split {split!r}; it has {', '.join(prepared.splits)}")
    if count < 2:
        raise ValueError(f"--num {count}: it must be 2 or more")
    captions, named = full_captions(prepared.splits[split], count)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    reader = load_or_train_reader(prepared.path / "reader.safetensors")

    painted = []
    for start in tqdm(range(0, count, 50), desc="painting", unit="batch"):
        part = captions[start : start + 50]
        with torch.inference_mode():
            images = pipe.paint(pipe.encode(part), range(seed + start, seed + start + len(part)))[-1]
        painted.append(F.interpolate(images.float(), (SIDE, SIDE), mode="area").cpu())
    found = reader.read(torch.cat(painted))
    result = {
        "checkpoint": pipe.fingerprint,
        "data": prepared.identity,
        "split": split,
        "seed": seed,
        "reader_on_real": asdict(read_real(reader, prepared.splits[split])),
        "generated": asdict(colour_agreement(found, named)),
        "shuffled_control": asdict(colour_agreement(found, np.roll(named, 1, axis=0))),
        "chance": chance(named),
    }
    text = json.dumps(result, indent=2) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, text.encode())
    print(text, end="")
    return 0


def read_real(reader: PaintedReader, split: PreparedSplit) -> ColourAgreement:
    """How well the reader reads the split's own pictures, whose colours are known."""
    truth = np.array([[_colour(record.parameters, part) for part in PARTS] for record in split.records])
    return colour_agreement(reader.read(centre_crops(split.images)), truth)


def _colour(parameters: dict[str, object] | None, part: str) -> str:
    value = (parameters or {}).get(part)
    if not isinstance(value, dict) or "colour" not in value:
        raise ValueError(f"a painted record has no colour of its {part}; prepare the folder again")
    return str(value["colour"])


def chance(named: NDArray[np.str_]) -> float:
    """The share of agreement expected between two independent rows: the sum over colours of squared frequency."""
    total = 0.0
    for column in named.T:
        _, counts = np.unique(column, return_counts=True)
        total += float(((counts / len(column)) ** 2).sum())
    return total / named.shape[1]
