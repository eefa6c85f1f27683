"""Speed: seconds to generate 64 images from embeddings."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from stackgan.evaluation.context import Context
from stackgan.evaluation.findings import Findings, Table
from stackgan.pipeline import StackGANPipeline

__all__ = ["seconds_to_sample", "section"]

IMAGES, REPEATS = 64, 3


def section(context: Context) -> Findings:
    """Seconds to generate 64 images of one caption, all stages."""
    seconds = seconds_to_sample(context.pipe, context.embeddings(context.rows[:1]))
    return Findings(
        figures={"seconds_to_sample_64": seconds, "device": context.pipe.device.type},
        protocol=f"Median of {REPEATS}: {IMAGES} images in one batch, embeddings given, on "
        f"{context.pipe.device.type}, threads: {torch.get_num_threads()}. The only metric that is not reproducible.",
        tables=[Table(("", "seconds"), [(f"{IMAGES} images", f"{seconds:.3f}")])],
    )


def seconds_to_sample(pipe: StackGANPipeline, embedding: Tensor | None) -> float:
    """Median seconds to generate 64 images of one embedding (1, T), or without text, in one batch."""
    e = embedding.expand(IMAGES, -1) if embedding is not None else None
    times = []
    with torch.inference_mode():
        pipe.generate(e, range(IMAGES))
        for _ in range(REPEATS):
            start = time.perf_counter()
            pipe.generate(e, range(IMAGES))
            if pipe.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return float(np.median(times))
