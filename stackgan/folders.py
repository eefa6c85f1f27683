"""A finished folder takes the place of another, whole or not at all."""

import shutil
from pathlib import Path

__all__ = ["replace_folder"]


def replace_folder(new: Path, target: Path, old: Path) -> None:
    """Give ``new`` the name ``target``; what stands there waits as ``old``, and comes back if that fails.

    All three lie on one file system, and ``old`` does not exist.
    """
    if target.exists():
        target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
