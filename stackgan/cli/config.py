"""``stackgan config``: the keys of a configuration, with types, values and meanings."""

from __future__ import annotations

import argparse

from stackgan.cli import options
from stackgan.config import DEFAULT_PRESET, PRESETS

__all__ = ["FORMATS", "add_arguments", "run"]

FORMATS = ("text", "json", "yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "preset",
        nargs="?",
        default=DEFAULT_PRESET,
        metavar="PRESET",
        help=f"{', '.join(PRESETS)} (default: {DEFAULT_PRESET})",
    )
    options.add_overrides(parser, "change one key of the configuration")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="text, with meanings; yaml or json: a file for train --config (default: text)",
    )


def run(args: argparse.Namespace) -> int:
    from stackgan.config import preset
    from stackgan.config.listing import as_text, as_yaml

    config = preset(args.preset, args.overrides)
    write = {"text": as_text, "yaml": as_yaml, "json": lambda config: config.to_json()}[args.format]
    print(write(config), end="")
    return 0
