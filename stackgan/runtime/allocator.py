"""Allocator settings: at batch sizes from 8, up to half of the time is otherwise spent in page faults."""

import ctypes
import sys

__all__ = ["keep_pages"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_pages() -> bool:
    """Set glibc's malloc not to return freed pages to the system; for the CLI and the app, never at import.

    Returns whether it took effect; without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
