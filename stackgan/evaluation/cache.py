"""Cache of evaluation results that depend only on a prepared folder.

    PREPARED/cache/evaluation/README.md                                    description of the folder
    PREPARED/cache/evaluation/features/<split>/<network>-….safetensors     features of the split's photos
    PREPARED/cache/evaluation/image-text-scorer/                           a dual encoder trained on the train split
    PREPARED/cache/evaluation/attribute-classifier.safetensors             for painted birds

Missing files are computed again. Files that depend on a checkpoint are in REPORT/cache.
"""

import contextlib
import warnings
from pathlib import Path

from stackgan.io.files import write_atomic

__all__ = ["evaluation_cache", "keep"]

README = """# Cache of `stackgan evaluate`

These files were computed from the prepared folder by `stackgan evaluate` or by evaluations during
`stackgan train`. The folder may be deleted at any time; missing files are computed again when needed.

| | |
|---|---|
| `features/<split>/` | features of the split's photos, by feature network |
| `image-text-scorer/` | a dual encoder trained on the train split, for R-precision |
| `attribute-classifier.safetensors` | a network that classifies colours, pose and background of painted birds |
"""


def evaluation_cache(prepared: Path) -> Path:
    """PREPARED/cache/evaluation, created with its README.md if the prepared folder is writable."""
    folder = prepared / "cache" / "evaluation"
    readme = folder / "README.md"
    with contextlib.suppress(OSError):
        if not readme.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(readme, README.encode())
    return folder


def keep(file: Path, content: bytes) -> None:
    """Write a file of a cache; on an error only warns, as the evaluation does not need the cache."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:
        message = f"{file.parent}: cannot be written to ({error}); results will be computed again"
        warnings.warn(message, stacklevel=3)
