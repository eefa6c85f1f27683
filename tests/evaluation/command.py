"""Runs the evaluate command on tiny checkpoints."""

from __future__ import annotations

from pathlib import Path


def command_for(checkpoint: Path, data: Path, out: Path, *more: str) -> list[str]:
    command = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(data), "--out", str(out)]
    return [*command, "--num", "60", "--device", "cpu", *more]
