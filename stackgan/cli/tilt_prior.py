"""``stackgan tilt-prior``: tilt the style prior of a trained checkpoint toward realistic images."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.training.tilt_prior:tilt_prior")
    options.add_checkpoint(parser, required=True)
    options.add_data(parser, "prepared folder that the checkpoint was trained on, for its captions")
    options.add_out(parser, "folder of the checkpoint to write", required=True)
    parser.add_argument("--images", type=int, metavar="N", help="images to generate for the fit")
    meaning = "weight of the images' score against the divergence from N(0, I): larger is better and less varied"
    parser.add_argument("--strength", type=float, metavar="X", help=meaning)
    options.add_seed(parser, "of captions, images and the networks' first weights")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.training.tilt_prior import tilt_prior

    return tilt_prior(**vars(args))
