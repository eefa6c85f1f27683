"""Generated files among those that Gradio serves, and deletes after a day."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradio.processing_utils import hash_bytes
from gradio.utils import get_upload_folder

from stackgan.io.files import write_atomic

__all__ = ["served_file", "served_folder"]

_writing = threading.Lock()


def served_file(name: str, content: bytes) -> str:
    """Path of a file that is served, in a folder named by a digest of its content with a secret of the process.

    The same content again is the same file, which is not written while it may be on its way to a browser.
    """
    file = Path(get_upload_folder(), hash_bytes(content), name).resolve()
    with _writing:
        if file.is_file():
            os.utime(file)  # deleted some time after its last use
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, content)
    return str(file)


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
