"""Folders of random files, and the contents of folders."""

import random
from pathlib import Path

__all__ = ["content_of", "fill"]


def fill(folder: Path, sizes: dict[str, int | None], seed: int = 0) -> Path:
    """Write files of the given numbers of random bytes; None: an empty folder."""
    draws = random.Random(seed)
    folder.mkdir()
    for name, size in sizes.items():
        path = folder / name
        if size is None:
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draws.randbytes(size))
    return folder


def content_of(folder: Path) -> dict[str, bytes | None]:
    """All files and folders below, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }
