"""Standard streams that tolerate closed descriptors, closed pipes and encodings without some characters.

The results of commands are files, so they do not depend on printed text. Services and ``pythonw`` start a command
without streams, ``head`` closes its pipe early, a disk that output is redirected to may be full, and a terminal's
encoding may lack characters of a caption. Output is then dropped or escaped, and the command continues.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

from stackgan.io.files import full_disk

__all__ = ["tolerant_streams"]

GONE = {errno.EPIPE, errno.EBADF, errno.EIO, errno.ESHUTDOWN}  # errors of a descriptor that is no longer read


class _Tolerant(io.RawIOBase):
    """Writes to a file descriptor; has no effect once the other end is closed."""

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
            if full_disk(error):
                return view.nbytes
            if error.errno not in GONE:
                raise
            self.gone = True
            return view.nbytes


def tolerant_streams() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by tolerant streams, unless an embedding program has set its own."""
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
