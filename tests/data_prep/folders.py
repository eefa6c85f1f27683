"""Small folders of photos, their preparation by the command, and what was prepared."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder

__all__ = ["captions", "homes", "photo", "prepare", "problems", "with_text", "write_rows"]


def photo(file: Path, *, form: str = "PNG") -> Path:
    """A photo of 8 x 8 pixels, in the given format whatever the extension."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, form)
    return file


def with_text(file: Path, text: str = "a red square") -> Path:
    """A photo with a text file beside it."""
    photo(file).with_suffix(".txt").write_text(text)
    return file


def write_rows(file: Path, *rows: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return file


def prepare(src: Path, *options: str) -> tuple[int, Path]:
    """Exit code of the command, and OUT."""
    out = src.parent / f"{src.name}-prepared"
    return main(["prepare", "folder", str(src), str(out), "--overwrite", *options]), out


def homes(out: Path) -> dict[str, list[str]]:
    """The ids of each split, sorted."""
    splits = PreparedFolder.open(out).splits
    return {name: sorted(record.id for record in split.records) for name, split in splits.items()}


def captions(out: Path) -> dict[str, tuple[str, ...]]:
    splits = PreparedFolder.open(out).splits
    return {record.id: record.captions for split in splits.values() for record in split.records}


def problems(out: Path) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in PreparedFolder.open(out).meta["problems"]}
