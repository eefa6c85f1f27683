"""``stackgan pack``: write a folder as a split archive."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.io.archive:pack")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="prepared folder, run folder or checkpoint")
    parser.add_argument(
        "pieces", type=Path, metavar="ARCHIVE", help="folder for the numbered pieces and their manifest.json"
    )
    parser.add_argument("--limit", type=float, metavar="MIB", help="maximum size of a piece, in MiB")
    parser.add_argument("--only", metavar="NAME,NAME", help="names in FOLDER, such as checkpoint (default: all)")


def run(args: argparse.Namespace) -> int:
    from stackgan.io.archive import MIB, pack

    given = dict(vars(args))
    if "limit" in given:
        if not 0 < given["limit"] < math.inf:
            raise ValueError(f"--limit {given['limit']:g}: the size of a piece in MiB must be above 0")
        given["limit"] = int(given["limit"] * MIB)
    if "only" in given:
        given["only"] = given["only"].split(",")
    packed = pack(**given)
    print(
        f"{packed.count} pieces in {args.pieces}, {packed.size / MIB:.1f} MiB: {packed.written} written, "
        f"{packed.count - packed.written} existed already; copy all of them and manifest.json"
    )
    if packed.left_out:
        print(f"left out as unfinished: {', '.join(packed.left_out)}")
    return 0
