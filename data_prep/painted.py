"""Painted birds: a synthetic data set drawn from parameter vectors, with captions in CUB's style.

Bird number i of a split depends only on the seed, the split and i. Some combinations of colours and parts do not
occur in the train split; every bird of the test split has at least one of them, to measure compositional
generalisation.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import arguments
from data_prep.painted_captions import caption_colours, captions, recoloured
from data_prep.painted_draw import draw
from data_prep.painted_parameters import (
    BACKGROUND_POSES,
    BEAK_SHAPES,
    COLOURS,
    CROWN_SHAPES,
    PALETTE,
    RGB,
    TAIL_SHAPES,
    BirdParameters,
    Part,
)
from data_prep.painted_parameters import POSES as _TILTS
from data_prep.painted_parameters import SIZES as _SCALES
from stackgan.data.format import Record
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HELD_OUT",
    "KIND",
    "PALETTE",
    "POSES",
    "SIZES",
    "BirdParameters",
    "Part",
    "Report",
    "add_arguments",
    "bird_with_captions",
    "caption_colours",
    "captions",
    "draw",
    "held_out_combinations",
    "prepare_painted",
    "random_bird",
    "recoloured",
    "recorded_bird",
]

KIND = "painted"  # the row of stackgan.data.kinds.KINDS
BACKGROUNDS: tuple[str, ...] = tuple(BACKGROUND_POSES)
POSES: tuple[str, ...] = tuple(_TILTS)
SIZES: tuple[str, ...] = tuple(_SCALES)

Combination = tuple[tuple[str, str], tuple[str, str]]

# Combinations held out of the train split: for every colour of one part, one colour of each other part, 33 in total.
# In the train split every part has every colour, combined with ten of the eleven colours of the other parts.
_STEPS = {("crown", "breast"): 3, ("crown", "wing"): 7, ("breast", "wing"): 2}  # steps along COLOURS, cyclic
HELD_OUT: frozenset[Combination] = frozenset(
    ((one, colour), (other, COLOURS[(i + step) % len(COLOURS)]))
    for (one, other), step in _STEPS.items()
    for i, colour in enumerate(COLOURS)
)

_BEAK_COLOURS = ("black", "grey", "orange", "yellow", "brown", "red")
_LEG_COLOURS = ("brown", "orange", "grey", "black")
_CHUNK = 64
_Task = tuple[int, str, int, int, int]  # seed, split, first bird, one past the last, side in pixels
_Bird = tuple[NDArray[np.uint8], Record]


@dataclass(frozen=True)
class Report:
    """Summary of a preparation."""

    out: Path
    counts: dict[str, int]
    problems: tuple[str, ...] = ()


def _shade_of(colour: str, rng: np.random.Generator) -> RGB:
    """A random shade of a named colour: a mixture of three shades of the palette."""
    weights = rng.dirichlet((1.0, 1.0, 1.0))
    r, g, b = np.rint(weights @ np.asarray(PALETTE[colour], np.float64)).astype(int).tolist()
    return r, g, b


def held_out_combinations(colours: Mapping[str, str]) -> frozenset[Combination]:
    """The combinations in `HELD_OUT` of a bird with these colour names of crown, breast and wing.

    >>> sorted(held_out_combinations({"crown": "red", "breast": "green", "wing": "black"}))
    [(('crown', 'red'), ('breast', 'green'))]
    """
    pairs = (((one, colours[one]), (other, colours[other])) for one, other in _STEPS)
    return frozenset(pair for pair in pairs if pair in HELD_OUT)


def _colours(rng: np.random.Generator) -> dict[str, str]:
    """Colour names of body, crown, breast, wing and tail."""

    def one(names: tuple[str, ...] = COLOURS) -> str:
        return str(names[int(rng.integers(len(names)))])

    chance = rng.random()
    crown, breast, wing = one(), one(), one()
    if chance < 0.22:  # a red bird with black wings, or an all red bird
        body = crown = breast
        wing = body if rng.random() < 0.2 else wing
    elif chance < 0.40:  # a blue bird with a white breast
        body = crown
        wing = body if rng.random() < 0.3 else wing
    else:
        body = one((crown, breast, wing)) if rng.random() < 0.55 else one()
    chance = rng.random()
    tail = one() if chance >= 0.85 else wing if chance < 0.5 else body
    return {"body": body, "crown": crown, "breast": breast, "wing": wing, "tail": tail}


def random_bird(rng: np.random.Generator, held_out: bool) -> BirdParameters:
    """A random bird: with `held_out` at least one combination in `HELD_OUT`, otherwise none of them."""

    def one(names: tuple[str, ...]) -> str:
        return str(names[int(rng.integers(len(names)))])

    colours = _colours(rng)
    while bool(held_out_combinations(colours)) != held_out:
        colours = _colours(rng)
    colours |= {"beak": one(_BEAK_COLOURS), "legs": one(_LEG_COLOURS)}
    parts = {part: Part(colour, _shade_of(colour, rng)) for part, colour in colours.items()}
    background = one(BACKGROUNDS)
    pose = one(BACKGROUND_POSES[background])
    size = one(SIZES)

    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 4)

    return BirdParameters(
        **parts,
        crown_shape=CROWN_SHAPES[int(rng.random() < 0.25)],
        tail_shape=one(TAIL_SHAPES),
        beak_shape=one(BEAK_SHAPES),
        wing_bars=bool(rng.random() < 0.2),
        eye_ring=bool(rng.random() < 0.25),
        facing=one(("left", "right")),
        pose=pose,
        tilt=between(*_TILTS[pose]),
        head_tilt=between(-26.0, -14.0) if pose == "pecking" else between(-7.0, 9.0),
        size=size,
        scale=between(*_SCALES[size]),
        plumpness=between(0.74, 0.82),
        head=between(0.60, 0.66),
        tail_length=between(0.88, 1.12),
        beak_length=between(0.88, 1.12),
        x=between(0.47, 0.53),
        y=between(0.48, 0.53),
        background=background,
        scene_seed=int(rng.integers(2**31)),
    )


def bird_with_captions(seed: int, split: str, index: int) -> tuple[BirdParameters, tuple[str, ...]]:
    """Parameters and captions of bird number `index` of a split ("train" or "test")."""
    rng = np.random.default_rng([seed, ("train", "test").index(split), index])
    bird = random_bird(rng, held_out=split == "test")
    return bird, captions(bird, rng)


def recorded_bird(parameters: Mapping[str, object] | None) -> BirdParameters:
    """The bird with the ``parameters`` of a record.

    Raises:
        ValueError: the parameters are missing or invalid.
    """
    values: dict[str, Any] = dict(parameters or {})
    try:
        for part, value in values.items():
            if isinstance(value, dict):
                r, g, b = value["rgb"]
                values[part] = Part(value["colour"], (r, g, b))
        return BirdParameters(**values)
    except (TypeError, ValueError, KeyError):
        raise ValueError("a record of painted birds has no valid parameters: prepare again") from None


def _draw_chunk(task: _Task) -> list[_Bird]:
    seed, split, start, stop, side = task
    chunk = []
    for i in range(start, stop):
        bird, lines = bird_with_captions(seed, split, i)
        record = Record(f"{split}-{i:06d}", lines, parameters=dataclasses.asdict(bird))
        chunk.append((draw(bird, side), record))
    return chunk


def _draw_all(tasks: list[_Task], workers: int) -> Iterator[list[_Bird]]:
    if workers == 1:
        yield from map(_draw_chunk, tasks)
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield from pool.imap(_draw_chunk, tasks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stackgan prepare painted``: parameters of :func:`prepare_painted`."""
    arguments.add_out(parser)
    parser.add_argument("--count", type=int, required=True, metavar="N", help="training birds")
    arguments.add_seed(parser, "determines the birds")
    arguments.add_size(parser)
    parser.add_argument("--test-count", type=int, metavar="N", help="test birds (default: a tenth of --count)")
    arguments.add_overwrite(parser)
    arguments.add_workers(parser, "processes", "CPU cores")


