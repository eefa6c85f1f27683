"""``stackgan app`` and ``python app.py``: start the web page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stackgan.cli import options
from stackgan.cli.parser import show_defaults
from stackgan.cli.streams import tolerant_streams
from stackgan.io.checkpoint_names import default_checkpoint

__all__ = ["add_arguments", "main", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.app.server:serve")
    meaning = "checkpoint folder, bundled checkpoint, or hub repository user/name; may be repeated"
    default = f"(default: all bundled ones, {default_checkpoint()} first)"
    parser.add_argument("--checkpoint", action="append", metavar="NAME", help=f"{meaning} {default}")
    default = "(default: GRADIO_SERVER_NAME, else 127.0.0.1, or 0.0.0.0 in a Hugging Face Space)"
    parser.add_argument("--host", help=f"address to listen on {default}")
    default = "(default: GRADIO_SERVER_PORT, else 7860)"
    parser.add_argument("--port", type=int, help=f"port to listen on {default}")
    parser.add_argument("--share", action="store_true", help="open a public link through Gradio's servers too")
    meaning = "let only this user in; others on this machine can read the password in the list of processes"
    parser.add_argument("--auth", metavar="USER:PASSWORD", help=meaning)
    meaning = "let only these users in: a file with USER:PASSWORD on each line"
    parser.add_argument("--auth-file", type=Path, metavar="FILE", help=meaning)
    meaning = "path under which a reverse proxy serves the page, such as /birds"
    parser.add_argument("--root-path", metavar="PATH", help=meaning)
    meaning = "offer the page's functions as tools of the Model Context Protocol too (extra mcp)"
    parser.add_argument("--mcp", action="store_true", help=meaning)
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
