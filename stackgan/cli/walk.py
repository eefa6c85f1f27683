"""``stackgan walk``: interpolate between two captions or two seeds, as a video."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.generation.interpolation:interpolate")
    parser.add_argument("captions", nargs=2, metavar="CAPTION", help="first and last caption")
    options.add_checkpoint(parser)
    options.add_out(parser, "video to write, .gif, .webp or .mp4")
    options.add_seeds(parser, "from,to")
    parser.add_argument("--frames", type=int, metavar="N", help="number of images, including both ends")
    parser.add_argument("--seconds", type=float, metavar="S", help="duration from the first image to the last")
    options.add_truncation(parser)
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    given = options.with_seeds(args)
    if "seeds" in given and len(given["seeds"]) != 2:
        raise ValueError(f"--seeds {args.seeds!r}: an interpolation is between two seeds, such as 3,8")
    from stackgan.generation.interpolation import interpolate

    print(", ".join(map(str, interpolate(**given))))
    return 0
