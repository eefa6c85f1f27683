"""Folders of generated files among those that Gradio serves, and deletes after a day."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradio.utils import get_upload_folder

__all__ = ["served_folder"]


@contextmanager
def served_folder(result: str) -> Iterator[Path]:
    """A new folder for files that are served; deleted at the end if no file in it matches the pattern ``result``.

    The work in the block may have ended by an error, or because its visitor left.
    """
    served = Path(get_upload_folder())
    served.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=served))
    try:
        yield folder
    finally:
        if not any(folder.glob(result)):
            shutil.rmtree(folder)
