"""``stackgan publish``: write a checkpoint for distribution."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli import options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="RUN/checkpoint, RUN/best, or another")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder; an existing model card and images are kept")
    parser.add_argument(
        "--full", action="store_false", dest="half", help="keep float32: twice the size, nearly the same images"
    )
    options.add_truncation(parser, "recommended noise scale, from 0 to 2 (default: unchanged)")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="example captions for the app")
    parser.add_argument(
        "--discriminators", type=Path, metavar="RUN", help="include the discriminators of RUN, for further training"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="prepared folder with the training captions, for warnings of out-of-domain captions "
        "(default: the statistics that CHECKPOINT has)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="report of `evaluate` on CHECKPOINT: its figures go into the card",
    )
    parser.add_argument("--push", metavar="USER/NAME", help="upload OUT to this repository of the model hub")


def run(args: argparse.Namespace) -> int:
    from stackgan.tools.publish import publish

    size = publish(**vars(args))
    print(f"checkpoint in {args.out}, {size / 2**20:.1f} MiB")
    if "push" in args:
        print(f"uploaded; load it with --checkpoint {args.push}")
    return 0
