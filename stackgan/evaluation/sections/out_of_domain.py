"""Out-of-domain captions: detection of sentences that are not captions by log p(c)."""

from __future__ import annotations

from pathlib import Path

import torch

from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, NotMeasured, Table
from stackgan.evaluation.metrics import area_under_curve

__all__ = ["check", "section"]

CAPTIONS = 1000  # at most


def check(context: Context) -> None:
    """Raise ``ValueError`` for a file that cannot be read as sentences, or a checkpoint without a flow p(c)."""
    if context.settings.out_of_domain is None:
        return
    if not context.pipe.model.has_code_flow:
        raise ValueError(
            "--out-of-domain needs a checkpoint with a flow p(c): train with latent.c=flow, or use --fit-prior"
        )
    _sentences(context.settings.out_of_domain)


def section(context: Context) -> Findings:
    """Area under the ROC curve of log p(c) between captions and the given sentences."""
    if context.settings.out_of_domain is None:
        raise NotMeasured("pass --out-of-domain FILE with sentences that are not captions, one per line")
    context.require_text_encoder()
    pipe, sentences = context.pipe, _sentences(context.settings.out_of_domain)
    captions = context.captions()[:CAPTIONS]
    with torch.inference_mode():
        inside, outside = (pipe.model.condition(pipe.encode(t).to(pipe.device)).mu for t in (captions, sentences))
        figures = {
            "captions": len(captions),
            "sentences": len(sentences),
            "area_under_curve": area_under_curve(*(pipe.model.codes(len(c)).log_prob(c) for c in (inside, outside))),
            "area_under_curve_standard_normal": area_under_curve(-(inside**2).sum(1), -(outside**2).sum(1)),
        }
    rows = [
        ("log p(c)", f"{figures['area_under_curve']:.4f}"),
        ("log N(c; 0, I)", f"{figures['area_under_curve_standard_normal']:.4f}"),
    ]
    return Findings(
        figures=figures,
        protocol=f"Area under the ROC curve between {len(captions)} captions and {len(sentences)} sentences: the "
        "probability that a caption scores higher than a sentence.",
        tables=[Table(("", "area"), rows)],
    )


def _sentences(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8 text") from None
    if not any(lines):
        raise ValueError(f"{file}: contains no sentences")
    return [line for line in lines if line]
