"""Shared by studies of whole trainings: each run is trained once, each figure measured once."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

from stackgan.checkpoint import load_checkpoint
from stackgan.config import Config
from stackgan.io.files import copy_folder, write_atomic
from stackgan.training.loop import train

__all__ = ["cached_figures", "keep_figures", "train_quietly", "trained"]


def trained(folder: Path, what: str) -> int:
    """``steps``, ``images`` or ``seconds`` of training of a run's checkpoint; −1 where there is none."""
    checkpoint = folder / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        return -1
    return int(getattr(load_checkpoint(checkpoint).facts.trained, what))


def train_quietly(data: Path, folder: Path, config: Config, text: Path) -> None:
    """Train, or go on training; a new run takes the caption encoder at ``text``, where there is one.

    Raises:
        KeyboardInterrupt: the run was interrupted (and saved).
    """
    print(f"training {folder.name}")
    if text.is_dir() and not (folder / "text").exists():
        copy_folder(text, folder / "text")
    with contextlib.redirect_stdout(io.StringIO()):  # the configuration; the bar is on stderr
        code = train(data, folder, config)
    if code:
        raise KeyboardInterrupt


def cached_figures(file: Path, fingerprint: str) -> dict[str, float] | None:
    """Figures kept in ``file`` for a checkpoint of this fingerprint."""
    if not file.is_file():
        return None
    found = json.loads(file.read_text("utf-8"))
    return found if found.pop("checkpoint") == fingerprint else None


def keep_figures(file: Path, fingerprint: str, figures: Mapping[str, float]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps({"checkpoint": fingerprint, **figures}).encode())
