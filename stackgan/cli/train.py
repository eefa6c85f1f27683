"""``stackgan train``: train on a prepared folder, or resume a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stackgan.cli import options
from stackgan.cli.parser import show_defaults
from stackgan.config import DEFAULT_PRESET, PRESETS

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
        "--config",
        type=Path,
        dest="config_file",
        metavar="FILE",
        help="initial configuration in YAML or JSON, as `stackgan config --format yaml` prints it",
    )
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
    if "config_file" in given and ("preset" in given or "start_from" in given):
        raise ValueError("--config has the whole configuration: give it without --preset and --start-from")
    names = ("overrides", "preset", "start_from", "config_file")
    chosen = {name: given.pop(name) for name in names if name in given}
    config, start = _configuration(**chosen)
    from stackgan.training.loop import train  # imports torch

    return train(config=config, start=start, **given)


def _configuration(
    overrides: Sequence[str],
    *,
    preset: str = DEFAULT_PRESET,
    start_from: str | None = None,
    config_file: Path | None = None,
) -> tuple[Config, InitialisationSource | None]:
    """The configuration of the run, and the source of its initial weights, if any."""
    import stackgan.config

    if config_file is not None:
        return stackgan.config.with_overrides(_read_configuration(config_file), overrides), None
    if start_from is None:
        return stackgan.config.preset(preset, overrides), None
    from stackgan.training.warm_start import open_initialisation_source

    start = open_initialisation_source(start_from)
    return stackgan.config.with_overrides(start.config, overrides), start


def _read_configuration(file: Path) -> Config:
    """The configuration in a YAML or JSON file; absent keys are those of the preset that it names, else of modern."""
    from stackgan.config import Config
    from stackgan.io.json_reader import OBJECT, read_json
    from stackgan.io.yaml_reader import read_yaml

    kinds = (".yaml", ".yml", ".json")
    if file.suffix.lower() not in kinds:
        raise ValueError(f"{file}: the extension of a configuration is {', '.join(kinds)}")
    values = read_json(file, OBJECT) if file.suffix.lower() == ".json" else read_yaml(file)
    if not isinstance(values, dict):
        raise ValueError(f"{file}: holds no table of keys; `stackgan config --format yaml` prints one")
    name = values.get("preset", DEFAULT_PRESET)
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"{file}: preset is {name!r}: choose from {', '.join(PRESETS)}")
    whole = PRESETS[name].to_dict()
    for section, given in values.items():
        known = whole.get(section)
        whole[section] = {**known, **given} if isinstance(known, dict) and isinstance(given, dict) else given
    return Config.from_dict(whole, str(file))
