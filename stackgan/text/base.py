"""Interface of text encoders, and shared functions: mean pooling, batches of similar length, files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackgan.io.weights import compare_weights

__all__ = [
    "CaptionWarning",
    "TextEncoder",
    "by_length",
    "fill_module",
    "hash_tensors",
    "mean_state",
    "quoted_word",
    "write_json",
    "write_tensors",
]

_CHUNK = 64  # captions per forward pass
LONGEST_WORD = 40  # characters of a word in a message


@dataclass(frozen=True)
class CaptionWarning:
    """Warning about the caption with number ``index``: truncated, an unknown word, or out of the training domain."""

    index: int
    kind: Literal["truncated", "unknown", "out-of-domain"]
    message: str


def quoted_word(word: str) -> str:
    """A word of a caption in a message, at most 40 characters of it.

    >>> quoted_word("zebra"), len(quoted_word("z" * 5000))
    ('"zebra"', 42)
    """
    return f'"{word}"' if len(word) <= LONGEST_WORD else f'"{word[: LONGEST_WORD - 1]}…"'


class TextEncoder(ABC):
    """Encodes captions as embeddings; frozen, in evaluation mode.

    Attributes:
        dim: T, the length of an embedding.
        identity: derived from family, pooling, and a hash of weights and tokenizer, so that equal identities mean
            equal embeddings up to rounding; valid in a file name.
    """

    dim: int

    @property
    @abstractmethod
    def identity(self) -> str: ...

    @abstractmethod
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Embeddings of the captions, (B, T) float32; up to rounding, a row depends only on its own caption."""

    @abstractmethod
    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        """Warnings about truncated captions and unknown words, in the order of the captions."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write a folder from which :func:`load_text_encoder` restores the same embeddings and identity."""

    def encode_images(self, images: Tensor) -> Tensor:
        """Unit vectors (B, T) of images (B, 3, h, w) in [−1, 1], comparable with rows of :meth:`encode`.

        Raises:
            ValueError: this kind of encoder has no image tower.
        """
        raise ValueError("this checkpoint's text encoder has no image tower (text.encoder=compact has one)")

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the weights; ``encode`` returns its embeddings on that device."""
        return self


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """Mean pooling: token states (B, L, H) averaged over the tokens of the mask (B, L), (B, H)."""
    weights = mask.to(states.dtype).unsqueeze(-1)  # (B, L, 1)
    return (states * weights).sum(1) / weights.sum(1)


def by_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of the rows in chunks of similar length, to reduce padding."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for start in range(0, len(order), _CHUNK):
        yield order[start : start + _CHUNK]


def hash_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Update a hashlib digest with the names, shapes, types and bytes of the tensors, sorted by name."""
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    # Not written by the library, whose files are readable by their owner only.
    file.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"format": "pt"}))


def fill_module(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Load every parameter from the tensors, in the module's own precision."""
    for name in compare_weights(module, tensors).names:
        raise ValueError(f"{folder}: weight {name!r} is missing, unexpected or of another shape")
    module.load_state_dict(tensors)
