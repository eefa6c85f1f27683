"""``stackgan study``: experiments on latent modules and training recipes, with figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from stackgan.cli import options
from stackgan.cli.parser import show_defaults
from stackgan.study import STUDIES, study

__all__ = ["add_arguments", "run"]

# Options of individual studies, in addition to --out and --seed.
OF_STUDY = {
    "latents": ("data", "features", "trust_remote_code", "images", "seeds"),
    "recipe": ("data", "features", "trust_remote_code", "minutes", "seeds", "rows"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    show_defaults(parser, "stackgan.study.latents:run", "stackgan.study.recipe:run")
    parser.add_argument("name", help=", ".join(STUDIES))
    options.add_out(parser, "folder for figures and numbers.json (default: study/NAME)")
    options.add_seed(parser, "of data, weights and every random choice")
    data = "latents: painted birds (default: newly drawn); recipe: photos at 64 px"
    options.add_data(parser, data, required=False)
    options.add_features(parser, "latents, recipe: a feature network, for distances")
    parser.add_argument("--images", type=int, metavar="N", help="latents: number of training images of every model")
    parser.add_argument("--minutes", type=float, metavar="MINUTES", help="recipe: training time of every run")
    parser.add_argument("--seeds", type=int, metavar="N", help="latents, recipe: number of seeds")
    parser.add_argument("--rows", metavar="NAME,NAME", help="recipe: rows of its table (default: all)")


def run(args: argparse.Namespace) -> int:
    given = dict(vars(args))
    name = given.pop("name")
    out = given.pop("out", Path("study") / name)
    single = {option for names in OF_STUDY.values() for option in names}
    if wrong := (given.keys() & single) - set(OF_STUDY.get(name, ())):
        takers = " and ".join(taker for taker, names in OF_STUDY.items() if min(wrong) in names)
        raise ValueError(f"--{min(wrong).replace('_', '-')} is an option of the study {takers} only")
    if "rows" in given:
        given["rows"] = tuple(row.strip() for row in given["rows"].split(","))
    study(name, out, **given)
    print(f"figures and numbers.json in {out}")
    return 0
