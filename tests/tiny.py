"""Tiny untrained checkpoints for tests, with a compact caption encoder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from stackgan.config import CompactConfig, preset
from stackgan.config.facts import CheckpointFacts
from stackgan.model import StackGAN
from stackgan.pipeline import StackGANPipeline
from stackgan.text.compact import CaptionTransformer, CompactEncoder, ImageTower, compact_config
from stackgan.text.tokenizer import split_words, train_tokenizer

CAPTIONS = (
    "a small red bird with black wings",
    "a large blue bird with a white belly and a short beak",
    "this yellow bird has a green crown and brown wings",
    "the bird is grey with an orange breast",
)

# Configuration keys of very small networks.
TINY = [
    "generator.width=4", "discriminator.width=4", "text.code_dim=8", "latent.dim=8", "optim.batch_size=4",
    "latent.width=4", "latent.hidden=8", "loss.contrast=0",
    "compact.width=16", "compact.layers=1", "compact.heads=2", "compact.dim=12", "compact.vocabulary=300",
    "compact.steps=2", "compact.batch_size=8", "compact.image_size=32", "train.log_steps=2",
    "eval.count=10",
]  # fmt: skip


def change_header(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply ``change`` to the contents of a checkpoint's config.json."""
    file = checkpoint / "config.json"
    header = json.loads(file.read_text("utf-8"))
    change(header)
    file.write_text(json.dumps(header), "utf-8")


def tiny_encoder(seed: int = 0) -> CompactEncoder:
    """A compact encoder with the vocabulary of ``CAPTIONS`` and random weights; T = 12."""
    settings = CompactConfig(width=8, layers=1, heads=2, dim=12, vocabulary=200, max_tokens=24, image_size=16)
    tokenizer = train_tokenizer(CAPTIONS, settings.vocabulary)
    config = compact_config(settings, tokenizer.get_vocab_size(), dropout=0.0)
    words = {word for caption in CAPTIONS for word in split_words(tokenizer, caption)}
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network, projection = CaptionTransformer(config), nn.Linear(settings.width, settings.dim)
        for parameter in network.parameters():  # BERT's initialisation gives nearly equal embeddings
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5)
        half = ImageTower(settings.dim, settings.image_size)
    return CompactEncoder(network, projection, tokenizer, sorted(words), config, image_tower=half)


def tiny_pipeline(seed: int = 0, stages: int = 2, text: bool = True, latent: Sequence[str] = ()) -> StackGANPipeline:
    """A pipeline of a few thousand weights for 64 px, 128 px, …; ``text=False`` for one without captions.

    ``latent``: overrides such as ``latent.z=flow``.
    """
    encoder = tiny_encoder(seed) if text else None
    dim = encoder.dim if encoder else 0
    config = preset(
        "quickstart",
        [f"tree.stages={stages}", f"text.dim={dim}", "text.code_dim=6", "latent.dim=8", "generator.width=4"]
        + ["latent.width=4", "latent.hidden=8", "latent.steps=2", *latent]
        + ([] if text else ["text.encoder=none"]),
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = StackGAN(config)
        calibrate(model)
        if model.has_code_flow and encoder is not None:
            model.eval().measure_codes(encoder.encode(CAPTIONS))
    return StackGANPipeline(model, encoder, facts=CheckpointFacts(examples=CAPTIONS[:2] if text else ()))


@torch.no_grad()
def calibrate(model: StackGAN) -> None:
    """Set BatchNorm statistics from a few images, as after training; otherwise images are saturated."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.generator.train()(torch.randn(8, model.config.latent.dim), torch.randn(8, model.code_dim))
    for head in model.generator.heads:
        head.conv.weight.mul_(0.3)


def save_tiny_checkpoint(
    folder: Path, seed: int = 0, stages: int = 2, text: bool = True, latent: Sequence[str] = ()
) -> Path:
    """Write :func:`tiny_pipeline` as a checkpoint; returns ``folder``."""
    tiny_pipeline(seed, stages, text, latent).save_pretrained(folder, card="# tiny, for tests\n")
    return folder


# A feature network that averages: images (B, 3, H, W) uint8 -> (B, 48).
FEATURES = """
import torch

class FeatureNet(torch.nn.Module):
    def __init__(self, path):
        super().__init__()
        assert path.suffix == ".safetensors"

    def forward(self, images):
        assert images.dtype == torch.uint8
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1), None
"""


def save_classifier(folder: Path) -> Path:
    """Write an untrained network of torchvision as a folder for ``--features``; returns ``folder``."""
    from torchvision import models

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        save_file(models.get_model("mobilenet_v2", weights=None).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "mobilenet_v2"}))
    return folder


def save_tiny_features(folder: Path) -> Path:
    """Write a feature network for ``--features``."""
    (folder / "feature_net.py").write_text(FEATURES)
    (folder / "tiny.safetensors").write_bytes(b"")
    return folder
