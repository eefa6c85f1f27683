"""``stackgan fit-realism``: fit a network that chooses among candidates (``--best-of``) to a trained checkpoint."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.training.fit_realism:fit_realism")
    options.add_checkpoint(parser, required=True)
    options.add_data(parser, "prepared folder that the checkpoint was trained on")
    options.add_out(parser, "folder of the checkpoint to write", required=True)
    meaning = "image classifier that measures realism: efficientnet-lite0, a name of torchvision, or a folder"
    parser.add_argument("--features", metavar="NAME", help=meaning)
    parser.add_argument("--images", type=int, metavar="N", help="images to generate and measure, 8 a caption")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over these images")
    options.add_seed(parser, "of captions, images and the network's first weights")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.training.fit_realism import fit_realism

    return fit_realism(**vars(args))
