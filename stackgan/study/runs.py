"""Functions shared by studies with training runs: trained runs and evaluations are cached."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackgan.checkpoint import load_checkpoint
from stackgan.config import Config
from stackgan.io.files import copy_folder, write_atomic
from stackgan.io.json_reader import Fields, MapOf, check_json, read_json
from stackgan.training.loop import train

__all__ = ["cached_figures", "keep_figures", "train_quietly", "trained"]


_ADVICE = "delete it; it will be computed again"


def trained(folder: Path, what: str) -> int:
    """Training ``steps``, ``images`` or ``seconds`` of a run's checkpoint as an integer, −1 without a checkpoint."""
    checkpoint = folder / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        return -1
    return int(getattr(load_checkpoint(checkpoint).facts.trained, what))


def train_quietly(data: Path, folder: Path, config: Config, text: Path) -> None:
    """Start or resume a training run; a new run uses the caption encoder at ``text`` if it exists.

    Raises:
        KeyboardInterrupt: the run was interrupted; its state is saved.
    """
    print(f"training {folder.name}")
    if text.is_dir() and not (folder / "text").exists():
        copy_folder(text, folder / "text")
    with contextlib.redirect_stdout(io.StringIO()):  # hides the configuration; the progress bar is on stderr
        code = train(data, folder, config)
    if code:
        raise KeyboardInterrupt


def cached_figures(file: Path, fingerprint: str) -> dict[str, float] | None:
    """Metrics stored in ``file`` for a checkpoint with this fingerprint, or None."""
    if not file.is_file():
        return None
    found: dict[str, Any] = read_json(file, Fields({"checkpoint": str}), advice=_ADVICE)
    if found.pop("checkpoint") != fingerprint:
        return None
    check_json(found, str(file), MapOf(float), advice=_ADVICE)
    return found


def keep_figures(file: Path, fingerprint: str, figures: Mapping[str, float]) -> None:
    if not all(map(math.isfinite, figures.values())):
        return  # not valid in JSON
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps({"checkpoint": fingerprint, **figures}).encode())
