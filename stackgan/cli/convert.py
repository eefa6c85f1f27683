"""``stackgan convert``: import the published StackGAN-v2 weights, or write a checkpoint in their format."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli import options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    meaning = "netG_<count>.pth, or the ZIP that contains it; or a checkpoint folder, to write it in that format"
    parser.add_argument("netg", type=Path, metavar="WEIGHTS", help=meaning)
    parser.add_argument(
        "--netd",
        type=Path,
        nargs="*",
        default=[],
        help="netD0.pth …: the discriminators, stored in the checkpoint for training",
    )
    meaning = "prepared folder with char-CNN-RNN embeddings: train a caption encoder that predicts them"
    parser.add_argument("--text-from", type=Path, metavar="DATA", help=meaning)
    options.add_out(parser, "folder to write: a checkpoint, or netG_<count>.pth, netD0.pth … of one", required=True)


def run(args: argparse.Namespace) -> int:
    from stackgan.tools.convert import convert, convert_back

    if args.netg.is_dir():
        if args.netd or "text_from" in args:
            raise ValueError(f"{args.netg}: a checkpoint has all parts in it: leave --netd and --text-from out")
        convert_back(args.netg, args.out)
        print(f"published format in {args.out}")
        return 0
    convert(**vars(args))
    print(f"checkpoint in {args.out}")
    return 0
