"""Measure a checkpoint: colours named and found (painted birds), distances to real pictures, latent modules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data_prep.painted import caption_colours, held_out_combinations, painting_of
from stackgan.checkpoint import write_atomic
from stackgan.data import centre_crops
from stackgan.edit_figures import edit_sheet, editing
from stackgan.features import Features, load_features
from stackgan.latent_figures import diversity, posterior_figures, real_pictures, seconds_to_sample, text_free
from stackgan.metrics import area_under_curve, kernel_distance
from stackgan.pipeline import StackGANPipeline
from stackgan.prepared import PreparedFolder, PreparedSplit
from stackgan.reader import PARTS, SIDE, PaintedReader, load_or_train_reader, true_reading

__all__ = ["ColourAgreement", "colour_agreement", "evaluate", "full_captions"]

DIVERSITY_CAPTIONS = 40
REAL_LEAST = 1000  # real pictures that distances are taken to, where there are as many


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
    features: Path | None = None,
    unlike: Path | None = None,
    out: Path | None = None,
    device: str | None = None,
) -> int:
    """Paint ``count`` captions of the split, measure, print and store the figures.

    Painted birds, whose truth is known: the shares of named colours found, and what becomes of photos whose caption
    has one colour word changed. With a feature network: kernel distances to the split's pictures. Always: diversity,
    seconds to sample, and what the latent modules do.

    Args:
        features: folder of a feature network (:func:`stackgan.features.load_features`).
        unlike: a text file of sentences that are no captions, one a line: how well log p(c) tells captions from them.
        out: JSON file to write the figures to; a sheet of edited photos goes beside it as <name>-edits.png.

    Raises:
        ValueError: no such split, fewer captions than asked for, no flow p(c) to tell sentences apart with.
    """
    prepared = PreparedFolder.open(data)
    if split not in prepared.splits:
        raise ValueError(f"{data}: has no split {split!r}; it has {', '.join(prepared.splits)}")
    if count < 2:
        raise ValueError(f"--num {count}: it must be 2 or more")
    network = load_features(features) if features is not None else None
    part = prepared.splits[split]
    painted = prepared.kind == "painted"
    captions, named = full_captions(part, count) if painted else (first_captions(part, count), None)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    sentences = _sentences(unlike, pipe) if unlike is not None else []
    pictures = paint_all(pipe, captions, seed)
    real = real_pictures(part, max(count, REAL_LEAST), pipe.sizes[-1])

    result: dict[str, Any] = {
        "checkpoint": pipe.fingerprint,
        "data": prepared.identity,
        "split": split,
        "seed": seed,
        "pictures": count,
    }
    reader = load_or_train_reader(prepared.path / "reader.safetensors") if painted else None
    if reader is not None and named is not None:
        found = reader.read(F.interpolate(pictures, (SIDE, SIDE), mode="area")).colours
        result["reader_on_real"] = read_real(reader, part)
        result["generated"] = asdict(colour_agreement(found, named))
        result["shuffled_control"] = asdict(colour_agreement(found, np.roll(named, 1, axis=0)))
        result["chance"] = chance(named)
    if network is not None:
        result["distance"] = _distances(pipe, network, pictures, real)
    if sentences:
        result["captions_against_sentences"] = _told_apart(pipe, captions, sentences)
    result["diversity"] = diversity(pipe, captions[:DIVERSITY_CAPTIONS], real)
    result["seconds_to_sample_64"] = seconds_to_sample(pipe, captions[0])
    if pipe.model.posterior is not None:
        result["posterior"] = posterior_figures(pipe, part)
        if reader is not None and pipe.text_encoder is not None:
            result["editing"] = asdict(editing(pipe, reader, part, count, seed))
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                edit_sheet(pipe, part, seed=seed).save(out.with_name(f"{out.stem}-edits.png"))
    text = json.dumps(result, indent=2) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, text.encode())
    print(text, end="")
    return 0


def _told_apart(pipe: StackGANPipeline, captions: Sequence[str], sentences: Sequence[str]) -> dict[str, Any]:
    """Areas under the ROC curve of log p(c), and of log N(c; 0, I) for comparison."""
    with torch.inference_mode():
        inside, outside = (pipe.model.condition(pipe.encode(t).to(pipe.device)).mu for t in (captions, sentences))
        return {
            "captions": len(captions),
            "sentences": len(sentences),
            "area_under_curve": area_under_curve(*(pipe.model.codes(len(c)).log_prob(c) for c in (inside, outside))),
            "area_under_curve_standard_normal": area_under_curve(-(inside**2).sum(1), -(outside**2).sum(1)),
        }


def _sentences(file: Path, pipe: StackGANPipeline) -> list[str]:
    if not pipe.model.has_code_flow:
        raise ValueError("--unlike needs a checkpoint with a flow p(c): train with latent.c=flow, or use --fit-prior")
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8 text") from None
    if not any(lines):
        raise ValueError(f"{file}: holds no sentence")
    return [line for line in lines if line]


def first_captions(split: PreparedSplit, count: int) -> list[str]:
    """``count`` captions of the split: every picture's first, then every picture's second, …

    Raises:
        ValueError: the split has fewer.
    """
    if len(split.captions) < count:
        raise ValueError(f"{split.path}: {len(split.captions)} captions; --num asks for {count}")
    most = max(len(record.captions) for record in split.records)
    turns = (r.captions[turn] for turn in range(most) for r in split.records if turn < len(r.captions))
    return list(islice(turns, count))


@torch.inference_mode()
def paint_all(pipe: StackGANPipeline, captions: Sequence[str], seed: int) -> Tensor:
    """Pictures (N, 3, s, s) in [−1, 1] of all captions, with seeds seed, seed + 1, …"""
    painted = []
    for start in tqdm(range(0, len(captions), 50), desc="painting", unit="batch"):
        part = captions[start : start + 50]
        painted.append(pipe.paint(pipe.encode(part), range(seed + start, seed + start + len(part)))[-1].float().cpu())
    return torch.cat(painted)


def _distances(pipe: StackGANPipeline, network: Features, pictures: Tensor, real: Tensor) -> dict[str, Any]:
    """Kernel distances to real pictures: of the captions' pictures, and without text where p(c) is a flow."""
    truth = network(real)
    found: dict[str, Any] = {
        "features": network.name,
        "real_pictures": len(real),
        "captions": asdict(kernel_distance(network(pictures), truth)),
    }
    if pipe.model.has_code_flow:
        for name, plain in (("text_free", False), ("text_free_from_standard_normal", True)):
            found[name] = asdict(kernel_distance(network(text_free(pipe, len(pictures), plain=plain)), truth))
    return found


def read_real(reader: PaintedReader, split: PreparedSplit) -> dict[str, Any]:
    """How well the reader reads the split's own pictures, whose truth is known: colours, then the scene."""
    truth = true_reading([painting_of(record.parameters) for record in split.records])
    found = reader.read(centre_crops(split.images))
    return {**asdict(colour_agreement(found.colours, truth.colours)), **found.scene_like(truth)}


def chance(named: NDArray[np.str_]) -> float:
    """The share of agreement expected between two independent rows: the sum over colours of squared frequency."""
    total = 0.0
    for column in named.T:
        _, counts = np.unique(column, return_counts=True)
        total += float(((counts / len(column)) ** 2).sum())
    return total / named.shape[1]
