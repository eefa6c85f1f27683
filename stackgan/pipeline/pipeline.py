"""StackGANPipeline: inference from captions to images.

caption → embedding → c ~ CA_NET → z ~ prior → images = G(z, c) → PIL

Checkpoints with a posterior q(z | x, c) (latent.z=vae or flow) also encode photos, to reconstruct them or to decode
them with another caption. All random numbers are noise N(0, I) in base space, which the model's distributions map to
codes and styles; truncation, style transfer between captions, and interpolation operate on this noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from stackgan.images.pixels import to_tensor
from stackgan.latent.distributions import DiagonalGaussian
from stackgan.latent.posterior import PosteriorEncoder
from stackgan.latent.priors import PRIORS
from stackgan.latent.sampling import check_sampling, slerp
from stackgan.pipeline.inputs import check_inputs, choose_seeds, refuse_unknown
from stackgan.pipeline.loaded import LoadedCheckpoint
from stackgan.pipeline.output import OUTPUT_TYPES, CaptionDensity, PipelineOutput
from stackgan.text.base import CaptionWarning

__all__ = ["StackGANPipeline"]


class StackGANPipeline(LoadedCheckpoint):
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
        realism: network that scores candidates for ``best_of``; None for checkpoints without.
        fingerprint: sha256 of the checkpoint's files.
        name: of the checkpoint, without folders and user; empty if it was not loaded.
        card, card_images: text of the checkpoint's model card, and the image files that it shows.
    """

    @torch.inference_mode()
    def __call__(
        self,
        captions: str | Sequence[str] | None = None,
        *,
        embeddings: Tensor | None = None,
        seeds: int | Sequence[int] | None = None,
        count: int = 1,
        num_images_per_prompt: int | None = None,
        every_pair: bool = False,
        generator: torch.Generator | None = None,
        truncation: float = 1.0,
        latent: str = "prior",
        batch_size: int = 16,
        size: int | None = None,
        best_of: int = 1,
        variation: tuple[int, float] | None = None,
        output_type: str = "pil",
        **unknown: Any,
    ) -> PipelineOutput:
        """Generate images of captions. Image i depends only on its caption and its seed.

        ::

            pipe("a red bird").images[0]                                   # a drawn seed, in the output's seeds
            pipe("a red bird", seeds=7, count=4)                           # seeds 7, 8, 9, 10
            pipe(["a red bird", "a blue bird"], seeds=[1, 2])              # paired
            pipe(["a red bird", "a blue bird"], seeds=[1, 2, 3], every_pair=True)   # 6 images, caption by caption

        Args:
            captions, embeddings: one of the two, embeddings (B, T); neither for an unconditional checkpoint.
            seeds: one, or a list paired with the captions, where a single one of either is used with all of the
                other; None draws one for every image. Each initialises a separate random generator.
            count: images of every caption, with seeds from a single one upwards, or drawn; ``num_images_per_prompt``
                is the same.
            every_pair: every caption with every seed of a list, caption by caption.
            generator: what drawn seeds come from; None for the operating system's random numbers.
            truncation: factor on the noise of z and c, in the base space of their distributions: 1 for the trained
                distribution, smaller values for less variation and fewer artefacts, 0 is the same as
                ``latent="mean"``.
            latent: ``prior`` to sample, ``mean`` for the mean of every distribution.
            batch_size: images generated at a time; changes at most the rounding (GUARANTEES.md).
            size: side of the only stage to generate; None for all stages.
            best_of: candidates for each image, see :meth:`best_seeds`; the output's ``seeds`` are the chosen ones.
            variation: ``(seed, strength)``: the noise of every image, interpolated spherically towards that of
                another seed, from strength 0 (the image itself) to 1 (that of the other seed).
            output_type: ``pil``, ``np`` or ``pt``, see :class:`~stackgan.pipeline.output.PipelineOutput`.

        Raises:
            ValueError: nothing to generate, numbers of captions and seeds that differ, a negative seed, a truncation
                outside [0, 2], a size that no stage has, an unknown output type.
            TypeError: an argument of other pipelines that this one does not have.
        """
        refuse_unknown(unknown)
        wanted = self.stages_of(size)
        texts = [captions] if isinstance(captions, str) else None if captions is None else list(captions)
        check_inputs(texts, embeddings, self.conditional, self.config.text.dim)
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type {output_type!r} is unknown: it must be {', '.join(OUTPUT_TYPES)}")
        rows = len(texts) if texts is not None else len(embeddings) if embeddings is not None else 1
        if every_pair and seeds is not None:
            given = [seeds] if isinstance(seeds, int) else list(seeds)
            chosen, row = given * rows, [each for each in range(rows) for _ in given]
        else:
            chosen, row = choose_seeds(seeds, rows, num_images_per_prompt or count, generator)
        check_sampling(chosen, truncation, latent, batch_size)
        toward = _checked_variation(variation)
        warnings: list[CaptionWarning] = []
        if texts is not None:
            embeddings = self.encode(texts)
            warnings = self.warnings(texts)
        if embeddings is not None:
            embeddings = embeddings[row]
        if best_of != 1:
            if embeddings is None:
                raise ValueError("best_of compares images with captions: this checkpoint was trained without text")
            chosen = self.best_seeds(embeddings, chosen, best_of, truncation)
        stages: list[list[Tensor]] = [[] for _ in wanted]
        scale = truncation if latent == "prior" else 0.0
        for start in range(0, len(chosen), batch_size):
            part = slice(start, start + batch_size)
            e = embeddings[part] if embeddings is not None else None
            for stage, images in zip(stages, self.generate(e, chosen[part], scale, wanted, toward), strict=True):
                stage.append(images)
        return PipelineOutput([OUTPUT_TYPES[output_type](parts) for parts in stages], chosen, warnings)

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
        self,
        captions: tuple[str, str],
        seeds: tuple[int, int],
        *,
        frames: int = 24,
        positions: Sequence[float] | None = None,
        truncation: float = 1.0,
        size: int | None = None,
        batch_size: int = 16,
    ) -> PipelineOutput:
        """Interpolate between two captions and seeds in ``frames`` images, including both ends.

        The parameters of q(c | e) are interpolated linearly, the noise spherically (:func:`slerp`).

        Args:
            positions: of the images, from 0 (the first caption and seed) to 1, instead of evenly spaced ``frames``.
            truncation, size, batch_size: see :meth:`__call__`.

        Raises:
            ValueError: fewer than 2 frames, a position outside [0, 1], an empty caption, a negative seed, a
                truncation outside [0, 2], or a size that no stage has.
        """
        if positions is None:
            if frames < 2:
                raise ValueError(f"frames is {frames}: an interpolation needs 2 or more")
            positions = torch.linspace(0, 1, frames).tolist()
        outside = [position for position in positions if not 0 <= position <= 1]
        if outside or not positions:
            raise ValueError(f"positions are {list(positions)}: give one or more from 0 to 1")
        check_sampling(list(seeds), truncation, batch_size=batch_size)
        wanted = self.stages_of(size)
        q = self.model.condition(self.encode(list(captions)).to(self.device))
        z_noise, c_noise = (truncation * noise for noise in self.noise(seeds))
        codes, styles = [], []
        for t in positions:
            between = DiagonalGaussian(torch.lerp(q.mu[:1], q.mu[1:], t), torch.lerp(q.logvar[:1], q.logvar[1:], t))
            codes.append(between.sample(noise=slerp(c_noise[0], c_noise[1], t)[None]))
            styles.append(slerp(z_noise[0], z_noise[1], t)[None])
        return self._decode(torch.cat(codes), torch.cat(styles), list(captions), (), wanted, batch_size)

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
        self,
        c: Tensor,
        noise: Tensor,
        texts: list[str] | None,
        seeds: Sequence[int] = (),
        wanted: Sequence[int] | None = None,
        batch_size: int = 16,
    ) -> PipelineOutput:
        """Codes (B, C) and base noise (B, Z) -> images of the stages ``wanted`` (None: all)."""
        stages: list[list[Tensor]] = [[] for _ in (self.sizes if wanted is None else wanted)]
        for start in range(0, len(c), batch_size):
            part = slice(start, start + batch_size)
            for stage, images in zip(stages, self.decode(c[part], noise[part], wanted), strict=True):
                stage.append(images)
        return PipelineOutput(
            [OUTPUT_TYPES["pil"](parts) for parts in stages], list(seeds), self.warnings(texts or [])
        )


def _checked_variation(variation: tuple[int, float] | None) -> tuple[int, float] | None:
    if variation is None:
        return None
    try:
        seed, strength = variation
    except (TypeError, ValueError):
        raise ValueError(f"variation is {variation!r}: it must be (seed, strength)") from None
    check_sampling([seed])
    if not 0 <= strength <= 1:
        raise ValueError(f"variation strength {strength} is out of range: it goes from 0 to 1")
    return seed, strength
