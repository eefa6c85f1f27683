"""Files that records are appended to, each completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["AppendedFile"]


class AppendedFile:
    """A file opened for appending, without a buffer.

    A record that does not fit on the disk leaves the file as it was; it waits in memory and is written before the
    next one.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.waiting = path, b""
        self._file = path.open("ab", buffering=0)

    def append(self, record: bytes, *, keep: bool = True) -> None:
        """Append ``record``, after those that wait.

        Args:
            keep: whether ``record`` waits if it cannot be written; otherwise it is lost.

        Raises:
            OSError: it was not written, for example as the disk is full.
        """
        earlier, self.waiting = self.waiting, self.waiting + record
        descriptor = self._file.fileno()
        end = os.fstat(descriptor).st_size
        left = memoryview(self.waiting)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            os.ftruncate(descriptor, end)
            if not keep:
                self.waiting = earlier
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.waiting = b""

    def sync(self) -> None:
        """Write what waits, and wait until the file is on the disk.

        Raises:
            OSError: it could not be written.
        """
        self.append(b"")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
