"""StackGANPipeline: captions in, pictures out. Thin, for inference only.

caption → embedding → c ~ CA_NET → z ~ prior → images = G(z, c) → PIL
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stackgan.checkpoint import Published, load_published, publish
from stackgan.config import Config
from stackgan.model import StackGAN
from stackgan.text import Notice, TextEncoder, load_text_encoder

if TYPE_CHECKING:
    from stackgan.generator import Generator

__all__ = [
    "PipelineOutput",
    "StackGANPipeline",
    "check_sampling",
    "chosen_device",
    "default_device",
    "to_pil",
]

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class PipelineOutput:
    """``images``: the finest stage, one PIL image a sample; ``stages``: the same for every stage, coarsest first."""

    stages: list[list[Image.Image]]
    seeds: list[int]
    notices: list[Notice] = field(default_factory=list)

    @property
    def images(self) -> list[Image.Image]:
        return self.stages[-1]


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str | torch.device | None) -> torch.device:
    """The named device, or the default one for None; raises ``ValueError`` for one that is not here."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is unknown: it is cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device '{device}' is not here: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device


def check_sampling(seeds: Sequence[int], truncation: float = 1.0, latent: str = "prior", batch_size: int = 1) -> None:
    """Raise ``ValueError`` for a seed, truncation, latent or batch size that no pipeline takes."""
    if not seeds:
        raise ValueError("there is no seed: pass at least one")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed {seed} is out of range: seeds are whole numbers from 0 to {MAX_SEED}")
    if not 0 <= truncation <= 2:
        raise ValueError(
            f"truncation {truncation} is out of range: it goes from 0 (the mean) to 2, 1 is the model's own"
        )
    if latent not in ("prior", "mean"):
        raise ValueError(f"latent {latent!r} is unknown: it is prior or mean")
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} is too small: it must be 1 or more")


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [−1, 1] -> PIL images."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(np.ascontiguousarray(a)) for a in levels.permute(0, 2, 3, 1).cpu().numpy()]


