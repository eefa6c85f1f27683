"""Fit a realism network to a trained checkpoint: it chooses among candidates (``--best-of``).

Images of several seeds are generated for captions of the train split. The realism of an image is measured in the
features φ of a frozen image classifier: the mean cosine of φ(image) and its K nearest neighbours among φ(photos),
a soft form of the realism score of Kynkäänniemi et al. (arXiv:1904.06991, section 5, eq. 3). Images without a head,
with two, or of texture alone are far from all photos. A small network learns to predict this value from the image,
as differences among the images of one caption, so that generation needs neither the classifier nor the photos.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from stackgan.checkpoint import check_replaceable
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.images.crops import crop_size
from stackgan.images.pixels import centre_crops, from_levels, to_levels
from stackgan.io.checkpoint_names import find_checkpoint
from stackgan.networks.frozen_features import FrozenFeatures, load_frozen_features
from stackgan.networks.realism import RealismNetwork
from stackgan.pipeline import StackGANPipeline
from stackgan.training.fitting import Fitting, held_out, save_fitted

__all__ = ["RealismFit", "fit_realism", "fit_realism_network"]

CANDIDATES = 8  # images of a caption
NEIGHBOURS = 5  # photos of the mean cosine
SIDE = 160  # px to which images are enlarged for the classifier
PHOTOS = 20_000  # of the train split, at most
TRUNCATION = (0.6, 1.0)  # range of the noise scale of the images
AGREEMENT = 0.5  # weight of the image–text cosine, both in standard deviations among a caption's images
GROUPS = 8  # captions of a training batch
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
EMA_DECAY = 0.995


@dataclass(frozen=True)
class RealismFit:
    """Figures over the captions that were held out.

    Attributes:
        correlation: of predicted and measured realism, among the images of one caption.
        chosen: mean measured realism of the image with the largest prediction, in standard deviations above the mean
            of its caption's images.
        best: the same of the image with the largest measured value: the most that a choice can reach.
    """

    correlation: float
    chosen: float
    best: float


def fit_realism(
    checkpoint: str | Path,
    data: Path,
    out: Path,
    *,
    features: str = "efficientnet-lite0",
    images: int = 16_000,
    epochs: int = 10,
    seed: int = 0,
    device: str | None = None,
) -> int:
    """Write ``checkpoint`` with a realism network as a new checkpoint at ``out``; returns 0.

    Args:
        checkpoint: conditional, with a text encoder that has an image tower.
        data: the prepared folder it was trained on, of any size.
        features: name or folder of a frozen image classifier (:mod:`stackgan.networks.frozen_features`).
        images: to generate and measure, 8 for each caption.
        epochs: passes over them.

    Raises:
        FileNotFoundError: there is no checkpoint or no prepared folder.
        ValueError: the checkpoint has no image tower, an argument is too small, or the classifier is not available.
    """
    if images < 2 * CANDIDATES or epochs < 1:
        raise ValueError(f"--images {images} --epochs {epochs}: give {2 * CANDIDATES} images and 1 epoch or more")
    checkpoint = find_checkpoint(checkpoint)
    check_replaceable(out)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    if pipe.text_encoder is None:
        raise ValueError(f"{checkpoint}: was trained without text, or its text encoder is not in the folder")
    split = PreparedFolder.open(data).train
    classifier = load_frozen_features(features).to(pipe.device)
    photos = _photo_features(classifier, split, pipe.sizes[0])
    generated, measured, cosines = _generated(pipe, classifier, photos, split, images // CANDIDATES, seed)
    network, fit = fit_realism_network(generated, measured, epochs=epochs, seed=seed, device=pipe.device)
    spread = float(_centred(cosines).square().mean().sqrt())
    network.agreement.fill_(AGREEMENT / spread if spread > 0 else 0.0)
    save_fitted(out, pipe, checkpoint, realism=network)
    print(json.dumps({name: round(value, 3) for name, value in asdict(fit).items()}, indent=2))
    return 0


@torch.inference_mode()
def _features(classifier: FrozenFeatures, images: Tensor) -> Tensor:
    """Unit vectors φ (B, D) of images (B, 3, s, s) in [−1, 1]."""
    large = F.interpolate(images, (SIDE, SIDE), mode="bicubic", align_corners=False).clamp(-1, 1)
    return F.normalize(classifier(large)[-1].mean((2, 3)), dim=1)


def _photo_features(classifier: FrozenFeatures, split: PreparedSplit, side: int) -> Tensor:
    """φ (N, D) of the split's photos at the side of the generated images; evenly spaced ones if there are many."""
    rows = np.linspace(0, len(split) - 1, min(PHOTOS, len(split))).round().astype(np.int64)
    crop, found = crop_size(split.images.shape[1]), []
    for start in tqdm(range(0, len(rows), 32), desc="photos", unit="batch", leave=False):
        photos = centre_crops(split.images[rows[start : start + 32]], crop)
        photos = F.interpolate(photos, (side, side), mode="bilinear", antialias=True, align_corners=False)
        found.append(_features(classifier, photos.contiguous().to(classifier.scale.device)))
    return torch.cat(found)


