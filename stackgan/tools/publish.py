"""Publication of a checkpoint: half precision, a recommended truncation, optional discriminators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from stackgan.captions.file import read_captions
from stackgan.captions.word_statistics import measure_captions
from stackgan.checkpoint import (
    CAPTION_STATISTICS,
    CARD,
    DISCRIMINATORS,
    REALISM,
    check_replaceable,
    load_checkpoint,
    push_checkpoint,
    save_checkpoint,
    stored_discriminators,
)
from stackgan.config.model_card import model_card, with_measured
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.report import read_measured
from stackgan.latent.sampling import check_sampling
from stackgan.text.load import load_text_encoder
from stackgan.training.warm_start import open_initialisation_source

__all__ = ["publish"]

WRITTEN = (
    CARD,
    "config.json",
    "model.safetensors",
    DISCRIMINATORS,
    CAPTION_STATISTICS,
    REALISM,
    "text",
)  # replaced if they exist


def publish(
    checkpoint: str | Path,
    out: Path,
    *,
    half: bool = True,
    truncation: float | None = None,
    captions: Path | None = None,
    discriminators: Path | None = None,
    data: Path | None = None,
    report: Path | None = None,
    push: str | None = None,
) -> int:
    """Write ``checkpoint`` to ``out`` for distribution; returns the size of ``out`` in bytes.

    Other files in ``out``, such as a model card and its images, are kept; if there is no card, the checkpoint's is
    copied.

    Args:
        half: store weights as float16, which changes images by less than one level of 255 on average.
        truncation: recommended, and so the default of command line and app; None keeps the checkpoint's own.
        captions: a file of example captions (:mod:`stackgan.captions.file`), which the app offers.
        discriminators: run whose discriminators to include, for ``stackgan train --start-from OUT``.
        data: prepared folder with the training captions, for warnings of out-of-domain captions; None keeps the
            statistics that the checkpoint has.
        report: of ``stackgan evaluate`` on this checkpoint, whose headline figures the card gets.
        push: hub repository ``user/name`` to upload ``out`` to.

    Raises:
        FileNotFoundError: checkpoint, captions, run or report do not exist.
        FileExistsError: ``out`` is not a checkpoint.
        ValueError: a file cannot be read, the truncation is outside [0, 2], the run has no matching
            discriminators, the report is about another checkpoint, or the upload failed.
    """
    source = load_checkpoint(checkpoint)
    check_replaceable(out)
    check_sampling([0], truncation)
    facts = source.facts
    if truncation is not None:
        facts = replace(facts, truncation=truncation)
    if captions is not None:
        facts = replace(facts, examples=tuple(line.caption for line in read_captions(captions)))
        if not facts.examples:
            raise ValueError(f"{captions}: holds no captions: write one per line")
    if report is not None:
        facts = replace(facts, measured=(*facts.measured, read_measured(report, source.fingerprint)))
    found = stored_discriminators(source.folder)
    if discriminators is not None:
        run = open_initialisation_source(discriminators)
        if run.discriminators is None:
            raise ValueError(f"{discriminators}: holds no discriminators; name the run folder, with its state.pt")
        if (run.config.tree, run.config.discriminator) != (source.config.tree, source.config.discriminator):
            raise ValueError(f"{discriminators}: its discriminators do not match the configuration of {checkpoint}")
        found = dict(run.discriminators)
    statistics = source.statistics if data is None else measure_captions(PreparedFolder.open(data).train.captions)
    encoder = None
    if source.text_folder is not None:
        encoder = load_text_encoder(str(source.text_folder), source.config.text.pooling)
    keep = sorted(file.name for file in out.iterdir()) if out.is_dir() else []
    own = out / CARD
    card = own.read_text("utf-8") if own.is_file() else source.card
    save_checkpoint(
        out,
        source.config,
        source.weights,
        encoder,
        facts=facts,
        card=with_measured(card, facts, append=report is not None) if card else model_card(source.config, facts),
        dtype=torch.float16 if half else torch.float32,
        discriminators=found,
        statistics=statistics,
        realism=source.realism,
        images=[] if own.is_file() else [image for image in source.card_images if image.name not in keep],
        keep=[name for name in keep if name not in WRITTEN],
    )
    if push is not None:
        push_checkpoint(out, source.config, push, message="Upload a checkpoint by stackgan publish")
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
