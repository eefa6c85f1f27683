"""``stackgan unpack``: restore a folder from its split archive."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pieces", type=Path, metavar="ARCHIVE", help="folder of the numbered pieces and their manifest.json"
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to create")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace FOLDER if it contains no names that the archive does not"
    )


def run(args: argparse.Namespace) -> int:
    from stackgan.io.archive import unpack

    files = unpack(**vars(args))
    print(f"{files} files in {args.folder}")
    return 0
