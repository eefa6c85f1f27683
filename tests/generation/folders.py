"""Shared by tests of generated folders: a captions file, and the contents of a folder, a manifest and a PNG."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.tiny import CAPTIONS

__all__ = ["TEXT", "contents", "manifest", "pixels"]

TEXT = "\n".join([CAPTIONS[0], "", CAPTIONS[1], CAPTIONS[2], "a red zebra", CAPTIONS[0], "  ", CAPTIONS[3], ""])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)
