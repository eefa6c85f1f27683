"""Whether ``torch.compile`` can work on a processor: it calls the machine's C++ compiler."""

from __future__ import annotations

import os
import shutil

__all__ = ["cpp_compiler", "need_compiler"]


def cpp_compiler() -> str | None:
    """The path of the C++ compiler that PyTorch would call: ``$CXX``, or the first of the usual ones."""
    named = os.environ.get("CXX")
    found = (shutil.which(name) for name in ([named] if named else ["g++", "clang++", "cl"]))
    return next((path for path in found if path), None)


def need_compiler(what: str, instead: str) -> None:
    """Raise ``ValueError`` where there is none: ``what`` was asked for, ``instead`` is what to do without."""
    if cpp_compiler() is None:
        looked_for = os.environ.get("CXX") or "g++, clang++"
        raise ValueError(f"{what} and no C++ compiler was found ({looked_for}): install one, or {instead}")
