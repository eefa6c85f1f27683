"""A checkpoint's tilted prior against N(0, I), without and with a choice among candidates.

    python -m tests.benchmarks.priors --checkpoint CHECKPOINT --data DATA-64 --features efficientnet-lite2

Four images of the coarsest stage for each of 120 captions of the test split, with the same seeds for both priors.
Score: by which ``--best-of`` chooses. Photos: mean cosine of an image and its five nearest photos of the train split
in a frozen classifier's features. Spread: standard deviation of a pixel among the images of one caption. Facing: mean
asymmetry along its first principal component, in standard deviations of single images; 0 if as many birds face left
as right.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stackgan.data.prepared import PreparedFolder
from stackgan.latent.priors import GaussianPrior
from stackgan.networks.frozen_features import load_frozen_features
from stackgan.pipeline import StackGANPipeline
from stackgan.training.fit_realism import _features, _photo_features
from stackgan.training.tilt_prior import _asymmetry
from tests.benchmarks.harness import print_table, print_versions

SEEDS = 4


@torch.inference_mode()
def generated(
    pipe: StackGANPipeline, captions: list[str], candidates: int, truncation: float
) -> tuple[Tensor, float]:
    """Images (captions, SEEDS, 3, s, s), each the best of ``candidates``, and their mean score."""
    found, scores = [], []
    for row, caption in enumerate(captions):
        first = row * SEEDS
        e = pipe.encode([caption]).expand(SEEDS, -1)
        seeds = pipe.best_seeds(e, range(first, first + SEEDS), candidates, truncation)
        images = pipe.generate(e, seeds, truncation, [0])[0].float()
        scores.append(pipe.score(images, e))
        found.append(images)
    return torch.stack(found), float(torch.cat(scores).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with a test split, of 64 px")
    parser.add_argument("--features", default="efficientnet-lite2")
    parser.add_argument("--count", type=int, default=120, help="captions")
    parser.add_argument("--truncation", type=float, help="default: the checkpoint's")
    arguments = parser.parse_args()
    data, pipe = PreparedFolder.open(arguments.data), StackGANPipeline.from_pretrained(arguments.checkpoint)
    test = data.splits["test"].captions
    captions = [test[row] for row in np.linspace(0, len(test) - 1, arguments.count).round().astype(int)]
    truncation = pipe.truncation if arguments.truncation is None else arguments.truncation
    classifier = load_frozen_features(arguments.features)
    with torch.inference_mode():
        photos = _photo_features(classifier, data.train, pipe.sizes[0])
    priors: dict[str, nn.Module] = {"N(0, I)": GaussianPrior(pipe.config.latent.dim), "tilted": pipe.model.prior}
    rows, component = [], None
    for (name, prior), candidates in itertools.product(priors.items(), (1, 4, 16)):
        pipe.model.prior = prior
        images, score = generated(pipe, captions, candidates, truncation)
        flat = images.flatten(0, 1)
        nearest = torch.cat([(_features(classifier, part) @ photos.T).topk(5, 1).values for part in flat.split(32)])
        asymmetry = _asymmetry(flat)
        if component is None:
            component = torch.pca_lowrank(asymmetry, q=4)[2][:, 0]
            component = component / (asymmetry @ component).std()
        facing, spread = (asymmetry @ component).mean(), images.std(1).mean()
        values = (score, float(nearest.mean()), float(spread), float(facing))
        rows.append((name, str(candidates), *(f"{value:.3f}" for value in values)))
        print(rows[-1], flush=True)
    print_versions()
    title = f"{arguments.count} captions, {SEEDS} images each, truncation {truncation:g}, {classifier.name}"
    print_table(title, ("prior", "best of", "score", "photos", "spread", "facing"), rows)


if __name__ == "__main__":
    main()
