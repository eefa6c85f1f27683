"""``stackgan app`` and ``python app.py``: start the web page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from stackgan.cli import options
from stackgan.cli.parser import show_defaults
from stackgan.cli.streams import tolerant_streams

__all__ = ["add_arguments", "main", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.app.server:serve")
    options.add_checkpoint(parser)
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; the errors are those of :func:`stackgan.app.server.serve`."""
    from stackgan.app.server import serve

    serve(**vars(args))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The program app.py; returns the exit code, 2 for invalid input."""
    from stackgan.cli.main import run_command

    if arguments is None:
        tolerant_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("app", words, prog="app.py")
