"""Configuration: frozen dataclasses, a table of presets, strictly checked JSON.

A preset is a full configuration; ``section.key=value`` on the command line changes one key of it. Unknown keys, wrong
types and values out of range raise a ``ValueError`` that names the key. Names of latent modules are checked where
their classes are known (:func:`stackgan.model.check_choices`).

>>> config = preset("quickstart", ["optim.batch_size=8"])
>>> config.optim.batch_size
8
>>> Config.from_dict(config.to_dict()) == config
True
"""

from stackgan.config.presets import DEFAULT_PRESET, PRESETS, preset
from stackgan.config.root import Config, with_overrides
from stackgan.config.sections import (
    AUGMENTATIONS,
    BASE_SIZE,
    MAX_SEED,
    POOLINGS,
    AugmentConfig,
    CompactConfig,
    DiscriminatorConfig,
    EvalConfig,
    GeneratorConfig,
    LatentConfig,
    LossConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    TreeConfig,
)

__all__ = [
    "AUGMENTATIONS",
    "BASE_SIZE",
    "DEFAULT_PRESET",
    "MAX_SEED",
    "POOLINGS",
    "PRESETS",
    "AugmentConfig",
    "CompactConfig",
    "Config",
    "DiscriminatorConfig",
    "EvalConfig",
    "GeneratorConfig",
    "LatentConfig",
    "LossConfig",
    "OptimConfig",
    "TextConfig",
    "TrainConfig",
    "TreeConfig",
    "preset",
    "with_overrides",
]
