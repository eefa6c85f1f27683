"""``stackgan app``: start the web page."""

from __future__ import annotations

import argparse
from importlib import import_module

from stackgan.cli import options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_checkpoint(parser)
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", help="port to listen on")
    options.add_device(parser)


def run(args: argparse.Namespace) -> int:
    try:
        app = import_module("app")
    except ModuleNotFoundError:
        raise ValueError("the web page is app.py of the repository: start it in a clone") from None
    return int(app.main([f"--{name}={value}" for name, value in vars(args).items()]))
