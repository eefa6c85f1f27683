"""The table of text encoders: a class and a row are all that training, saving and loading need."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stackgan.config import preset
from stackgan.data.prepared import PreparedFolder
from stackgan.io.files import atomic_folder
from stackgan.pipeline import StackGANPipeline
from stackgan.text.base import CaptionWarning, TextEncoder, write_json
from stackgan.text.load import ANY_OTHER, ENCODERS, EncoderKind, encoder_kind, load_text_encoder, new_text_encoder
from stackgan.training.loop import train
from tests.tiny import TINY


class HashedWords(TextEncoder):
    """Every word is hashed to one of T numbers; the embedding is their count."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @property
    def identity(self) -> str:
        return f"hashed-{self.dim}"

    def encode(self, captions: Sequence[str]) -> Tensor:
        out = torch.zeros(len(captions), self.dim)
        for row, caption in zip(out, captions, strict=True):
            for word in caption.split():
                row[hashlib.sha256(word.encode()).digest()[0] % self.dim] += 1
        return out

    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        return []

    def save(self, folder: Path) -> None:
        with atomic_folder(folder) as target:
            write_json(target / "config.json", {"hashed_words": {"dim": self.dim}})


HASHED = EncoderKind(
    create=lambda argument, split, config: HashedWords(int(argument)),
    load=lambda folder, pooling: HashedWords(12),
    section="hashed_words",
)


def test_rows_and_arguments() -> None:
    assert set(ENCODERS) == {"compact", "none", "precomputed", ANY_OTHER}
    assert encoder_kind("precomputed:a:b") == (ENCODERS["precomputed"], "a:b")
    assert encoder_kind("/some/folder") == (ENCODERS[ANY_OTHER], "/some/folder")
    assert encoder_kind("owner/model") == (ENCODERS[ANY_OTHER], "owner/model")
    assert [name for name, kind in ENCODERS.items() if kind.image_tower] == ["compact"]


def test_an_encoder_is_one_row_of_the_table(few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its row an encoder trains a model, is saved in its checkpoint, and reads captions there."""
    monkeypatch.setitem(ENCODERS, "hashed", HASHED)
    config = preset("quickstart", [*TINY, "text.encoder=hashed:12", "train.images=8"])
    encoder = new_text_encoder(PreparedFolder.open(few_birds).train, config)
    assert isinstance(encoder, HashedWords)
    assert train(few_birds, tmp_path / "run", config, device="cpu") == 0
    assert load_text_encoder(str(tmp_path / "run" / "text")).identity == encoder.identity
    pipe = StackGANPipeline.from_pretrained(tmp_path / "run" / "checkpoint", device="cpu")
    assert isinstance(pipe.text_encoder, HashedWords) and pipe.config.text.dim == 12
    assert len(pipe(["a red bird"], seeds=[0]).images) == 1
    with pytest.raises(ValueError, match=r"loss\.contrast is"):
        config = preset("quickstart", [*TINY, "text.encoder=hashed:12", "loss.contrast=1"])
        train(few_birds, tmp_path / "other", config, device="cpu")


def test_a_run_on_precomputed_embeddings_has_no_encoder(few_birds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "birds"
    shutil.copytree(few_birds, folder)
    for split in PreparedFolder.open(folder).splits.values():
        split.store_embeddings("mine", np.random.default_rng(0).normal(size=(len(split.captions), 6)))
    config = preset("quickstart", [*TINY, "text.encoder=precomputed:mine", "train.images=8"])
    assert train(folder, tmp_path / "run", config, device="cpu") == 0
    pipe = StackGANPipeline.from_pretrained(tmp_path / "run" / "checkpoint", device="cpu")
    assert pipe.text_encoder is None and pipe.config.text.dim == 6 and not (tmp_path / "run" / "text").exists()
    assert len(pipe(embeddings=torch.zeros(1, 6), seeds=[0]).images) == 1
