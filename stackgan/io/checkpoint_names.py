"""Names of checkpoints: :func:`find_checkpoint` resolves them for the command line, the pipeline and the app.

The checkpoints of the repository are in ``checkpoints/``. The wheel has those that may be redistributed with the
package, in ``stackgan/bundled/`` (the mapping is in pyproject.toml).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from stackgan.io.hub import snapshot

__all__ = ["CHECKPOINT_FILES", "bundled_checkpoints", "checkpoint_title", "default_checkpoint", "find_checkpoint"]

# Files of a checkpoint on the hub that are downloaded: tensors, JSON and plain text, no code and no pickles.
CHECKPOINT_FILES = ("*.json", "*.safetensors", "README.md", "text/*.txt")
REQUIRED = ("config.json", "model.safetensors")
PREFERRED = ("birds-256", "painted-64")  # defaults; the first that is bundled
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@cache
def bundled_checkpoints() -> dict[str, Path]:
    """Folders of the bundled checkpoints by name: those of the repository in a clone, else those of the wheel."""
    package = Path(__file__).resolve().parents[1]
    clone = package.parent
    folder = clone / "checkpoints" if (clone / "pyproject.toml").is_file() else package / "bundled"
    return {file.parent.name: file.parent for file in sorted(folder.glob("*/config.json"))}


def default_checkpoint() -> str:
    """Name of the checkpoint that is used where none is given: birds-256 in a clone, painted-64 in a wheel."""
    bundled = bundled_checkpoints()
    return next((name for name in PREFERRED if name in bundled), PREFERRED[-1])


def find_checkpoint(name: str | Path, revision: str | None = None) -> Path:
    """Folder of a checkpoint, by the first of these that exists:

    1. a folder at the path ``name``;
    2. a bundled checkpoint of this name (``painted-64``; in a clone also ``birds-256``, …);
    3. the hub repository ``user/name`` in the local cache;
    4. the hub repository, which is downloaded: safetensors, JSON and text files only.

    A cached repository is not compared with the hub; name a commit as ``revision`` for another state of it.

    Args:
        revision: branch, tag or commit of a hub repository.

    Raises:
        FileNotFoundError: none of these exists; the message lists what was tried.
        ValueError: a revision of a folder or bundled checkpoint.
    """
    path, bundled = Path(name).expanduser(), bundled_checkpoints()
    found = path if path.is_dir() else bundled.get(str(name))
    if found is not None:
        if revision is not None:
            raise ValueError(f"{name}: is the folder {found}, which has no revision {revision!r}: leave it out")
        return found
    tried = ["no such folder", f"no bundled checkpoint of this name ({', '.join(bundled) or 'there are none'})"]
    if HUB_NAME.fullmatch(str(name)) and not path.parent.is_dir():
        try:
            return _of_hub(str(name), revision)
        except FileNotFoundError as error:
            tried.append(f"not available from the hub ({str(error).rstrip('.')})")
    raise FileNotFoundError(
        f"{name}: no checkpoint found: {', '.join(tried)}; give a checkpoint folder such as RUN/checkpoint, "
        "the name of a bundled checkpoint, or a hub repository user/name"
    )


def checkpoint_title(name: str | Path) -> str:
    """Name of a checkpoint to show: without folders and user; that of the run for its folder ``checkpoint``.

    >>> checkpoint_title("birds-256"), checkpoint_title("user/birds"), checkpoint_title("RUN-256/checkpoint")
    ('birds-256', 'birds', 'RUN-256')
    """
    folder = Path(name).expanduser()
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    return folder.parent.name if folder.name == "checkpoint" and folder.parent.name else folder.name


def _of_hub(repository: str, revision: str | None) -> Path:
    try:
        folder = snapshot(repository, allow=CHECKPOINT_FILES, revision=revision, cached=True)
        if all((folder / file).is_file() for file in REQUIRED):
            return folder
    except FileNotFoundError:
        pass  # not in the cache
    folder = snapshot(repository, allow=CHECKPOINT_FILES, revision=revision)
    for file in REQUIRED:
        if not (folder / file).is_file():
            raise FileNotFoundError(f"the repository has no {file}, so it is not a checkpoint of this program")
    return folder
