"""Merging of prepared folders, such as CUB and own photos, optionally with photos held out for the test."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from data_prep import arguments
from data_prep.folder import KIND as OWN_PHOTOS
from data_prep.writing import hash_share
from stackgan.data.format import Record
from stackgan.data.kinds import KINDS
from stackgan.data.prepared import PreparedFolder
from stackgan.data.writer import PreparedWriter
from stackgan.io.digests import DigestIndex, digests
from stackgan.io.files import shown_name

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

    An id that several sources have gets the name of its source's folder: `p0.jpg` becomes `camera-a/p0.jpg`.

    Args:
        sources: prepared folders of one size, one or more.
        out: the prepared folder to create.
        hold_out: share of the train images that are moved to the test split, selected by a hash of their ids in the
            sources, so that the selection does not change when images are added.
        seed: of the selection.
        overwrite: replace a prepared folder at `out`.

    Raises:
        FileNotFoundError, ValueError: a source is not a prepared folder, sizes differ, two sources are the same,
            there are drawn images, or no photos would be left for training.
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
    _check_different(folders)
    names = _new_ids(folders)
    # The kind whose captions may not be redistributed, if any, so that checkpoints do not contain them as examples.
    restricted = [folder.kind for folder in folders if KINDS[folder.kind].examples]
    parts = [
        {"identity": folder.identity, "kind": folder.kind, "crop": folder.meta["crop"], **folder.meta["source"]}
        for folder in folders
    ]
    source: dict[str, object] = {"merged": parts, "hold_out": hold_out, "seed": seed}
    source["renamed"] = sum(map(len, names))
    shared = _species_in_several_splits(folders)
    source["species_in_several_splits"] = len(shared)
    with PreparedWriter(
        out,
        kind=restricted[0] if restricted else OWN_PHOTOS,
        size=folders[0].size,
        crop="; ".join(dict.fromkeys(str(folder.meta["crop"]) for folder in folders)),
        source=source,
        overwrite=overwrite,
        species_disjoint=not hold_out and not shared and all(folder.meta["species_disjoint"] for folder in folders),
    ) as writer:
        for folder, new in zip(folders, names, strict=True):
            for problem in folder.meta["problems"]:
                writer.problem(problem["path"], problem["reason"])
            for name, split in folder.splits.items():
                for image, record in zip(split.images, split.records, strict=True):
                    held = name == "train" and hash_share(seed, record.id) < hold_out
                    renamed = replace(record, id=new.get(record.id, record.id))
                    writer.add("test" if held else name, image, renamed)
        if "train" not in writer.split_names:
            raise ValueError(f"--hold-out {hold_out}: leaves no photos for training; lower it")
    return PreparedFolder.open(out)


def _check_different(folders: Sequence[PreparedFolder]) -> None:
    """Raise for a source that is given twice: its photos would be in the result twice, perhaps in two splits."""
    first: dict[str, PreparedFolder] = {}
    for folder in folders:
        other = first.setdefault(folder.identity, folder)
        if other is not folder:
            raise ValueError(f"{folder.path}: holds the same data as {other.path}; name each source once")


def _species_in_several_splits(folders: Sequence[PreparedFolder]) -> set[str]:
    """Species that are in one split of a folder and in another split of another folder."""
    homes: dict[str, str] = {}
    return {
        record.species
        for folder in folders
        for name, split in folder.splits.items()
        for record in split.records
        if record.species is not None and homes.setdefault(record.species, name) != name
    }


def _new_ids(folders: Sequence[PreparedFolder]) -> list[dict[str, str]]:
    """For each source the ids that others have too, with their new ids, which begin with the source's name.

    Of sources of the same name, or if a new id exists already, the names get the number of the source.
    """
    every = DigestIndex(digests(record.id for records in _records(folders) for record in records))
    labels = [shown_name(folder.path.resolve().name) for folder in folders]
    if not len(every.repeated()):
        return [{} for _ in folders]
    while True:
        new = [
            {record.id: f"{label}/{record.id}" for record in records if len(every.find(record.id)) > 1}
            for label, records in zip(labels, _records(folders), strict=True)
        ]
        renamed = (
            names.get(record.id, record.id)
            for names, records in zip(new, _records(folders), strict=True)
            for record in records
        )
        if not len(DigestIndex(digests(renamed)).repeated()):
            return new
        labels = [f"{label}-{number}" for number, label in enumerate(labels, 1)]


def _records(folders: Sequence[PreparedFolder]) -> Iterator[Iterator[Record]]:
    """The records of each folder, split after split."""
    return (chain.from_iterable(split.records for split in folder.splits.values()) for folder in folders)
