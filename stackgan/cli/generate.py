"""``stackgan generate``: images for captions given on the command line."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.generation.generate:generate")
    parser.add_argument(
        "captions", nargs="*", default=[], metavar="CAPTION", help="none for a checkpoint trained without text"
    )
    options.add_generation(parser, "one image per caption and seed, such as 0-7 or 1,5,9")
    options.add_size(parser)
    options.add_best_of(parser)
    options.add_batch_size(parser)
    options.add_precision(parser)
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    given = options.with_seeds(args)
    from stackgan.generation.generate import generate

    options.print_images(generate(**given))
    return 0
