"""``stackgan edit``: reconstruct a photo, and generate it with other captions."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.generation.edit:edit")
    parser.add_argument("photo", type=Path, help="an image file; its central square is used")
    parser.add_argument("caption", help="caption of the photo")
    parser.add_argument(
        "new_captions", nargs="*", default=[], metavar="NEW", help="captions to edit to (none: reconstruct only)"
    )
    options.add_checkpoint(parser, options.PHOTO_CHECKPOINT)
    options.add_out(parser, "folder for the PNGs")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.generation.edit import edit

    options.print_images(edit(**vars(args)))
    return 0