def prepare_painted(
    out: str | os.PathLike[str],
    *,
    count: int,
    seed: int = 0,
    size: int = 64,
    test_count: int | None = None,
    overwrite: bool = False,
    workers: int | None = None,
) -> Report:
    """Create a prepared folder with `count` training birds and `test_count` birds with held-out combinations.

    Args:
        out: the folder to write.
        count: birds in the train split.
        seed: any integer from 0; the same seed gives the same bytes, for any number of workers.
        size: side of the training images in pixels; they are drawn at `load_side(size)`.
        test_count: birds in the test split; by default a tenth of `count`, at least one.
        overwrite: replace an existing prepared folder.
        workers: processes; by default one per CPU core.

    Raises:
        ValueError: a count below 1, a negative seed, a size below 16 px, or fewer than one worker.
        FileExistsError: `out` exists and `overwrite` is false.
    """
    tests = max(1, count // 10) if test_count is None else test_count
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = cores if workers is None else workers
    for name, value, least in (
        ("count", count, 1), ("test count", tests, 1), ("seed", seed, 0), ("size", size, 16),
        ("workers", processes, 1),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"painted birds: {name} is {value}; give {least} or more")
    side = load_side(size)
    source: dict[str, object] = {
        "count": count, "test_count": tests, "seed": seed,
        "held_out": [[list(part) for part in combination] for combination in sorted(HELD_OUT)],
    }  # fmt: skip
    counts = {"train": count, "test": tests}
    tasks = [
        (seed, split, start, min(start + _CHUNK, n), side)
        for split, n in counts.items()
        for start in range(0, n, _CHUNK)
    ]
    with PreparedWriter(
        Path(out), kind=KIND, size=size, crop="drawn at this size", source=source, overwrite=overwrite
    ) as writer:
        for (_, split, *_), chunk in zip(tasks, _draw_all(tasks, min(processes, len(tasks))), strict=True):
            for image, record in chunk:
                writer.add(split, image, record)
    return Report(Path(out), counts)
