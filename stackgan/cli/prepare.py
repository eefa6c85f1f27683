"""``stackgan prepare KIND``: create a prepared folder and print a report."""

from __future__ import annotations

import argparse
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

from data_prep import KINDS
from stackgan.cli.parser import show_defaults
from stackgan.data.kinds import KINDS as DATA_KINDS
from stackgan.data.prepared import PreparedFolder

__all__ = ["add_arguments", "report", "run"]

LONGEST = 400  # characters of a line about a problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of data sets, each with the arguments of its module."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, (function, summary) in KINDS.items():
        kind = kinds.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        show_defaults(kind, function)
        import_module(function.partition(":")[0]).add_arguments(kind)


def run(args: argparse.Namespace) -> int:
    """Prepare and print the report; returns 0, or 1 if some inputs could not be used, which are listed.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: nothing was prepared.
    """
    given = dict(vars(args))
    module, _, function = KINDS[given.pop("kind")][0].partition(":")
    with _terminable():
        getattr(import_module(module), function)(**given)
    folder = PreparedFolder.open(args.out)
    print("\n".join(report(folder)))
    return 1 if folder.meta["problems"] else 0


def report(folder: PreparedFolder) -> list[str]:
    """Lines of the report of a preparation: counts, all problems, and the next command."""
    meta: dict[str, Any] = folder.meta
    source = meta["source"]
    lines = [f"{folder.path}: {folder.kind}, {folder.size} px, stored at {folder.load_side} x {folder.load_side}"]
    if "photos_listed" in source:
        lines.append(f"photos found: {source['photos_found']:,} of {source['photos_listed']:,}")
    elif "photos_found" in source:
        lines.append(f"photos found: {source['photos_found']:,}")
    for name in dict.fromkeys(("train", "test", *meta["splits"])):
        facts = meta["splits"].get(name)
        if facts is None:
            lines.append(f"{name}: no photos")
            continue
        line = f"{name}: {facts['images']:,} photos, {facts['captions']:,} captions"
        line += f", {facts['species']:,} species" if facts["species"] else ""
        line += "".join(f", embeddings {embeddings}" for embeddings in facts["embeddings"])
        lines.append(line)
    lines += _split_lines(source)
    if source.get("not_square"):
        lines.append(f"not square: {source['not_square']:,} photos, made square by --fit {source['fit']}")
    if source.get("enlarged"):
        lines.append(f"enlarged: {source['enlarged']:,} photos, smaller than {folder.load_side} px")
    if source.get("renamed"):
        lines.append(f"ids with their folder's name, as several folders have them: {source['renamed']:,}")
    if source.get("species_in_several_splits"):
        lines.append(f"species in several splits, as the folders have them: {source['species_in_several_splits']:,}")
    if source.get("photos_in_several_splits"):
        shared = source["photos_in_several_splits"]
        lines.append(f"photos with the same pixels in several splits: {shared['count']:,}; keep each in one of them:")
        lines += [_cut(f"  {example}") for example in shared["examples"]]
    if source.get("not_read"):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in source["not_read"].items())
        lines.append(f"other files, not read: {kinds}")
    if source.get("links_read_once"):
        lines.append(f"links to folders that are read under another name: {', '.join(source['links_read_once'])}")
    lines.append(f"problems: {len(meta['problems']):,}")
    lines += [_cut(f"  {problem['path']}: {problem['reason']}") for problem in meta["problems"]]
    lines.append(f"next: {_next_command(folder)}")
    return lines


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _split_lines(source: Mapping[str, Any]) -> list[str]:
    """How the photos were split, for own photos."""
    if "split_names" in source:
        given = "; ".join(f"{split}: {', '.join(names)}" for split, names in source["split_names"].items())
        return [f"split: given by {source['split']} ({given})"]
    if "test_fraction" in source:
        return [f"split: by {source['split']}, {source['test_fraction']:g} of the photos for the test"]
    return []


def _next_command(folder: PreparedFolder) -> str:
    preset = DATA_KINDS[folder.kind].preset
    words = ["stackgan", "train", "--data", str(folder.path), "--run", "RUN", "--preset", preset]
    stages = (folder.size // 64).bit_length()
    if stages > 1:
        words.append(f"tree.stages={stages}")
    if not any(split.captions for split in folder.splits.values()):
        words.append("text.encoder=none")
    return shlex.join(words)


@contextmanager
def _terminable() -> Iterator[None]:
    """Context in which SIGTERM raises an exception, so that the incomplete folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
