"""``stackgan batch``: images for every line of a captions file."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from stackgan.cli import options
from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.generation.batch:batch")
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=None,
        help="captions.txt (one per line), .jsonl or .csv (caption, seed, count), or - for the standard input",
    )
    options.add_checkpoint(parser)
    options.add_out(parser, "folder for the PNGs and manifest.jsonl", required=True)
    parser.add_argument("--count", type=int, metavar="N", help="images per caption")
    options.add_seed(parser, "determines the seeds of all images")
    options.add_truncation(parser)
    options.add_size(parser)
    options.add_best_of(parser)
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="generate the I-th of N parts, to divide a file among machines; each part has its own --out",
    )
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        metavar="PART",
        help="instead of generating: join the folders of all parts in --out, as one call would have written it",
    )
    options.add_batch_size(parser)
    options.add_precision(parser)
    options.add_device(parser)
    parser.add_argument(
        "--compile",
        action="store_true",
        dest="compiled",
        help="use torch.compile for the generator: worthwhile for thousands of images on a GPU, not on a CPU",
    )


def run(args: argparse.Namespace) -> int:
    if hasattr(args, "merge"):
        return _merge(args)
    if args.file is None:
        raise ValueError("name a captions file, or the folders to join with --merge")
    from stackgan.generation.batch import batch

    if str(args.file) != "-":
        return batch(**vars(args))
    with tempfile.TemporaryDirectory(prefix="stackgan-batch-") as folder:
        content = _standard_input()
        first = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        args.file = Path(folder) / ("stdin.jsonl" if first == b"{" else "stdin.txt")
        args.file.write_bytes(content)
        try:
            return batch(**vars(args))
        except ValueError as error:
            raise ValueError(str(error).replace(str(args.file), "standard input")) from None


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed:  # of services, and after <&-
        raise ValueError("standard input is closed: pipe captions to the command, or name a captions file")
    return sys.stdin.buffer.read()


def _merge(args: argparse.Namespace) -> int:
    from stackgan.generation.merge import merge

    # --checkpoint has a default and is ignored
    given = {name for name, value in vars(args).items() if value is not None}
    others = sorted(given - {"merge", "out", "checkpoint"})
    if others:
        raise ValueError(f"--merge takes no other option than --out; remove {', '.join(others)}")
    return merge(args.merge, out=args.out)
