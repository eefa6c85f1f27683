"""``stackgan evaluate``: measure a checkpoint and write a report."""

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
        help="FID, KID and Inception score: auto downloads the weights once, FILE names them",
    )
    options.add_features(parser, "a feature network: the same distances under its own name")
    parser.add_argument(
        "--flip-reference", action="store_true", help="count mirror images of the photos as reference photos"
    )
    parser.add_argument(
        "--scorer",
        "--judge",
        type=Path,
        metavar="FOLDER",
        help="image-text scorer for R-precision: a compact encoder trained apart (default: one is trained)",
    )
    parser.add_argument("--clip", metavar="MODEL", help="folder or hub name of a CLIP model, for the CLIP score")
    parser.add_argument(
        "--hide-captions",
        action="store_true",
        help="show only the colours that captions name, for data whose captions may not be redistributed",
    )
    options.add_truncation(parser, "noise scale of the measured images, whatever the checkpoint recommends")
    parser.add_argument(
        "--out-of-domain",
        "--unlike",
        type=Path,
        metavar="FILE",
        help="text file of out-of-domain captions, one a line: how well log p(c) detects them",
    )
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.evaluation.evaluate import evaluate
    from stackgan.evaluation.settings import EvaluationSettings

    given = dict(vars(args))
    checkpoint, data, out = (given.pop(name) for name in ("checkpoint", "data", "out"))
    return evaluate(checkpoint, data, out, EvaluationSettings(**given))
