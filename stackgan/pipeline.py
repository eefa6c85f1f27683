"""StackGANPipeline: inference from captions to images.

caption → embedding → c ~ CA_NET → z ~ prior → images = G(z, c) → PIL

Checkpoints with a posterior q(z | x, c) (latent.z=vae or flow) also encode photos, to reconstruct them or to decode
them with another caption. All random numbers are noise N(0, I) in base space, which the model's distributions map to
codes and styles; truncation, style transfer between captions, and interpolation operate on this noise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stackgan.captions.file import is_text
from stackgan.captions.word_statistics import CaptionStatistics
from stackgan.checkpoint import Checkpoint, load_checkpoint, push_checkpoint, save_checkpoint
from stackgan.config import Config
from stackgan.config.facts import CheckpointFacts
from stackgan.config.model_card import model_card, with_measured
from stackgan.images.pixels import to_pil, to_tensor
from stackgan.io.weights import compare_weights
from stackgan.latent.distributions import DiagonalGaussian
from stackgan.latent.posterior import PosteriorEncoder
from stackgan.latent.priors import PRIORS
from stackgan.latent.sampling import base_noise, check_sampling, slerp
from stackgan.model import StackGAN
from stackgan.networks.fast_generator import FastGenerator
from stackgan.runtime.device import chosen_device
from stackgan.text.base import CaptionWarning, TextEncoder
from stackgan.text.load import load_text_encoder

__all__ = [
    "PRECISIONS",
    "CaptionDensity",
    "PipelineOutput",
    "StackGANPipeline",
]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class PipelineOutput:
    """Generated images.

    Attributes:
        images: one PIL image per sample, of the finest stage.
        stages: the same for every stage, coarsest first.
    """

    stages: list[list[Image.Image]]
    seeds: list[int]
    warnings: list[CaptionWarning] = field(default_factory=list)

    @property
    def images(self) -> list[Image.Image]:
        return self.stages[-1]


@dataclass(frozen=True)
class CaptionDensity:
    """Density of a caption under p(c).

    Attributes:
        log_prob: log p(c) in nats at c = mu(e).
        share: of the training captions with at most this density, 0 to 1; None for checkpoints without a flow p(c).
    """

    log_prob: float
    share: float | None


class StackGANPipeline:
    """A loaded checkpoint for inference.

    ::

        pipe = StackGANPipeline.from_pretrained("painted-64")
        out = pipe(["a small red bird with black wings"], seeds=[7], truncation=0.8)
        out.images[0].save("bird.png")

    Args:
        precision: of the generator: ``fp32``, or ``bf16`` for faster inference with an average difference of less
            than one of 255 levels.
        compiled: use ``torch.compile`` on the generator: worthwhile for thousands of images of one batch size.

    Attributes:
        sizes: sides of the stages in pixels.
        text_encoder: None for checkpoints without one (they take ``embeddings=``).
        statistics: of the training captions; None for checkpoints without.
        fingerprint: sha256 of the checkpoint's files.
        card, card_images: text of the checkpoint's model card, and the image files that it shows.
    """

    def __init__(
        self,
        model: StackGAN,
        text_encoder: TextEncoder | None,
        *,
        facts: CheckpointFacts | None = None,
        statistics: CaptionStatistics | None = None,
        fingerprint: str = "",
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
        self.fingerprint = fingerprint
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
        compiled: bool = False,
    ) -> StackGANPipeline:
        """Load a checkpoint.

        Args:
            name: a folder, the name of a bundled checkpoint, or a hub repository ``user/name``, in this order
                (:func:`stackgan.io.checkpoint_names.find_checkpoint`). Only safetensors, JSON and text files are
                downloaded; no code is executed.
            revision: branch, tag or commit of a hub repository.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: another format, damaged files, or an unknown device or precision.
        """
        checkpoint = load_checkpoint(name, revision)
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
        model.to(chosen_device(device))
        return cls(
            model,
            encoder,
            facts=checkpoint.facts,
            statistics=checkpoint.statistics,
            fingerprint=checkpoint.fingerprint,
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
    def generator(self) -> FastGenerator:
        """The generator in its fast form: ``generator(z, c)`` -> list of (B, 3, s, s) in [−1, 1], one per stage."""
        return FastGenerator(self.model.generator, PRECISIONS[self.precision], compiled=self.compiled)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> embeddings (B, T). Raises ``ValueError`` if the checkpoint has no text encoder."""
        if not self.conditional:
            raise ValueError("this checkpoint was trained without text: leave the captions out")
        if self.text_encoder is None:
            raise ValueError("this checkpoint has no text encoder: pass embeddings=(B, T) instead of captions")
        for i, caption in enumerate(captions):
            if not caption.strip():
                raise ValueError(f"caption {i + 1} is empty: describe the image")
            if not is_text(caption):
                raise ValueError(
                    f"caption {i + 1} contains bytes that are not UTF-8 text ({caption!a:.60}): enter it again"
                )
        return self.text_encoder.encode(list(captions))

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
        """Of ``candidates`` seeds for each image, the one whose image agrees best with its caption.

        The candidates of seed s are s · candidates, …, s · candidates + candidates − 1, so that different seeds share
        none. Each is generated at the coarsest stage; its score is the cosine of the caption's embedding and the
        image's, by the text encoder's image tower (rejection sampling as in DALL·E, arXiv:2102.12092, section 2.6).

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
            scores = torch.cosine_similarity(self.text_encoder.encode_images(images), e.to(images.device)[None])
            chosen.append(tried[int(scores.argmax())])
        return chosen

    @torch.inference_mode()
    def __call__(
        self,
        captions: str | Sequence[str] | None = None,
        *,
        embeddings: Tensor | None = None,
        seeds: int | Sequence[int],
        truncation: float = 1.0,
        latent: str = "prior",
        batch_size: int = 16,
        size: int | None = None,
        best_of: int = 1,
    ) -> PipelineOutput:
        """Generate one image for each (caption, seed).

        Captions (or rows of ``embeddings``) and seeds are paired; a single one of either is used with all of the
        other. An unconditional checkpoint takes seeds only. Image i depends only on its caption and its seed.

        Args:
            seeds: 0 or more; each initialises a separate random generator.
            truncation: factor on the noise of z and c, in the base space of their distributions: 1 for the trained
                distribution, smaller values for less variation and fewer artefacts, 0 is the same as
                ``latent="mean"``.
            latent: ``prior`` to sample, ``mean`` for the mean of every distribution.
            batch_size: images generated at a time; changes them by rounding only.
            size: side of the only stage to generate; None for all stages.
            best_of: candidates for each image, see :meth:`best_seeds`; the output's ``seeds`` are the chosen ones.

        Raises:
            ValueError: nothing to generate, numbers of captions and seeds that differ, a negative seed, a truncation
                outside [0, 2], a size that no stage has.
        """
        wanted = self.stages_of(size)
        chosen = [seeds] if isinstance(seeds, int) else list(seeds)
        texts = [captions] if isinstance(captions, str) else None if captions is None else list(captions)
        self._check(texts, embeddings)
        check_sampling(chosen, truncation, latent, batch_size)
        warnings: list[CaptionWarning] = []
        if texts is not None:
            embeddings = self.encode(texts)
            warnings = self.warnings(texts)
        if embeddings is not None:
            embeddings, chosen = _pair(embeddings, chosen)
        if best_of != 1:
            if embeddings is None:
                raise ValueError("best_of compares images with captions: this checkpoint was trained without text")
            chosen = self.best_seeds(embeddings, chosen, best_of, truncation)
        stages: list[list[Image.Image]] = [[] for _ in wanted]
        for start in range(0, len(chosen), batch_size):
            part = slice(start, start + batch_size)
            e = embeddings[part] if embeddings is not None else None
            scale = truncation if latent == "prior" else 0.0
            for stage, images in zip(stages, self.generate(e, chosen[part], scale, wanted), strict=True):
                stage.extend(to_pil(images))
        return PipelineOutput(stages, chosen, warnings)

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
    ) -> list[Tensor]:
        """One batch: embeddings (B, T) and B seeds -> images of ``stages`` (None: all), (B, 3, s, s) in [−1, 1]."""
        z_noise, c_noise = self.noise(seeds)
        if embeddings is None:
            c = self.model.no_code(len(seeds))
        else:
            c = self.model.condition(embeddings.to(self.device)).sample(noise=truncation * c_noise)
        return self.decode(c, truncation * z_noise, stages)

    def decode(self, c: Tensor, z_noise: Tensor, stages: Sequence[int] | None = None) -> list[Tensor]:
        """One batch: codes (B, C) and base noise of z (B, Z) -> images of ``stages``, as in :meth:`generate`."""
        return self.generator(self.model.prior(c).sample(noise=z_noise), c, stages)

    def noise(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Base noise of z (B, Z) and of c (B, C), row i from a separate generator seeded with seed i."""
        z, c = base_noise(seeds, (self.config.latent.dim, self.model.code_dim))
        return z.to(self.device), c.to(self.device)

    # --- photos, and images without captions ---

    @torch.inference_mode()
    def encode_style(self, images: Image.Image | Sequence[Image.Image], captions: str | Sequence[str]) -> Tensor:
        """Encode photos given their captions: base noise (B, Z) of the mean of q(z | x, c).

        Raises:
            ValueError: the checkpoint has no posterior, or the numbers of photos and captions differ.
        """
        photos = [images] if isinstance(images, Image.Image) else list(images)
        texts = [captions] if isinstance(captions, str) else list(captions)
        if len(photos) != len(texts) or not photos:
            raise ValueError(f"{len(photos)} photos and {len(texts)} captions do not match: give one per photo")
        posterior, c = self._posterior(), self.model.condition(self.encode(texts).to(self.device)).mu
        x = torch.stack([to_tensor(photo, self.sizes[-1]) for photo in photos]).to(self.device)
        return self.model.prior(c).to_noise(posterior(x, c).mode)

    def reconstruct(
        self, images: Image.Image | Sequence[Image.Image], captions: str | Sequence[str]
    ) -> PipelineOutput:
        """Reconstruct photos: encode them with their captions and decode."""
        return self.edit(images, captions, captions)

    def edit(
        self,
        images: Image.Image | Sequence[Image.Image],
        captions: str | Sequence[str],
        new_captions: str | Sequence[str],
    ) -> PipelineOutput:
        """Edit photos: encode the style (pose, size, position) with the old caption, decode it with the new one.

        A single photo and caption is used with all new captions.

        Raises:
            ValueError: the checkpoint has no posterior, or the numbers of photos and captions differ.
        """
        texts = [new_captions] if isinstance(new_captions, str) else list(new_captions)
        noise = self.encode_style(images, captions)
        if len(noise) == 1:
            noise = noise.expand(len(texts), -1)
        if len(noise) != len(texts):
            raise ValueError(f"{len(noise)} photos and {len(texts)} new captions do not match: give one per photo")
        return self._decode(self.model.condition(self.encode(texts).to(self.device)).mu, noise, texts)

    @torch.inference_mode()
    def sample(self, seeds: int | Sequence[int], *, truncation: float = 1.0) -> PipelineOutput:
        """Generate images without text: c ~ p(c), z ~ p(z | c), one for each seed.

        Raises:
            ValueError: no seed, a negative one, or a truncation outside [0, 2].
        """
        chosen = [seeds] if isinstance(seeds, int) else list(seeds)
        check_sampling(chosen, truncation)
        z_noise, c_noise = self.noise(chosen)
        if not self.conditional:
            return self._decode(self.model.no_code(len(chosen)), truncation * z_noise, None, chosen)
        c = self.model.codes(len(chosen)).sample(noise=truncation * c_noise)
        return self._decode(c, truncation * z_noise, None, chosen)

    @torch.inference_mode()
    def interpolate(
        self, captions: tuple[str, str], seeds: tuple[int, int], *, frames: int = 24, truncation: float = 1.0
    ) -> PipelineOutput:
        """Interpolate between two captions and seeds in ``frames`` images, including both ends.

        The parameters of q(c | e) are interpolated linearly, the noise spherically (:func:`slerp`).

        Raises:
            ValueError: fewer than 2 frames, an empty caption, a negative seed, or a truncation outside [0, 2].
        """
        if frames < 2:
            raise ValueError(f"frames is {frames}: an interpolation needs 2 or more")
        check_sampling(list(seeds), truncation)
        q = self.model.condition(self.encode(list(captions)).to(self.device))
        z_noise, c_noise = (truncation * noise for noise in self.noise(seeds))
        codes, styles = [], []
        for t in torch.linspace(0, 1, frames).tolist():
            between = DiagonalGaussian(torch.lerp(q.mu[:1], q.mu[1:], t), torch.lerp(q.logvar[:1], q.logvar[1:], t))
            codes.append(between.sample(noise=slerp(c_noise[0], c_noise[1], t)[None]))
            styles.append(slerp(z_noise[0], z_noise[1], t)[None])
        return self._decode(torch.cat(codes), torch.cat(styles), list(captions))

    @torch.inference_mode()
    def caption_log_prob(self, captions: str | Sequence[str]) -> list[CaptionDensity]:
        """Log density of captions under p(c).

        log p(c) is exact for a flow (latent.c=flow), and compared with that of the training captions. Checkpoints
        without a flow use N(0, I). The density falls with a caption's distance from whole training captions, so
        short ones have a low one, too: :meth:`warnings` detects out-of-domain captions by their words instead.
        """
        texts = [captions] if isinstance(captions, str) else list(captions)
        c = self.model.condition(self.encode(texts).to(self.device)).mu
        found = []
        for value in self.model.codes(len(texts)).log_prob(c):
            share = float((self.model.code_quantiles <= value).float().mean()) if self.model.has_code_flow else None
            found.append(CaptionDensity(float(value), share))
        return found

    def _posterior(self) -> PosteriorEncoder:
        if self.model.posterior is None:
            others = " or ".join(f"latent.z={name}" for name, kind in PRIORS.items() if kind.posterior)
            raise ValueError(
                f"this checkpoint cannot encode photos: it has no posterior (latent.z={self.config.latent.z}); "
                f"use one that was trained with {others}"
            )
        return self.model.posterior

    @torch.inference_mode()
    def _decode(
        self, c: Tensor, noise: Tensor, texts: list[str] | None, seeds: Sequence[int] = (), batch_size: int = 16
    ) -> PipelineOutput:
        """Codes (B, C) and base noise (B, Z) -> images."""
        stages: list[list[Image.Image]] = [[] for _ in self.sizes]
        for start in range(0, len(c), batch_size):
            part = slice(start, start + batch_size)
            for stage, images in zip(stages, self.decode(c[part], noise[part]), strict=True):
                stage.extend(to_pil(images))
        return PipelineOutput(stages, list(seeds), self.warnings(texts or []))

    def _check(self, texts: list[str] | None, embeddings: Tensor | None) -> None:
        if texts is not None and embeddings is not None:
            raise ValueError("pass captions or embeddings, not both")
        if self.conditional and texts is None and embeddings is None:
            raise ValueError("this checkpoint generates from captions: pass captions (or embeddings)")
        if not self.conditional and (texts is not None or embeddings is not None):
            raise ValueError("this checkpoint was trained without text: leave the captions out")
        if texts is not None and not texts:
            raise ValueError("no captions given: pass at least one")
        if embeddings is not None and (embeddings.ndim != 2 or embeddings.shape[1] != self.config.text.dim):
            raise ValueError(
                f"embeddings have shape {tuple(embeddings.shape)}: this checkpoint takes (B, {self.config.text.dim})"
            )


def _pair(embeddings: Tensor, seeds: list[int]) -> tuple[Tensor, list[int]]:
    if len(embeddings) == 1:
        return embeddings.expand(len(seeds), -1), seeds
    if len(seeds) == 1:
        return embeddings, seeds * len(embeddings)
    if len(embeddings) != len(seeds):
        raise ValueError(
            f"{len(embeddings)} captions and {len(seeds)} seeds do not match: give equal numbers, or one of either"
        )
    return embeddings, seeds


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
