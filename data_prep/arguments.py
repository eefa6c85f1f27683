"""Arguments shared by several kinds of preparation; the called functions have the defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_prep.images import FITS

__all__ = ["SIZES", "add_fit", "add_folders", "add_out", "add_overwrite", "add_seed", "add_size", "add_workers"]

SIZES = (64, 128, 256, 512, 1024)


def add_folders(parser: argparse.ArgumentParser, source: str) -> None:
    parser.add_argument("src", type=Path, metavar="SRC", help=source)
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="prepared folder to create")


def add_size(parser: argparse.ArgumentParser, largest: int = SIZES[-1]) -> None:
    sizes = [size for size in SIZES if size <= largest]
    parser.add_argument("--size", type=int, choices=sizes, help="side of the training images, in pixels")


def add_fit(parser: argparse.ArgumentParser, what: str) -> None:
    rules = "; ".join(f"{name}: {rule}" for name, rule in FITS.items())
    parser.add_argument("--fit", choices=FITS, help=f"{what}; {rules}")


def add_seed(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--seed", type=int, metavar="SEED", help=meaning)


def add_no_captions(parser: argparse.ArgumentParser) -> None:
    meaning = "prepare for training without text"
    parser.add_argument("--no-captions", action="store_false", dest="captions", help=meaning)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace a prepared folder at OUT")


def add_workers(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help=f"{what} (default: {default})")
