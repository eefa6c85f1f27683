"""``stackgan average``: average the weights of several checkpoints of one run."""

from __future__ import annotations

import argparse

from stackgan.cli import options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT", help="two or more, such as RUN/best RUN/checkpoint"
    )
    options.add_data(parser, "prepared folder that the run was trained on")
    options.add_out(parser, "folder of the checkpoint to write", required=True)
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.tools.average import average

    average(**vars(args))
    print(f"checkpoint in {args.out}")
    return 0
