"""``stackgan train``: train on a prepared folder, or resume a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stackgan.cli import options
from stackgan.cli.parser import show_defaults
from stackgan.config import PRESETS

if TYPE_CHECKING:
    from stackgan.config import Config
    from stackgan.training.warm_start import InitialisationSource

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.training.loop:train", "stackgan.cli.train:_configuration")
    options.add_overrides(parser, "change one key of the configuration")
    options.add_data(parser)
    parser.add_argument("--run", type=Path, dest="run_folder", metavar="RUN", help="run folder, new or to resume")
    parser.add_argument("--preset", metavar="NAME", help=f"initial configuration: {', '.join(PRESETS)}")
    parser.add_argument(
        "--start-from",
        metavar="RUN|CHECKPOINT",
        help="run folder or checkpoint with the initial weights and configuration, instead of a preset",
    )
    options.add_trust(parser, "execute the feature_net.py of the folder eval.features: only if you trust it")
    options.add_device(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the configuration and exit")
    parser.add_argument(
        "--stop-after",
        type=float,
        metavar="MINUTES",
        help="save and exit after this time, with exit code 3 while the run is not complete",
    )


def run(args: argparse.Namespace) -> int:
    given = dict(vars(args))
    if "stop_after" in given and not given["stop_after"] > 0:
        raise ValueError(f"--stop-after {given['stop_after']:g}: the minutes must be above 0")
    if "run_folder" not in given:
        raise ValueError("--run is missing: name the run folder")
    if "start_from" in given and "preset" in given:
        raise ValueError("--start-from has its own configuration: use section.key=value for changes, not --preset")
    chosen = {name: given.pop(name) for name in ("overrides", "preset", "start_from") if name in given}
    config, start = _configuration(**chosen)
    from stackgan.training.loop import train  # imports torch

    return train(config=config, start=start, **given)


def _configuration(
    overrides: Sequence[str], *, preset: str = "modern", start_from: str | None = None
) -> tuple[Config, InitialisationSource | None]:
    """The configuration of the run, and the source of its initial weights, if any."""
    import stackgan.config

    if start_from is None:
        return stackgan.config.preset(preset, overrides), None
    from stackgan.training.warm_start import open_initialisation_source

    start = open_initialisation_source(start_from)
    return stackgan.config.with_overrides(start.config, overrides), start
