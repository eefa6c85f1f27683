"""Outputs of a training run: sample sheets, short evaluations, the checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stackgan.captions.word_statistics import CaptionStatistics, measure_captions
from stackgan.checkpoint import save_checkpoint
from stackgan.config import Config
from stackgan.config.facts import CheckpointFacts, DataFacts, MeasuredFacts, TrainingFacts
from stackgan.config.model_card import model_card
from stackgan.data.kinds import KINDS
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.features import FeatureNetwork
from stackgan.evaluation.quick import quick_figures
from stackgan.images.grid import caption_sheet
from stackgan.images.pixels import centre_crops, to_pil
from stackgan.io.files import atomic_file
from stackgan.io.json_reader import NEW_LINE, Fields, MapOf, check_json, parse_json
from stackgan.model import StackGAN
from stackgan.pipeline import StackGANPipeline
from stackgan.text.base import TextEncoder
from stackgan.text.load import stored_embeddings
from stackgan.training.log import EVALUATION, LOG
from stackgan.training.state import Run
from stackgan.training.warm_start import InitialisationSource

__all__ = ["CheckpointWriter", "Evaluator", "SampleSheet"]

SAMPLE_CAPTIONS, SAMPLE_SEEDS = 12, 4
SAMPLE_PHOTOS = SAMPLE_SEEDS  # per row of a sheet


class SampleSheet:
    """Images of fixed captions and seeds from the EMA generator, written to RUN/samples/<images>.png.

    With a posterior, also photos, their reconstructions, and reconstructions with another photo's caption.
    """

    def __init__(self, folder: Path, prepared: PreparedFolder, encoder: TextEncoder | None, config: Config) -> None:
        self.folder, self.encoder = folder, encoder
        split = prepared.splits.get("test") or prepared.splits["train"]
        rows = np.linspace(0, len(split) - 1, SAMPLE_CAPTIONS).astype(int)
        self.photos = centre_crops(split.images[rows[:SAMPLE_PHOTOS]], config.tree.sizes[-1])
        self.captions: list[str] = []
        self.embeddings: Tensor | None = None
        if config.text.conditional:
            places = split.offsets[rows]
            self.captions = [split.captions[place] for place in places]
            if encoder is not None:
                self.embeddings = encoder.encode(self.captions)
            else:
                self.embeddings = torch.from_numpy(np.array(stored_embeddings(split, config.text.encoder)[places]))

    def __call__(self, run: Run) -> Path:
        seeds = range(SAMPLE_SEEDS)
        pipe = StackGANPipeline(run.ema, None)
        rows: list[tuple[str, Sequence[Any]]] = []
        if self.embeddings is None:
            rows = [(f"seeds {s}–{s + 3}", pipe(seeds=range(s, s + 4)).images) for s in range(0, 48, 4)]
        else:
            for caption, e in zip(self.captions, self.embeddings, strict=True):
                rows.append((caption, pipe(embeddings=e[None], seeds=seeds).images))
        if run.ema.posterior is not None:
            rows += self._photo_rows(run.ema)
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{run.progress.images:010d}.png"
        with atomic_file(file, ".png") as partial:
            caption_sheet(rows, side=min(run.config.tree.sizes[-1], 128)).save(partial)
        return file

    @torch.inference_mode()
    def _photo_rows(self, model: StackGAN) -> list[tuple[str, Sequence[Any]]]:
        x = self.photos.to(next(model.parameters()).device)
        c = model.no_code(len(x))
        if self.embeddings is not None:
            c = model.condition(self.embeddings[: len(x)].to(x.device)).mu
        assert model.posterior is not None
        z = model.posterior(x, c).mode
        shown = [("photos", x), ("reconstructions", model.generator(z, c)[-1])]
        if self.embeddings is not None:
            shown.append(("with the caption of the previous photo", model.generator(z, c.roll(1, 0))[-1]))
        return [(label, to_pil(images)) for label, images in shown]


class Evaluator:
    """Short evaluation of the EMA generator during training.

    Args:
        network: of eval.features; None for plain image statistics.

    Attributes:
        split: the test split or, if it has fewer than two photos, the train split; None if that has too few as well.
    """

    def __init__(
        self, prepared: PreparedFolder, encoder: TextEncoder | None, config: Config, network: FeatureNetwork | None
    ) -> None:
        self.encoder, self.config = encoder, config
        splits = [prepared.splits[name] for name in ("test", "train") if name in prepared.splits]
        self.split = next((split for split in splits if len(split) > 1), None)
        self.network = network

    def __call__(self, run: Run) -> tuple[dict[str, float], bool]:
        """The metrics, and whether the distance is the lowest so far, which is stored in ``run.progress``.

        Raises:
            ValueError: the data have too few photos.
        """
        if self.split is None:
            raise ValueError("eval.every needs two or more photos in a split of the data: use eval.every=0")
        pipe = StackGANPipeline(run.ema, self.encoder)
        figures = quick_figures(pipe, self.split, self.network, self.config.eval.count, self.config.train.seed)
        distance = figures["kernel_distance" if self.network is not None else "pyramid_distance"]
        best = distance < run.progress.best
        run.progress.best = min(distance, run.progress.best)
        return figures, best


class CheckpointWriter:
    """Writes the EMA generator as the checkpoint RUN/checkpoint, with a model card."""

    def __init__(
        self, folder: Path, prepared: PreparedFolder, encoder: TextEncoder | None, start: InitialisationSource | None
    ) -> None:
        self.folder, self.prepared, self.encoder, self.start = folder, prepared, encoder, start

    @cached_property
    def statistics(self) -> CaptionStatistics | None:
        """Of the training captions; None for unconditional training, and for too few captions."""
        return measure_captions(self.prepared.train.captions)

    def __call__(self, run: Run, folder: Path | None = None) -> None:
        split = self.prepared.train
        data = DataFacts(self.prepared.kind, self.prepared.identity, len(split), len(split.captions))
        measured = last_evaluation(self.folder.parent / LOG, run.progress.images)
        facts = CheckpointFacts(
            examples=tuple(self._examples(run.config)),
            data=data,
            trained=TrainingFacts(
                run.progress.step, run.progress.images, round(run.progress.seconds), run.device.type
            ),
            measured=() if measured is None else (measured,),
            started_from=None if self.start is None else self.start.trained,
        )
        save_checkpoint(
            folder or self.folder,
            run.config,
            run.ema.state_dict(),
            self.encoder,
            facts=facts,
            card=model_card(run.config, facts),
            statistics=self.statistics if run.config.text.conditional else None,
        )

    def _examples(self, config: Config) -> list[str]:
        if not config.text.conditional or self.encoder is None:
            return []
        if examples := KINDS[self.prepared.kind].examples:
            return list(examples)
        split = self.prepared.splits.get("test") or self.prepared.splits["train"]
        return [split.captions[split.offsets[i]] for i in np.linspace(0, len(split) - 1, 6).astype(int)]


LOG_LINE = Fields({"images": int})


def last_evaluation(log: Path, images: int) -> MeasuredFacts | None:
    """The figures of the last evaluation in a run's log, up to ``images`` training images; None if there is none."""
    found = []
    for text in NEW_LINE.split(log.read_bytes()) if log.is_file() else []:
        with contextlib.suppress(ValueError):  # a line that an interruption cut
            line = parse_json(text, str(log), LOG_LINE)
            if line["images"] <= images and any(name.startswith(EVALUATION) for name in line):
                found.append(line)
    if not found:
        return None
    figures = {key: value for key, value in found[-1].items() if key.startswith(EVALUATION)}
    check_json(figures, str(log), MapOf(float))
    return MeasuredFacts(
        f"Measured during training, after {found[-1]['images']:,} images (`eval.count` images of test captions, "
        "truncation 1; only comparable within one data set):",
        {key.removeprefix(EVALUATION).replace("_", " "): f"{value:.3f}" for key, value in figures.items()},
    )
