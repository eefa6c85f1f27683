"""``stackgan convert``: import the published StackGAN-v2 weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli import options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("netg", type=Path, help="netG_<count>.pth, or the ZIP that contains it")
    parser.add_argument(
        "--netd",
        type=Path,
        nargs="*",
        default=[],
        help="netD0.pth …: the discriminators, stored in the checkpoint for training",
    )
    options.add_out(parser, "folder of the checkpoint to write", required=True)


def run(args: argparse.Namespace) -> int:
    from stackgan.tools.convert import convert

    convert(**vars(args))
    print(f"checkpoint in {args.out}")
    return 0
