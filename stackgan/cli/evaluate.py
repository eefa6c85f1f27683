"""``stackgan evaluate``: evaluate a checkpoint and write a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.evaluation.settings:EvaluationSettings")
    options.add_checkpoint(parser)
    options.add_data(parser)
    options.add_out(parser, "folder of the report; resumable", required=True)
    parser.add_argument("--split", metavar="NAME", help="split of the prepared folder")
    parser.add_argument("--num", type=int, dest="count", metavar="N", help="images to generate")
    options.add_seed(parser, "of the images and of every random choice")
    parser.add_argument(
        "--inception",
        metavar="auto|FILE",
        help="FID, KID and Inception score: auto downloads the weights once; or the FILE of the weights",
    )
    options.add_features(
        parser,
        "the same distances in a feature network: a name of torchvision, a timm model user/name, or a folder",
    )
    parser.add_argument(
        "--flip-reference", action="store_true", help="include mirror images of the photos as reference photos"
    )
    parser.add_argument(
        "--scorer",
        "--judge",
        type=Path,
        metavar="FOLDER",
        help="image-text scorer for R-precision: an independent compact encoder (default: one is trained)",
    )
    parser.add_argument("--clip", metavar="MODEL", help="folder or hub name of a CLIP model, for the CLIP score")
    parser.add_argument(
        "--hide-captions",
        action="store_true",
        help="show only the colours in captions, for data whose captions may not be redistributed",
    )
    options.add_truncation(parser, "noise scale of the evaluated images; the checkpoint's recommendation is not used")
    parser.add_argument(
        "--out-of-domain",
        "--unlike",
        type=Path,
        metavar="FILE",
        help="text file of out-of-domain captions, one per line, to be detected by log p(c)",
    )
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.evaluation.evaluate import evaluate
    from stackgan.evaluation.settings import EvaluationSettings

    given = dict(vars(args))
    checkpoint, data, out = (given.pop(name) for name in ("checkpoint", "data", "out"))
    return evaluate(checkpoint, data, out, EvaluationSettings(**given))
