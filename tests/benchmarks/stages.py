"""Kernel distance of every stage of a checkpoint to a test split, beside bicubic enlargement of its first stage.

    python -m tests.benchmarks.stages --checkpoint CHECKPOINT --data DATA-64 [DATA-128 DATA-256] --features FOLDER

One caption of each test photo (chosen by a fixed seed), images with seeds 0 to N − 1. Every prepared folder has the
photos of one size and is compared with the stage of that size. ``--rounds`` repeats it with further captions and
seeds. Features come from a folder as for ``stackgan evaluate --features``, or are the mean of a frozen classifier's
last map (``--features efficientnet-lite2``).

The ± is one standard error of the distance under resampling of both the photos and the images, by a delete-half
jackknife: the standard deviation of the distance between random halves of both sets. It covers the choice of photos
and images, not the variation between training runs.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.features import load_features
from stackgan.evaluation.metrics import kernel_distance
from stackgan.images.pixels import to_levels
from stackgan.networks.frozen_features import load_frozen_features
from stackgan.pipeline import StackGANPipeline
from tests.benchmarks.harness import print_table, print_versions

Extract = Callable[[Tensor], Tensor]  # (B, 3, s, s) uint8 -> (B, D)


@dataclass(frozen=True)
class Record:
    """Distances to the test photos and their errors: of a stage, of bicubic enlargement, of training photos."""

    side: int
    round: int
    stage: tuple[float, float]
    bicubic: tuple[float, float]
    photos: tuple[float, float]


def distance(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Kernel distance of features (N, D) and (M, D), and its error."""
    found = kernel_distance(x, y)
    return found.value, found.error


def extractor(source: str) -> tuple[str, Extract]:
    """Name and function from images to features."""
    if Path(source).is_dir() and (Path(source) / "feature_net.py").is_file():
        network = load_features(source, trust_remote_code=True)
        return network.name, lambda levels: network.extract(levels).features
    frozen = load_frozen_features(source)
    return frozen.name, lambda levels: frozen(levels.float() / 127.5 - 1)[-1].mean((2, 3))


BATCH = 16


@torch.inference_mode()
def photo_features(extract: Extract, split: PreparedSplit, rows: np.ndarray, side: int) -> Tensor:
    """Features of centre crops of ``side`` px, (N, D)."""
    start, found = (split.images.shape[1] - side) // 2, []
    for part in np.array_split(rows, -(-len(rows) // BATCH)):
        pixels = np.array(split.images[part, start : start + side, start : start + side])
        found.append(extract(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    return torch.cat(found)


@torch.inference_mode()
def image_features(
    pipe: StackGANPipeline, extract: Extract, embeddings: Tensor, seeds: Sequence[int], side: int, truncation: float
) -> tuple[Tensor, Tensor]:
    """Features (N, D) of the stage of ``side`` px, and of the first stage's images enlarged to it bicubically."""
    stage, found = pipe.sizes.index(side), []
    for start in range(0, len(seeds), BATCH):
        part = slice(start, start + BATCH)
        images = pipe.generate(embeddings[part], seeds[part], truncation, [0, stage] if stage else [0])
        enlarged = F.interpolate(images[0].float(), size=(side, side), mode="bicubic")
        found.append(torch.stack([extract(to_levels(x)) for x in (images[-1], enlarged)]))
    own, bicubic = torch.cat(found, 1)
    return own, bicubic


def captions_of(split: PreparedSplit, count: int, seed: int) -> list[str]:
    """One caption of each of the first ``count`` photos."""
    draws, ends = np.random.default_rng(seed), itertools.pairwise(split.offsets[: count + 1])
    return [split.captions[int(draws.integers(first, last))] for first, last in ends]


def measure(
    pipe: StackGANPipeline, folders: dict[int, PreparedFolder], extract: Extract, arguments: argparse.Namespace
) -> list[Record]:
    """One record per size and round: distances of the stage, of bicubic enlargement, and of training photos."""
    found = []
    for side, folder in folders.items():
        train, test = folder.train, folder.splits["test"]
        count = min(arguments.num or len(test), len(test))
        real = photo_features(extract, test, np.arange(count), side)
        others = np.sort(np.random.default_rng(0).permutation(len(train))[:count])
        floor = distance(photo_features(extract, train, others, side), real)
        for number in range(arguments.rounds):
            embeddings = pipe.encode(captions_of(test, count, number))
            first = range(number * count, (number + 1) * count)
            seeds = pipe.best_seeds(embeddings, first, arguments.best_of, arguments.truncation)
            sets = image_features(pipe, extract, embeddings, seeds, side, arguments.truncation)
            own, bicubic = (distance(features, real) for features in sets)
            found.append(Record(side, number, own, bicubic, floor))
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="prepared folders, one per size")
    parser.add_argument("--features", required=True, help="folder or name of a feature network")
    parser.add_argument("--num", type=int, help="photos, from the first on (default: all)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--best-of", type=int, default=1)
    parser.add_argument("--truncation", type=float, default=1.0)
    parser.add_argument("--precision", default="bf16")
    arguments = parser.parse_args()
    print_versions()
    pipe = StackGANPipeline.from_pretrained(arguments.checkpoint, precision=arguments.precision)
    folders = {folder.size: folder for folder in map(PreparedFolder.open, arguments.data)}
    name, extract = extractor(arguments.features)
    rows = []
    for record in measure(pipe, folders, extract, arguments):
        values = [f"{value:.4f} ± {error:.4f}" for value, error in (record.stage, record.bicubic, record.photos)]
        ratio = f"{record.stage[0] / record.bicubic[0]:.2f}" if record.side != pipe.sizes[0] else ""
        rows.append((record.side, record.round, *values, ratio))
    settings = f"truncation {arguments.truncation:g}, best of {arguments.best_of}"
    header = ("px", "round", "stage", "bicubic", "training photos", "stage / bicubic")
    print_table(f"Kernel distance, {name}, {settings}", header, rows)


if __name__ == "__main__":
    main()
