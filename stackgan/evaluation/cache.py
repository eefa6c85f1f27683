"""Where evaluation keeps what it computes about a prepared folder.

    PREPARED/cache/evaluation/README.md                                    what the folder is
    PREPARED/cache/evaluation/features/<split>/<network>-….safetensors     features of the split's photos
    PREPARED/cache/evaluation/image-text-scorer/                           a dual encoder trained on the train split
    PREPARED/cache/evaluation/attribute-classifier.safetensors             of painted birds

Nothing there is needed: what is missing is computed again. What belongs to one report is in REPORT/cache.
"""

import contextlib
import warnings
from pathlib import Path

from stackgan.io.files import write_atomic

__all__ = ["evaluation_cache", "keep"]

README = """# Cache of `stackgan evaluate`

Everything in this folder was computed from the prepared folder around it, by `stackgan evaluate` or by the small
evaluations of `stackgan train`. It may be deleted at any time; what is missing is computed again when it is needed.

| | |
|---|---|
| `features/<split>/` | features of the split's photos, by feature network |
| `image-text-scorer/` | a dual encoder trained on the train split, for R-precision |
| `attribute-classifier.safetensors` | a network that classifies colours, pose and background of painted birds |
"""


def evaluation_cache(prepared: Path) -> Path:
    """PREPARED/cache/evaluation, made with its README.md if the prepared folder can be written to."""
    folder = prepared / "cache" / "evaluation"
    readme = folder / "README.md"
    with contextlib.suppress(OSError):
        if not readme.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(readme, README.encode())
    return folder


def keep(file: Path, content: bytes) -> None:
    """Write a file of a cache; warns where that is not possible, which is no reason not to measure."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:
        message = f"{file.parent}: cannot be written to ({error}); computed again next time"
        warnings.warn(message, stacklevel=3)
