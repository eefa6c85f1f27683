"""Options shared by several commands.

The defaults are those of the called functions (:mod:`stackgan.cli.parser`). The only exception is ``--checkpoint``:
its default depends on the installation (:func:`stackgan.io.checkpoint_names.default_checkpoint`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackgan.io.checkpoint_names import default_checkpoint
from stackgan.io.seed_list import parse_seeds

__all__ = [
    "PHOTO_CHECKPOINT",
    "add_batch_size",
    "add_best_of",
    "add_checkpoint",
    "add_data",
    "add_device",
    "add_features",
    "add_generation",
    "add_out",
    "add_overrides",
    "add_precision",
    "add_seed",
    "add_seeds",
    "add_size",
    "add_truncation",
    "add_trust",
    "print_images",
    "with_seeds",
]

PHOTO_CHECKPOINT = "painted-64"  # the bundled one with a posterior q(z | x, c), which encodes photos
MAX_SEEDS = 1_000_000


def add_checkpoint(parser: argparse.ArgumentParser, default: str | None = None, *, required: bool = False) -> None:
    """``--checkpoint NAME``; ``default`` None is the default of this installation."""
    meaning = "checkpoint folder, bundled checkpoint, or hub repository user/name"
    if required:
        parser.add_argument("--checkpoint", required=True, metavar="NAME", help=meaning)
    else:
        default = default_checkpoint() if default is None else default
        shown = f"{meaning} (default: %(default)s)"
        parser.add_argument("--checkpoint", default=default, metavar="NAME", help=shown)


def add_data(parser: argparse.ArgumentParser, meaning: str = "prepared folder", required: bool = True) -> None:
    parser.add_argument("--data", required=required, type=Path, metavar="DATA", help=meaning)


def add_out(parser: argparse.ArgumentParser, meaning: str, required: bool = False) -> None:
    parser.add_argument("--out", required=required, type=Path, metavar="OUT", help=meaning)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda or cuda:N, mps, or xpu (default: cuda where available)")


def add_precision(parser: argparse.ArgumentParser) -> None:
    meaning = "fp32, or bf16: faster if the processor supports it, with differences of half a level of 255"
    parser.add_argument("--precision", help=meaning)


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, metavar="N", help="images generated at a time")


def add_size(parser: argparse.ArgumentParser) -> None:
    meaning = "resolution of the stage to save, in pixels (default: the finest)"
    parser.add_argument("--size", type=int, metavar="PIXELS", help=meaning)


def add_truncation(parser: argparse.ArgumentParser, meaning: str = "") -> None:
    usual = "noise scale from 0 (the mean) to 2; smaller is less varied (default: the checkpoint's, else 1)"
    parser.add_argument("--truncation", type=float, metavar="SCALE", help=meaning or usual)


def add_best_of(parser: argparse.ArgumentParser) -> None:
    meaning = "generate N candidates for each image and keep the best, by realism and agreement with its caption"
    parser.add_argument("--best-of", type=int, metavar="N", help=meaning)


def add_features(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--features", metavar="NAME", help=meaning)
    add_trust(parser, "execute the feature_net.py of a features folder: only if you trust it")


def add_trust(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--trust-remote-code", action="store_true", help=meaning)


def add_overrides(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("overrides", nargs="*", default=[], metavar="section.key=value", help=meaning)


def add_seed(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--seed", type=int, metavar="SEED", help=meaning)


def add_seeds(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--seeds", metavar="SEEDS", help=meaning)


def add_generation(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Add the options of generating commands: checkpoint, folder, seeds and truncation."""
    add_checkpoint(parser)
    add_out(parser, "folder for the PNGs")
    add_seeds(parser, seeds)
    add_truncation(parser)


def print_images(files: Sequence[Path]) -> None:
    """Report image files written to one folder.

    >>> print_images([Path("out/a-red-bird_seed-0.png")])
    1 image in out
    """
    print(f"{len(files)} image{'s' * (len(files) != 1)} in {files[0].parent}")


def with_seeds(args: argparse.Namespace) -> dict[str, Any]:
    """The given arguments, with ``seeds`` as numbers."""
    given = dict(vars(args))
    if "seeds" in given:
        try:
            given["seeds"] = parse_seeds(given["seeds"], MAX_SEEDS)
        except ValueError as error:
            raise ValueError(f"--seeds {given['seeds']!r}: {error}") from None
    return given
