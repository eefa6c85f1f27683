"""Context shared by the sections of a report: pipeline, splits, feature networks, image sets and cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_prep.painted import KIND as PAINTED
from stackgan.captions.lexicon import colours_named
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.attribute_classifier import AttributeClassifier, load_or_train_attribute_classifier
from stackgan.evaluation.cache import evaluation_cache
from stackgan.evaluation.caption_choice import caption_rows, full_caption_rows
from stackgan.evaluation.features import FeatureNetwork, FeatureSet, load_features, pyramid_features
from stackgan.evaluation.findings import NotMeasured
from stackgan.evaluation.image_sets import GeneratedImages, Photos, images_of_captions, images_without_text
from stackgan.evaluation.image_source import ImageSource, embeddings_of
from stackgan.evaluation.image_text_scorers import ClipScorer, ImageTextScorer, choose_scorers
from stackgan.evaluation.inception import load_inception
from stackgan.evaluation.settings import EvaluationSettings
from stackgan.pipeline import StackGANPipeline
from stackgan.runtime.device import chosen_device

__all__ = ["Context", "open_context"]


@dataclass(frozen=True, eq=False)
class Context:
    """Shared objects of one evaluation; expensive ones are created at first use.

    Attributes:
        networks: feature networks in which distances are measured, the preferred one first.
        out: the report's folder.
    """

    pipe: StackGANPipeline
    prepared: PreparedFolder
    networks: Sequence[FeatureNetwork]
    out: Path
    settings: EvaluationSettings

    @property
    def split(self) -> PreparedSplit:
        """The evaluated split: images are generated for its captions and compared with its photos."""
        return self.prepared.splits[self.settings.split]

    @property
    def side(self) -> int:
        return self.pipe.sizes[-1]

    @property
    def count(self) -> int:
        """Number of images generated for captions."""
        return self.settings.count

    @property
    def cache(self) -> Path:
        return self.out / "cache"

    # --- images ---

    @cached_property
    def source(self) -> ImageSource:
        """The pipeline with the truncation of the evaluation."""
        return ImageSource(self.pipe, self.settings.truncation)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows in ``split.captions`` of the captions of the generated images."""
        if not self.pipe.conditional:
            return np.zeros(self.count, np.int64)
        if self.prepared.kind == PAINTED:
            return full_caption_rows(self.split, self.count)[0]
        return caption_rows(self.split, self.count)

    @cached_property
    def generated(self) -> GeneratedImages:
        """One image per caption in ``rows``, with seeds seed, seed + 1, …"""
        return images_of_captions(self.source, self.split, self.rows.tolist(), self.settings.seed, self.cache)

    @cached_property
    def without_text(self) -> dict[str, GeneratedImages]:
        """The same number of images without text, from p(c) and from N(0, I), by name; empty without a flow p(c)."""
        if not self.pipe.model.has_code_flow:
            return {}
        sets = [
            images_without_text(self.source, self.count, self.settings.seed, self.cache, standard_normal=normal)
            for normal in (False, True)
        ]
        return {images.name: images for images in sets}

    @cached_property
    def reference(self) -> Photos:
        return Photos(self.split, self.side)

    @cached_property
    def train(self) -> Photos | None:
        split = self.prepared.splits.get("train")
        return Photos(split, self.side) if split is not None else None

    @cached_property
    def held_out(self) -> Photos | None:
        """Photos that were not trained on: those of the split, or of another split if it is the training split."""
        if self.split.name != "train":
            return self.reference
        others = [split for name, split in self.prepared.splits.items() if name != "train"]
        return Photos(others[0], self.side) if others else None

    def reference_features(self, network: FeatureNetwork) -> FeatureSet:
        """Features of the reference photos, with those of their mirror images if they count as reference too."""
        mirrored = (False, True) if self.settings.flip_reference else (False,)
        return FeatureSet.join([self.reference.features(network, flip) for flip in mirrored])

    # --- captions ---

    def captions(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> list[str]:
        """The captions of the generated images, or those at ``rows``."""
        return [self.split.captions[int(row)] for row in (self.rows if rows is None else rows)]

    def labels(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Labels of images for the captions at ``rows``: the captions, or with hide_captions the colours in them."""
        captions = self.captions(rows)
        if not self.settings.hide_captions:
            return captions
        return [", ".join(colours_named(caption)) or "no colour" for caption in captions]

    def embeddings(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Embeddings (B, T) of the captions at ``rows``; None for a checkpoint without text."""
        return embeddings_of(self.pipe, self.split, rows.tolist())

    def require_text_encoder(self) -> None:
        """Raise :class:`NotMeasured` unless captions can be encoded."""
        if not self.pipe.conditional:
            raise NotMeasured("the checkpoint was trained without text")
        if self.pipe.text_encoder is None:
            raise NotMeasured("the checkpoint has no text encoder")

    def require_posterior(self) -> None:
        """Raise :class:`NotMeasured` unless photos can be encoded."""
        if self.pipe.model.posterior is None:
            raise NotMeasured(f"the checkpoint has no posterior (latent.z={self.pipe.config.latent.z})")

    # --- networks for evaluation ---

    @cached_property
    def attribute_classifier(self) -> AttributeClassifier | None:
        """Attribute classifier for painted birds; None for other images, whose true attributes are unknown."""
        if self.prepared.kind != PAINTED:
            return None
        folder = evaluation_cache(self.prepared.path)
        return load_or_train_attribute_classifier(folder / "attribute-classifier.safetensors")

    @cached_property
    def clip(self) -> ClipScorer | None:
        name = self.settings.clip
        return ClipScorer(name, self.pipe.device) if name is not None and self.pipe.conditional else None

    @cached_property
    def scorers(self) -> Mapping[str, ImageTextScorer]:
        """Image–text scorers by name; empty without text, or without a scorer and a split to train one on."""
        given = self.settings.scorer
        if not self.pipe.conditional or (given is None and "train" not in self.prepared.splits):
            return {}
        return choose_scorers(self.pipe, self.prepared, scorer=given, clip=self.clip)


def open_context(checkpoint: str | Path, data: Path, out: Path, settings: EvaluationSettings) -> Context:
    """Open checkpoint and data, and check that they are compatible; nothing is generated yet.

    Raises:
        ValueError: the split does not exist, its size is not the checkpoint's, or ``out`` is a file.
        FileNotFoundError: the checkpoint or the data do not exist, or weights are missing and cannot be downloaded.
    """
    prepared = PreparedFolder.open(data)
    if settings.split not in prepared.splits:
        raise ValueError(f"{data}: has no split {settings.split!r}; it has {', '.join(prepared.splits)}")
    if out.suffix == ".json" or out.is_file():
        raise ValueError(f"--out {out}: the report is a folder (report.json, report.html and sheets): name one")
    device = chosen_device(settings.device)
    networks = []
    if settings.features is not None:
        networks.append(load_features(settings.features, device, trust_remote_code=settings.trust_remote_code))
    networks += [load_inception(settings.inception, device)] if settings.inception is not None else []
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    if prepared.size != pipe.sizes[-1]:
        raise ValueError(
            f"{data}: prepared for {prepared.size} px, the checkpoint generates {pipe.sizes[-1]} px; "
            f"prepare with --size {pipe.sizes[-1]}"
        )
    return Context(pipe, prepared, networks or [pyramid_features(device)], out, settings)
