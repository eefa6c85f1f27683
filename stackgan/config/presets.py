"""Table of the presets, each a full configuration."""

from __future__ import annotations

from collections.abc import Sequence

from stackgan.config.root import Config, with_overrides
from stackgan.config.sections import (
    AugmentConfig,
    CompactConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    LossConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    TreeConfig,
)

__all__ = ["DEFAULT_PRESET", "PRESETS", "preset"]

DEFAULT_PRESET = "modern"  # where none is named

# Training times and results of each are in stackgan/study/README.md.
PRESETS: dict[str, Config] = {
    # StackGAN-v2 as published: modules, losses, optimiser. Needs a GPU; 24 images per step at 256 px.
    "legacy": Config(
        preset="legacy",
        tree=TreeConfig(stages=3),
        text=TextConfig(standardise=False),
        generator=GeneratorConfig(block="legacy", width=64, residuals=2),
        discriminator=DiscriminatorConfig(block="legacy", width=64, condition="code"),
        loss=LossConfig(adversarial="bce", mismatch="photo", penalty=0.0, kl=2.0),
        optim=OptimConfig(
            batch_size=24,
            lr_discriminator=2e-4,
            beta1=0.5,
            beta2=0.999,
            average_ramp=False,
            precision="fp32",
            channels_last=False,
        ),
        train=TrainConfig(images=5_000_000, save_minutes=15, sample_minutes=5),
    ),
    # Painted birds at 64 px in ten minutes on two CPU cores. The data are unlimited: no augmentation needed.
    "quickstart": Config(
        preset="quickstart",
        generator=GeneratorConfig(width=16),
        discriminator=DiscriminatorConfig(width=24),
        compact=CompactConfig(steps=450),
        loss=LossConfig(mismatch_hard=0.5, contrast=2.0),
        optim=OptimConfig(lr_generator=4e-4, lr_discriminator=8e-4, decay_from=0.7),
        train=TrainConfig(images=10_000_000, minutes=7.75, save_minutes=3, sample_minutes=1),
    ),
    # Real photos at 64 px on a CPU. Small batches, high learning rates, a weak penalty: see stackgan/study/README.md.
    "modern": Config(
        preset="modern",
        discriminator=DiscriminatorConfig(match=1.0, minibatch_std=True),
        loss=LossConfig(penalty=0.05, penalty_every=16, kl=0.1),
        augment=AugmentConfig(policy="brightness,saturation,contrast,translation,cutout"),
        optim=OptimConfig(
            lr_generator=8e-4, lr_discriminator=8e-4, standing=2048, decay_images=30_000, decay_from=0.5
        ),
        train=TrainConfig(images=10_000_000, minutes=60, save_minutes=5, sample_minutes=5),
    ),
}


def preset(name: str, overrides: Sequence[str] = ()) -> Config:
    """The named preset with ``section.key=value`` overrides; raises ``ValueError`` for unknown names or values.

    >>> preset("nosuch")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: unknown preset 'nosuch': choose from legacy, ...
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose from {', '.join(PRESETS)}")
    return with_overrides(PRESETS[name], overrides)
