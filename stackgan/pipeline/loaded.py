"""A loaded checkpoint: its parts, its files, and one batch from embeddings and seeds to images as tensors."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from stackgan.captions.word_statistics import CaptionStatistics
from stackgan.checkpoint import Checkpoint, load_checkpoint, push_checkpoint, save_checkpoint
from stackgan.config import Config
from stackgan.config.facts import CheckpointFacts
from stackgan.config.model_card import model_card, with_measured
from stackgan.io.checkpoint_names import checkpoint_title
from stackgan.io.weights import compare_weights, sized_for
from stackgan.latent.sampling import base_noise, check_sampling, slerp
from stackgan.model import StackGAN
from stackgan.networks.fast_generator import FastGenerator
from stackgan.networks.realism import RealismNetwork
from stackgan.pipeline.inputs import check_captions
from stackgan.runtime.device import chosen_device
from stackgan.runtime.threads import one_thread
from stackgan.text.base import CaptionWarning, TextEncoder
from stackgan.text.compact import CompactEncoder
from stackgan.text.load import load_text_encoder

__all__ = ["PRECISIONS", "LoadedCheckpoint"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LoadedCheckpoint:
    """The part of :class:`~stackgan.pipeline.pipeline.StackGANPipeline` below captions and PIL images."""

    def __init__(
        self,
        model: StackGAN,
        text_encoder: TextEncoder | None,
        *,
        facts: CheckpointFacts | None = None,
        statistics: CaptionStatistics | None = None,
        realism: RealismNetwork | None = None,
        fingerprint: str = "",
        name: str = "",
        card: str = "",
        card_images: Sequence[Path] = (),
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown: it must be {' or '.join(PRECISIONS)}")
        self.precision, self.compiled = precision, compiled
        self.model = model.eval().requires_grad_(False)
        self.config: Config = model.config
        self.text_encoder = text_encoder
        self.facts = facts or CheckpointFacts()
        self.statistics = statistics
        self.realism = realism
        self.fingerprint, self.name = fingerprint, name
        self.card, self.card_images = card, tuple(card_images)
        self.sizes = self.config.tree.sizes

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: str = "fp32",
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> Self:
        """Load a checkpoint.

        Args:
            name: a folder, the name of a bundled checkpoint, or a hub repository ``user/name``, in this order
                (:func:`stackgan.io.checkpoint_names.find_checkpoint`). Only safetensors, JSON and text files are
                downloaded; no code is executed.
            revision: branch, tag or commit of a hub repository.
            dtype: of the generator, ``torch.float32`` or ``torch.bfloat16``, in place of ``precision``.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: another format, damaged files, or an unknown device or precision.
        """
        precision = precision if dtype is None else _precision_of(dtype)
        checkpoint = load_checkpoint(name, revision)
        with sized_for(checkpoint.weights.values(), checkpoint.folder / "config.json"):
            model = StackGAN(checkpoint.config)
        _load_weights(model, checkpoint)
        encoder = None
        if checkpoint.text_folder is not None:
            encoder = load_text_encoder(str(checkpoint.text_folder), checkpoint.config.text.pooling)
            if encoder.dim != checkpoint.config.text.dim:
                raise ValueError(
                    f"{checkpoint.text_folder}: encodes to {encoder.dim} dimensions, the model takes "
                    f"{checkpoint.config.text.dim}; the folder's parts are from different models"
                )
        model_device = chosen_device(device)
        model.to(model_device)
        return cls(
            model,
            encoder,
            facts=checkpoint.facts,
            statistics=checkpoint.statistics,
            realism=checkpoint.realism.to(model_device) if checkpoint.realism is not None else None,
            fingerprint=checkpoint.fingerprint,
            name=checkpoint_title(name),
            card=checkpoint.card,
            card_images=checkpoint.card_images,
            precision=precision,
            compiled=compiled,
        )

    def save_pretrained(
        self, folder: str | Path, *, dtype: torch.dtype = torch.float32, card: str | None = None
    ) -> None:
        """Write this pipeline as a checkpoint, which :meth:`from_pretrained` loads.

        Args:
            dtype: of the stored weights.
            card: text of its README.md; None for the card of the checkpoint that was loaded, or a new one. Its
                section "Measured", if it has one, gets the figures of ``facts.measured``.

        Raises:
            FileExistsError: the folder exists and is not a checkpoint.
        """
        text = self.card if card is None else card
        save_checkpoint(
            Path(folder),
            self.config,
            self.model.state_dict(),
            self.text_encoder,
            facts=self.facts,
            card=with_measured(text, self.facts) if text else model_card(self.config, self.facts),
            dtype=dtype,
            statistics=self.statistics,
            realism=self.realism,
            images=self.card_images if card is None else (),
        )

    def push_to_hub(
        self,
        repository: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        message: str = "Upload a checkpoint of stackgan",
        token: str | None = None,
        dtype: torch.dtype = torch.float16,
        card: str | None = None,
    ) -> str:
        """Upload this pipeline as a checkpoint to the hub, for ``from_pretrained(repository)``; returns its address.

        Args:
            repository: ``user/name``; created if it does not exist.
            revision: branch, created if it does not exist; None for ``main``.
            private: visibility of a new repository; None for the account's default.
            message: of the commit.
            token: with write access; None for the one of ``hf auth login``.
            dtype, card: see :meth:`save_pretrained`; the hub's metadata are added to a card without them.

        Raises:
            ValueError: no network, no write access, or an invalid name.
        """
        with tempfile.TemporaryDirectory(prefix="stackgan-push-") as folder:
            checkpoint = Path(folder) / "checkpoint"
            self.save_pretrained(checkpoint, dtype=dtype, card=card)
            return push_checkpoint(
                checkpoint, self.config, repository, revision=revision, private=private, message=message, token=token
            )

    def __repr__(self) -> str:
        sizes = " → ".join(map(str, self.sizes))
        encoder = type(self.text_encoder).__name__ if self.text_encoder is not None else "none"
        return (
            f"StackGANPipeline(stages={sizes} px, preset={self.config.preset}, text={encoder}, "
            f"device={self.device}, precision={self.precision})"
        )

    def to(self, device: str | torch.device) -> Self:
        """Move the model and its text encoder to ``device``; returns the pipeline.

        Raises:
            ValueError: there is no such device.
        """
        where = chosen_device(device)
        self.model.to(where)
        if self.text_encoder is not None:
            self.text_encoder.to(where)
        if self.realism is not None:
            self.realism.to(where)
        self.__dict__.pop("generator", None)  # its fast form is made anew there
        return self

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def conditional(self) -> bool:
        return self.config.text.conditional

    @property
    def examples(self) -> list[str]:
        """Example captions of the checkpoint."""
        return list(self.facts.examples)

    @property
    def truncation(self) -> float:
        """Truncation recommended by the checkpoint; 1 (no truncation) if it has no recommendation."""
        return 1.0 if self.facts.truncation is None else self.facts.truncation

    @cached_property
    def generator(self) -> Callable[..., list[Tensor]]:
        """The generator in its fast form: ``generator(z, c)`` -> list of (B, 3, s, s) in [−1, 1], one per stage."""
        return FastGenerator(self.model.generator, PRECISIONS[self.precision], compiled=self.compiled)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> embeddings (B, T). Raises ``ValueError`` if the checkpoint has no text encoder."""
        if not self.conditional:
            raise ValueError("this checkpoint was trained without text: leave the captions out")
        if self.text_encoder is None:
            raise ValueError("this checkpoint has no text encoder: pass embeddings=(B, T) instead of captions")
        check_captions(captions)
        encoder = self.text_encoder
        if self.device.type != "cpu" or not captions:
            return encoder.encode(list(captions))
        with one_thread() if isinstance(encoder, CompactEncoder) else contextlib.nullcontext():
            return torch.cat([encoder.encode([caption]) for caption in captions])  # padding would change the rounding

    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        """Warnings of captions: truncated, words unknown to the text encoder, out of the training captions' domain.

        In the order of the captions. Domain warnings need the checkpoint's caption statistics
        (:mod:`stackgan.captions.word_statistics`).
        """
        found = self.text_encoder.warnings(captions) if self.text_encoder else []
        if self.statistics is not None:
            messages = ((index, self.statistics.warning(caption)) for index, caption in enumerate(captions))
            found = found + [CaptionWarning(index, "out-of-domain", text) for index, text in messages if text]
        return sorted(found, key=lambda warning: warning.index)

    @torch.inference_mode()
    def best_seeds(
        self, embeddings: Tensor, seeds: Sequence[int], candidates: int, truncation: float = 1.0
    ) -> list[int]:
        """Of ``candidates`` seeds for each image, the one whose image is best.

        The candidates of seed s are s · candidates, …, s · candidates + candidates − 1, so that different seeds share
        none. Each is generated at the coarsest stage; its score is the predicted realism of the image
        (:class:`~stackgan.networks.realism.RealismNetwork`) plus a weight times the cosine of the caption's embedding
        and the image's, by the text encoder's image tower (rejection sampling as in DALL·E, arXiv:2102.12092, section
        2.6); the cosine alone for checkpoints without a realism network.

        Args:
            embeddings: of the captions, (B, T).
            seeds: one a caption.
            candidates: 1 or more; 1 keeps the seeds.

        Raises:
            ValueError: fewer than one candidate, a candidate above MAX_SEED, a text encoder without image tower.
        """
        if candidates < 1:
            raise ValueError(f"best of {candidates}: give 1 (no selection) or more candidates")
        if candidates == 1:
            return list(seeds)
        if self.text_encoder is None:
            raise ValueError("best-of needs a text encoder with an image tower: this checkpoint came without one")
        chosen = []
        for e, seed in zip(embeddings, seeds, strict=True):
            tried = range(seed * candidates, (seed + 1) * candidates)
            check_sampling([tried[-1]])
            images = self.generate(e.expand(candidates, -1), tried, truncation, [0])[0].float()
            chosen.append(tried[int(self.score(images, e[None]).argmax())])
        return chosen

    def score(self, images: Tensor, embeddings: Tensor) -> Tensor:
        """The score (B,) by which :meth:`best_seeds` chooses, differentiable; needs an encoder with an image tower.

        Args:
            images: (B, 3, s, s) in [−1, 1].
            embeddings: of their captions, (B, T), or (1, T) for one caption.
        """
        assert self.text_encoder is not None
        cosines = torch.cosine_similarity(self.text_encoder.encode_images(images), embeddings.to(images.device))
        return cosines if self.realism is None else self.realism.score(images, cosines)

    def stages_of(self, size: int | None) -> list[int]:
        """Index of the stage with side ``size``, or all indices for None; raises ``ValueError`` if there is none."""
        if size is None:
            return list(range(len(self.sizes)))
        if size not in self.sizes:
            sides = ", ".join(map(str, self.sizes))
            raise ValueError(f"size {size} is not in this checkpoint's tree: choose from {sides}")
        return [self.sizes.index(size)]

    def generate(
        self,
        embeddings: Tensor | None,
        seeds: Sequence[int],
        truncation: float = 1.0,
        stages: Sequence[int] | None = None,
        variation: tuple[int, float] | None = None,
    ) -> list[Tensor]:
        """One batch: embeddings (B, T) and B seeds -> images of ``stages`` (None: all), (B, 3, s, s) in [−1, 1]."""
        z_noise, c_noise = self.noise(seeds)
        if variation is not None and variation[1] > 0:
            others = self.noise([variation[0]])
            z_noise, c_noise = (
                torch.stack([slerp(row, other[0], variation[1]) for row in noise]) if noise.shape[1] else noise
                for noise, other in zip((z_noise, c_noise), others, strict=True)
            )
        if embeddings is None:
            c = self.model.no_code(len(seeds))
        else:
            c = self._row_by_row(
                lambda e, noise: self.model.condition(e).sample(noise=noise),
                embeddings.to(self.device),
                truncation * c_noise,
            )
        return self.decode(c, truncation * z_noise, stages)

    def decode(self, c: Tensor, z_noise: Tensor, stages: Sequence[int] | None = None) -> list[Tensor]:
        """One batch: codes (B, C) and base noise of z (B, Z) -> images of ``stages``, as in :meth:`generate`."""
        z = self._row_by_row(lambda c, noise: self.model.prior(c).sample(noise=noise), c, z_noise)
        return self.generator(z, c, stages)

    def _row_by_row(self, function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
        """``function(a, b)``; on a CPU of each row alone, as BLAS sums in an order that depends on their number."""
        if self.device.type != "cpu":
            return function(a, b)
        with one_thread():
            return torch.cat([function(*row) for row in zip(a.split(1), b.split(1), strict=True)])

    def noise(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Base noise of z (B, Z) and of c (B, C), row i from a separate generator seeded with seed i."""
        z, c = base_noise(seeds, (self.config.latent.dim, self.model.code_dim))
        return z.to(self.device), c.to(self.device)


def _load_weights(model: StackGAN, checkpoint: Checkpoint) -> None:
    file = checkpoint.folder / "model.safetensors"
    differs = compare_weights(model, checkpoint.weights)
    for name, (found, wanted) in differs.reshaped.items():
        raise ValueError(f"{file}: {name} has shape {found}, config.json requires {wanted}")
    for name in differs.missing:
        raise ValueError(f"{file}: has no {name}; config and weights do not belong together")
    for name in differs.unexpected:
        raise ValueError(f"{file}: {name} is not part of the model that config.json describes")
    model.load_state_dict(checkpoint.weights)


def _precision_of(dtype: torch.dtype) -> str:
    for name, known in PRECISIONS.items():
        if dtype == known:
            return name
    raise ValueError(f"dtype {dtype} is not supported: it must be {' or '.join(map(str, PRECISIONS.values()))}")