class StackGANPipeline:
    """A published checkpoint, ready to paint.

    ::

        pipe = StackGANPipeline.from_pretrained("checkpoints/painted-64")
        out = pipe(["a small red bird with black wings"], seeds=[7], truncation=0.8)
        out.images[0].save("bird.png")

    Attributes:
        sizes: sides of the stages in pixels.
        text_encoder: None for checkpoints that came without one (they take ``embeddings=``).
        fingerprint: sha256 of the checkpoint's files.
    """

    def __init__(
        self,
        model: StackGAN,
        text_encoder: TextEncoder | None,
        *,
        facts: dict[str, Any] | None = None,
        fingerprint: str = "",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config: Config = model.config
        self.text_encoder = text_encoder
        self.facts = facts or {}
        self.fingerprint = fingerprint
        self.sizes = self.config.tree.sizes

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str | torch.device | None = None) -> StackGANPipeline:
        """Load a published checkpoint folder.

        Raises:
            FileNotFoundError: no checkpoint there. ValueError: another format, or damaged files.
        """
        published = load_published(folder)
        model = StackGAN(published.config)
        _load_weights(model, published)
        encoder = None
        if published.text_folder is not None:
            encoder = load_text_encoder(str(published.text_folder), published.config.text.pooling)
            if encoder.dim != published.config.text.dim:
                raise ValueError(
                    f"{published.text_folder}: encodes to {encoder.dim} dimensions, the model takes "
                    f"{published.config.text.dim}; the folder's parts do not belong together"
                )
        model.to(chosen_device(device))
        return cls(model, encoder, facts=published.facts, fingerprint=published.fingerprint)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32, card: str = "") -> None:
        """Write this pipeline as a published checkpoint; ``card`` is the text of its README.md."""
        weights = self.model.state_dict()
        publish(Path(folder), self.config, weights, self.text_encoder, facts=self.facts, card=card, dtype=dtype)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def conditional(self) -> bool:
        return self.config.text.conditional

    @property
    def examples(self) -> list[str]:
        """Example captions that the checkpoint brings."""
        return list(self.facts.get("examples", []))

    @cached_property
    def generator(self) -> Generator:
        """The bare generator: ``generator(z, c)`` -> list of (B, 3, s, s) in [−1, 1], one a stage."""
        return self.model.generator

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> embeddings (B, T). Raises ``ValueError`` where the checkpoint has no text encoder."""
        if not self.conditional:
            raise ValueError("this checkpoint was trained without text: leave the captions out")
        if self.text_encoder is None:
            raise ValueError(
                "this checkpoint came without a text encoder: pass embeddings=(B, T) instead of captions"
            )
        for i, caption in enumerate(captions):
            if not caption.strip():
                raise ValueError(f"caption {i + 1} is empty: write what the picture should show")
        return self.text_encoder.encode(list(captions))

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
    ) -> PipelineOutput:
        """Paint one picture for each (caption, seed).

        Captions (or rows of ``embeddings``) and seeds are paired; one of either is used with all of the other. An
        unconditional checkpoint takes seeds alone. Picture i depends on its caption and its seed, on nothing else.

        Args:
            seeds: 0 or more; each drives a random generator of its own.
            truncation: scales the noise of z and c, in the base space of their distributions: 1 is the model's own
                distribution, smaller is safer and less varied, 0 is the same as ``latent="mean"``.
            latent: ``prior`` draws, ``mean`` takes every distribution's mean.
            batch_size: pictures painted at a time; does not change them beyond rounding.

        Raises:
            ValueError: nothing to paint, counts that do not pair up, a negative seed, a truncation out of [0, 2].
        """
        chosen = [seeds] if isinstance(seeds, int) else list(seeds)
        texts = [captions] if isinstance(captions, str) else None if captions is None else list(captions)
        self._check(texts, embeddings)
        check_sampling(chosen, truncation, latent, batch_size)
        notices: list[Notice] = []
        if texts is not None:
            embeddings = self.encode(texts)
            notices = self.text_encoder.notices(texts) if self.text_encoder else []
        if embeddings is not None:
            embeddings, chosen = _pair(embeddings, chosen)
        stages: list[list[Image.Image]] = [[] for _ in self.sizes]
        for start in range(0, len(chosen), batch_size):
            part = slice(start, start + batch_size)
            e = embeddings[part] if embeddings is not None else None
            scale = truncation if latent == "prior" else 0.0
            for stage, images in zip(stages, self.paint(e, chosen[part], scale), strict=True):
                stage.extend(to_pil(images))
        return PipelineOutput(stages, chosen, notices)

    def paint(self, embeddings: Tensor | None, seeds: Sequence[int], truncation: float = 1.0) -> list[Tensor]:
        """One batch: embeddings (B, T) and B seeds -> images of every stage, (B, 3, s, s) in [−1, 1]."""
        z_noise, c_noise = self.noise(seeds)
        if embeddings is None:
            c = self.model.no_code(len(seeds))
        else:
            c = self.model.condition(embeddings.to(self.device)).sample(noise=truncation * c_noise)
        z = self.model.prior(c).sample(noise=truncation * z_noise)
        return self.generator(z, c)

    def noise(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Base noise of z (B, Z) and of c (B, C), row i from a generator of its own seeded with seed i."""
        z_dim, c_dim = self.config.latent.dim, self.model.code_dim
        rows = []
        for seed in seeds:  # drawn on the CPU whatever the device, so that a seed is the same picture everywhere
            rows.append(torch.randn(z_dim + c_dim, generator=torch.Generator().manual_seed(seed)))
        z, c = torch.stack(rows).to(self.device).split([z_dim, c_dim], dim=1)
        return z, c

    def _check(self, texts: list[str] | None, embeddings: Tensor | None) -> None:
        if texts is not None and embeddings is not None:
            raise ValueError("pass captions or embeddings, not both")
        if self.conditional and texts is None and embeddings is None:
            raise ValueError("this checkpoint paints captions: pass captions (or embeddings)")
        if not self.conditional and (texts is not None or embeddings is not None):
            raise ValueError("this checkpoint was trained without text: leave the captions out")
        if texts is not None and not texts:
            raise ValueError("there is no caption: pass at least one")
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
            f"{len(embeddings)} captions and {len(seeds)} seeds do not pair up: give as many, or one of either"
        )
    return embeddings, seeds


def _load_weights(model: StackGAN, published: Published) -> None:
    file = published.folder / "model.safetensors"
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in published.weights:
            raise ValueError(f"{file}: has no {name}; config and weights do not belong together")
        found = published.weights[name]
        if found.shape != tensor.shape:
            raise ValueError(
                f"{file}: {name} has shape {tuple(found.shape)}, the config asks for {tuple(tensor.shape)}"
            )
    extra = sorted(published.weights.keys() - wanted.keys())
    if extra:
        raise ValueError(f"{file}: {extra[0]} is not part of the model that config.json describes")
    model.load_state_dict(published.weights)
