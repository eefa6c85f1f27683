"""Limits of the process, for tests of what happens when the disk is full."""

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["largest_file"]


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within the context, this process cannot write beyond ``size`` bytes of any file: a write fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
