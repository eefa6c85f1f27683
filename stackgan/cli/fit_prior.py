"""``stackgan fit-prior``: fit flow priors to a trained checkpoint, without changing its generator."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.training.fit_prior:fit_prior")
    options.add_overrides(parser, "change one key of latent, such as latent.family=nsf")
    options.add_checkpoint(parser, required=True)
    options.add_data(parser, "prepared folder that the checkpoint was trained on")
    options.add_out(parser, "folder of the checkpoint to write", required=True)
    parser.add_argument("--steps", type=int, metavar="N", help="optimisation steps per flow")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.training.fit_prior import fit_prior

    return fit_prior(**vars(args))
