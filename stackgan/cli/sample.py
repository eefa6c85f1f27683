"""``stackgan sample``: images without text."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.generation.edit:sample")
    options.add_generation(parser, "one image per seed, such as 0-7 or 1,5,9")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    given = options.with_seeds(args)
    from stackgan.generation.edit import sample

    options.print_images(sample(**given))
    return 0
