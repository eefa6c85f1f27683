"""The table of text encoders: a class and a row are sufficient for training, saving and loading."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from stackgan.config import preset
from stackgan.data.prepared import PreparedFolder
from stackgan.pipeline import StackGANPipeline
from stackgan.text.load import ANY_OTHER, ENCODERS, encoder_kind
from stackgan.training.loop import train
from tests.tiny import TINY


def test_rows_and_arguments() -> None:
    assert set(ENCODERS) >= {"compact", "none", "precomputed", ANY_OTHER}
    assert encoder_kind("precomputed:a:b") == (ENCODERS["precomputed"], "a:b")
    assert encoder_kind("/some/folder") == (ENCODERS[ANY_OTHER], "/some/folder")
    assert encoder_kind("owner/model") == (ENCODERS[ANY_OTHER], "owner/model")
    assert [name for name, kind in ENCODERS.items() if kind.image_tower] == ["compact"]


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
