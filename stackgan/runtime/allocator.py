"""Keep freed memory in the process: at batch 8 and more, a plain run spends up to half its time in page faults."""

import ctypes
import sys

__all__ = ["keep_pages"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_pages() -> bool:
    """Tell glibc's malloc never to give pages back; for a process of our own (CLI, app), never at import.

    Returns whether it took effect; elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
