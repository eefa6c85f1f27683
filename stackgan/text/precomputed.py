"""Precomputed embeddings of a data set; captions cannot be encoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from stackgan.text.base import CaptionWarning, TextEncoder

__all__ = ["PrecomputedEmbeddings", "stored_name"]

_PREFIX = "precomputed:"


def stored_name(setting: str) -> str:
    """NAME of a setting ``precomputed:NAME``; empty for other settings.

    >>> stored_name("precomputed:char-cnn-rnn"), stored_name("owner/model")
    ('char-cnn-rnn', '')
    """
    return setting.removeprefix(_PREFIX) if setting.startswith(_PREFIX) else ""


class PrecomputedEmbeddings(TextEncoder):
    """Precomputed embeddings of the data set, stored in the prepared folder under a name.

    ``dim`` is 0 until :func:`stackgan.text.load.caption_embeddings` has read a split.
    """

    def __init__(self, name: str) -> None:
        if not name:
            raise ValueError("text encoder 'precomputed:' needs a name: precomputed:NAME, as in the prepared folder")
        self.name = name
        self.dim = 0

    @property
    def identity(self) -> str:
        return self.name

    def encode(self, captions: Sequence[str]) -> Tensor:
        raise ValueError(
            f"this model was trained on precomputed embeddings ({self.name}) and has no text encoder: "
            "pass embeddings= instead of captions"
        )

    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        return []

    def save(self, folder: Path) -> None:
        raise ValueError(f"precomputed embeddings ({self.name}) have no encoder to save")
