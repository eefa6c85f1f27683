"""``stackgan completion``: a completion script for a shell, which needs no program at completion time."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from stackgan.cli.parser import Parser

__all__ = ["SHELLS", "add_arguments", "run"]

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=SHELLS, help='shell that the script is for; bash: eval "$(stackgan completion bash)"'
    )


def run(args: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(_whole_parser(), args.shell))
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """A parser of all commands, with the values of presets, keys and bundled checkpoints as choices."""
    import shtab

    from stackgan.cli.main import COMMANDS, command_parser
    from stackgan.config import PRESETS, Config
    from stackgan.config.listing import config_keys
    from stackgan.io.checkpoint_names import bundled_checkpoints

    choices = {
        "preset": list(PRESETS),
        "overrides": [f"{key.name}=" for key in config_keys(Config())],
        "checkpoint": list(bundled_checkpoints()),
    }
    whole = Parser(prog="stackgan")
    whole.add_argument("--version", action="store_true", help="show the version")
    commands = whole.add_subparsers(dest="command")
    for name, (_, summary) in COMMANDS.items():
        own = command_parser(name)
        commands.add_parser(name, help=summary, parents=[own], add_help=False)
    for action in _actions(whole):
        if action.choices is None and action.dest in choices:
            action.choices = choices[action.dest]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return whole


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
