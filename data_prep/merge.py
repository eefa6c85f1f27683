"""Merging of prepared folders, such as CUB and own photos, optionally with photos held out for the test."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from data_prep import arguments
from data_prep.folder import KIND as OWN_PHOTOS
from data_prep.writing import hash_share
from stackgan.data.kinds import KINDS
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter

__all__ = ["add_arguments", "prepare_merged"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stackgan prepare merge``: parameters of :func:`prepare_merged`."""
    parser.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="prepared folders of one size")
    arguments.add_out(parser)
    parser.add_argument(
        "--hold-out", type=float, metavar="SHARE", help="share of the training photos to move to the test split"
    )
    arguments.add_seed(parser, "of the choice")
    arguments.add_overwrite(parser)


def prepare_merged(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    hold_out: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> PreparedFolder:
    """Write `out` with the images of all `sources` in order, for each split; embeddings are not copied.

    Args:
        sources: prepared folders of one size, one or more.
        out: the prepared folder to create.
        hold_out: share of the train images that are moved to the test split, selected by a hash of their ids, so that
            the selection does not change when images are added.
        seed: of the selection.
        overwrite: replace a prepared folder at `out`.

    Raises:
        FileNotFoundError, ValueError: a source is not a prepared folder, sizes differ, an id is in two of them, there
            are drawn images, or no photos would be left for training.
        FileExistsError: `out` exists.
    """
    folders = [PreparedFolder.open(source) for source in sources]
    if not folders:
        raise ValueError("nothing to merge: name one prepared folder or more")
    if not 0 <= hold_out < 1:
        raise ValueError(f"--hold-out {hold_out}: must be at least 0 and below 1")
    for folder in folders:
        kind = KINDS[folder.kind]
        if kind.drawn:
            raise ValueError(f"{folder.path}: {kind.title} have their own kind of test split; they cannot be merged")
        if folder.size != folders[0].size:
            raise ValueError(
                f"{folder.path}: prepared for {folder.size} px, {folders[0].path} for {folders[0].size} px; "
                "prepare both with the same --size"
            )
    # The kind whose captions may not be redistributed, if any, so that checkpoints do not contain them as examples.
    restricted = [folder.kind for folder in folders if KINDS[folder.kind].examples]
    parts = [
        {"identity": folder.identity, "kind": folder.kind, "crop": folder.meta["crop"], **folder.meta["source"]}
        for folder in folders
    ]
    source: dict[str, object] = {"merged": parts, "hold_out": hold_out, "seed": seed}
    with PreparedWriter(
        out,
        kind=restricted[0] if restricted else OWN_PHOTOS,
        size=folders[0].size,
        crop="; ".join(dict.fromkeys(str(folder.meta["crop"]) for folder in folders)),
        source=source,
        overwrite=overwrite,
        species_disjoint=not hold_out and all(folder.meta["species_disjoint"] for folder in folders),
    ) as writer:
        for folder in folders:
            for problem in folder.meta["problems"]:
                writer.problem(problem["path"], problem["reason"])
            for name, split in folder.splits.items():
                for image, record in zip(split.images, split.records, strict=True):
                    held = name == "train" and hash_share(seed, record.id) < hold_out
                    writer.add("test" if held else name, image, record)
        if "train" not in writer.split_names:
            raise ValueError(f"--hold-out {hold_out}: leaves no photos for training; lower it")
    return PreparedFolder.open(out)