@torch.inference_mode()
def _generated(
    pipe: StackGANPipeline, classifier: FrozenFeatures, photos: Tensor, split: PreparedSplit, groups: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Images of the coarsest stage (G, n, 3, s, s) uint8, their measured realism and image–text cosines (G, n)."""
    draws = np.random.default_rng((seed, 0x5EA1))
    assert pipe.text_encoder is not None
    levels, measured, cosines = [], [], []
    for _ in tqdm(range(groups), desc="images", unit="caption", leave=False):
        e = pipe.encode([split.captions[int(draws.integers(len(split.captions)))]])
        seeds = [int(value) for value in draws.integers(2**31, size=CANDIDATES)]
        images = pipe.generate(e.expand(CANDIDATES, -1), seeds, float(draws.uniform(*TRUNCATION)), [0])[0].float()
        levels.append(to_levels(images).cpu())
        similar = _features(classifier, images) @ photos.T
        measured.append(similar.topk(min(NEIGHBOURS, len(photos)), dim=1).values.mean(1).cpu())
        tower = pipe.text_encoder.encode_images(images)
        cosines.append(torch.cosine_similarity(tower, e.to(images.device)).cpu())
    return torch.stack(levels), torch.stack(measured), torch.stack(cosines)


def _centred(values: Tensor) -> Tensor:
    """Differences (G, n) from the mean of each group."""
    return values - values.mean(1, keepdim=True)


def fit_realism_network(
    images: Tensor, measured: Tensor, *, epochs: int, seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[RealismNetwork, RealismFit]:
    """Fit a network to differences of measured realism among the images of each caption, by least squares.

    Args:
        images: (G, n, 3, s, s) uint8, n images of each of G captions.
        measured: (G, n), larger is more realistic.

    Raises:
        ValueError: fewer than two captions, or all values are equal.
    """
    differences = _centred(measured.float())
    spread = differences.square().mean().sqrt()
    if len(images) < 2 or not float(spread) > 0:
        raise ValueError("all images are equally realistic: there is nothing to fit")
    targets = differences / spread
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = RealismNetwork().to(device)
        held, seen = held_out(len(images))
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = epochs * -(-len(seen) // GROUPS)
        fitting = Fitting(network, optimizer, steps, warm=max(1, steps // 20), decay=EMA_DECAY)
        with tqdm(total=steps, desc="fitting realism", unit="step", leave=False) as bar:
            for _ in range(epochs):
                for rows in seen[torch.randperm(len(seen))].split(GROUPS):
                    batch = from_levels(images[rows].flatten(0, 1).to(device))
                    mirrored = torch.rand(len(batch), 1, 1, 1, device=batch.device) < 0.5
                    found = network(torch.where(mirrored, batch.flip(3), batch)).view(len(rows), -1)
                    loss = (_centred(found) - targets[rows].to(device)).square().mean()
                    fitting.step(loss)
                    bar.update()
                    if fitting.done % 20 == 0:
                        bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
    fitted = fitting.ema.requires_grad_(False)
    return fitted, _figures(fitted, images[held], targets[held], device)


@torch.inference_mode()
def _figures(network: RealismNetwork, images: Tensor, targets: Tensor, device: torch.device | str) -> RealismFit:
    found = torch.stack([network(from_levels(group.to(device))).cpu() for group in images])
    moved = _centred(found)
    correlation = (moved * targets).sum() / (moved.square().sum() * targets.square().sum()).sqrt()
    chosen = targets.gather(1, found.argmax(1, keepdim=True)).mean()
    return RealismFit(float(correlation), float(chosen), float(targets.amax(1).mean()))
