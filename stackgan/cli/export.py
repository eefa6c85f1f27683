"""``stackgan export``: write a checkpoint as ONNX files."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli.parser import show_defaults

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    meaning = "checkpoint folder, bundled checkpoint, or hub repository user/name"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=meaning)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder; an earlier export there is replaced")
    meaning = "of the generator's weights: fp32; fp16, half the size; int8, a quarter"
    parser.add_argument("--precision", metavar="NAME", help=meaning)
    meaning = "also write a static page that generates in the browser, with the packages of npm in this node_modules"
    parser.add_argument("--page", type=Path, metavar="NODE_MODULES", help=meaning)
    show_defaults(parser, "stackgan.tools.export:export")


def run(args: argparse.Namespace) -> int:
    from stackgan.tools.export import export

    error = export(**vars(args))
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"export in {args.out}, {size / 2**20:.1f} MiB; {error}")
    if "page" in args:
        print(f"page: python -m http.server --bind 127.0.0.1 --directory {args.out}")
    return 0
