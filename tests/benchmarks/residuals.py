"""Kernel distance of a stage against the gain of its residual, and a checkpoint with a gain in its weights.

    python -m tests.benchmarks.residuals --checkpoint CHECKPOINT --data DATA-128 --features efficientnet-lite0
    python -m tests.benchmarks.residuals --checkpoint CHECKPOINT --stages 128 256 --gain 0.8 --out FOLDER

With generator.image_skip the image of a stage is that of the stage before, enlarged bicubically, plus a residual: the
output of its head, which is linear in the head's convolution. The first command scales the residual by each of
``--gains`` and compares the images of training captions with other training photos, so that a gain is chosen without
test photos, in a network other than the one of the figures. The second multiplies these convolutions by the gain and
writes the checkpoint to FOLDER in half precision, with its card; every other weight keeps its value.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stackgan.checkpoint import load_checkpoint, save_checkpoint
from stackgan.data.prepared import PreparedFolder
from stackgan.images.pixels import to_levels
from stackgan.networks.generator import enlarged
from stackgan.pipeline import StackGANPipeline
from stackgan.text.load import load_text_encoder
from tests.benchmarks.harness import print_table, print_versions
from tests.benchmarks.stages import BATCH, Extract, distance, extractor, photo_features

SEED = 5


@torch.inference_mode()
def features_by_gain(
    pipe: StackGANPipeline, extract: Extract, embeddings: Tensor, side: int, gains: list[float]
) -> list[Tensor]:
    """Features (N, D) of the stage of ``side`` px with each gain of its residual, seeds 0 to N − 1, truncation 1."""
    stage, found = pipe.sizes.index(side), []
    for start in range(0, len(embeddings), BATCH):
        part = embeddings[start : start + BATCH]
        before, image = pipe.generate(part, range(start, start + len(part)), 1.0, [stage - 1, stage])
        base = enlarged(before)
        found.append([extract(to_levels(base + gain * (image.float() - base))) for gain in gains])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def measure(arguments: argparse.Namespace) -> None:
    """Print the distance for each gain: images of ``num`` training captions against 2 · ``num`` other photos."""
    print_versions()
    pipe = StackGANPipeline.from_pretrained(arguments.checkpoint)
    folder = PreparedFolder.open(arguments.data)
    train, side, count = folder.train, folder.size, arguments.num
    draws = np.random.default_rng(SEED)
    order = draws.permutation(len(train))
    rows, others = np.sort(order[:count]), np.sort(order[count : 3 * count])
    captions = [train.captions[int(draws.integers(train.offsets[row], train.offsets[row + 1]))] for row in rows]
    name, extract = extractor(arguments.features)
    real = photo_features(extract, train, others, side)
    features = features_by_gain(pipe, extract, pipe.encode(captions), side, arguments.gains)
    found = [(gain, *distance(each, real)) for gain, each in zip(arguments.gains, features, strict=True)]
    table = [(f"{gain:g}", f"{value:.4f} ± {error:.4f}") for gain, value, error in found]
    print_table(f"Kernel distance to training photos, {name}, {side} px", ("gain", "distance"), table)


def write(checkpoint: Path, stages: list[int], gain: float, out: Path) -> None:
    """Write ``checkpoint`` to ``out`` with the residuals of the stages (sides in pixels) multiplied by ``gain``.

    Raises:
        ValueError: a stage that is not in the tree, or adds no residual.
    """
    source = load_checkpoint(checkpoint)
    sizes = source.config.tree.sizes
    residual = sizes[1:] if source.config.generator.image_skip else ()
    weights = dict(source.weights)
    for side in stages:
        if side not in residual:
            raise ValueError(
                f"{checkpoint}: the stage of {side} px adds no residual; those that do: {list(residual)}"
            )
        for name in ("weight", "bias"):
            key = f"generator.heads.{sizes.index(side)}.conv.{name}"
            weights[key] = weights[key] * gain
    pooling, text = source.config.text.pooling, source.text_folder
    save_checkpoint(
        out,
        source.config,
        weights,
        None if text is None else load_text_encoder(str(text), pooling),
        facts=source.facts,
        card=source.card,
        dtype=torch.float16,
        statistics=source.statistics,
        images=source.card_images,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="prepared folder of the stage's size")
    parser.add_argument("--features", default="efficientnet-lite0", help="folder or name of a feature network")
    parser.add_argument("--num", type=int, default=1500, help="images")
    parser.add_argument("--gains", type=float, nargs="+", default=[0.6, 0.7, 0.8, 0.9, 1.0])
    parser.add_argument("--stages", type=int, nargs="+", help="sides of the stages to scale, in pixels")
    parser.add_argument("--gain", type=float, help="factor on their residuals")
    parser.add_argument("--out", type=Path, help="folder of the checkpoint to write")
    arguments = parser.parse_args()
    if arguments.out is None:
        if arguments.data is None:
            parser.error("give --data to measure, or --stages, --gain and --out to write a checkpoint")
        measure(arguments)
    else:
        if arguments.stages is None or arguments.gain is None:
            parser.error("--out needs --stages and --gain")
        write(arguments.checkpoint, arguments.stages, arguments.gain, arguments.out)


if __name__ == "__main__":
    main()
