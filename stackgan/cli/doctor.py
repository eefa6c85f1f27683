"""``stackgan doctor``: report what this machine supports and what is missing."""

from __future__ import annotations

import argparse

from stackgan.cli import options

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    from stackgan.tools.doctor import doctor

    return doctor(**vars(args))
