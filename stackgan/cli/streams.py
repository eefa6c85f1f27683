"""Standard streams of a command: closed ones, closed pipes and narrow encodings do not end it.

A command's results are files. A service or ``pythonw`` starts it without streams, a reader such as ``head`` closes
the pipe early, a terminal's encoding lacks a caption's letters: what would be printed is dropped or escaped then,
and the work goes on.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

__all__ = ["tolerant_streams"]

GONE = {errno.EPIPE, errno.EBADF, errno.EIO, errno.ESHUTDOWN}  # nobody can read what is written


class _Tolerant(io.RawIOBase):
    """Writes to a file descriptor; once its reader is gone, writing has no effect."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.gone = descriptor, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return not self.gone and os.isatty(self.descriptor)

    def write(self, content: object) -> int:
        view = memoryview(content)  # type: ignore[arg-type]
        if self.gone:
            return view.nbytes
        try:
            return os.write(self.descriptor, view)
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.gone = True
            return view.nbytes


def tolerant_streams() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr``, where they are the process's own, by streams that tolerate loss."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  open until the end
        elif stream is getattr(sys, f"__{name}__"):
            try:
                descriptor = stream.fileno()
                stream.flush()
            except (OSError, ValueError):  # no descriptor: an embedding program's stream
                continue
            raw = io.BufferedWriter(_Tolerant(descriptor), 8192 if name == "stdout" else 1024)
            alive = descriptor_is_open(descriptor) and stream.isatty()
            tolerant = io.TextIOWrapper(
                raw, stream.encoding, "backslashreplace", line_buffering=name == "stderr" or alive
            )
            setattr(sys, name, tolerant)


def descriptor_is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
