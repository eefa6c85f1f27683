"""Requirements of ``torch.compile``: a C++ compiler on a CPU, and the setting that freezes weights."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext

__all__ = ["cpp_compiler", "frozen_weights", "need_compiler"]


def cpp_compiler() -> str | None:
    """Path of the C++ compiler that PyTorch would call: ``$CXX``, or the first of the usual ones; None if missing."""
    named = os.environ.get("CXX")
    found = (shutil.which(name) for name in ([named] if named else ["g++", "clang++", "cl"]))
    return next((path for path in found if path), None)


def need_compiler(what: str, instead: str) -> None:
    """Raise ``ValueError`` if there is no compiler, naming the request ``what`` and the alternative ``instead``."""
    if cpp_compiler() is None:
        looked_for = os.environ.get("CXX") or "g++, clang++"
        raise ValueError(f"{what} and no C++ compiler was found ({looked_for}): install one, or {instead}")


def frozen_weights() -> AbstractContextManager[object]:
    """Context in which ``torch.compile`` treats weights as constants, if PyTorch has this private setting."""
    try:
        from torch._inductor import config
    except ImportError:
        return nullcontext()
    return config.patch(freezing=True) if hasattr(config, "freezing") else nullcontext()
