"""The full configuration: its sections, checks across sections, and ``section.key=value`` overrides."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stackgan.config.parsing import build, check, nearest, parse
from stackgan.config.sections import (
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

__all__ = ["Config", "with_overrides"]


@dataclass(frozen=True)
class Config:
    """The full configuration of a run or checkpoint, a field per section."""

    preset: str = "modern"
    tree: TreeConfig = field(default_factory=TreeConfig)
    text: TextConfig = field(default_factory=TextConfig)
    compact: CompactConfig = field(default_factory=CompactConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        frozen, patch = self.optim.lower_rate == 0, self.patch_side
        check(
            not frozen or self.tree.stages > 1,
            "optim.lower_rate",
            0.0,
            "above 0 with tree.stages=1, which has no lower stage",
        )
        check(
            not self.loss.coarse or frozen,
            "loss.coarse",
            self.loss.coarse,
            "0 unless optim.lower_rate=0: otherwise the first discriminator is trained on its own stage",
        )
        if patch is not None:
            for key, value in (("loss.contrast", self.loss.contrast), ("loss.diversity", self.loss.diversity)):
                check(not value, key, value, "0 with discriminator.patch: it needs whole images of the finest stage")
            check(self.generator.block == "fused", "discriminator.patch", patch, "0 with generator.block=legacy")
            whole = all(self.tree.sizes[stage] <= patch for stage in self.trained_stages[:-1])
            hint = "at least the side of every trained stage except the finest: grow the tree with optim.lower_rate=0"
            check(whole, "discriminator.patch", patch, hint)
        if self.optim.cuda_graphs:
            check(not self.loss.contrast, "optim.cuda_graphs", True, "false with loss.contrast")

    @property
    def patch_side(self) -> int | None:
        """Side of the crops that the finest stage is trained on; None for whole images."""
        patch = self.discriminator.patch
        return patch if 0 < patch < self.tree.sizes[-1] else None

    @property
    def trained_stages(self) -> range:
        """The trained stages: all, or only the finest if the lower ones are frozen."""
        return range(self.tree.stages - 1 if self.optim.lower_rate == 0 else 0, self.tree.stages)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as nested dictionaries of JSON values."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_dict(values: object, where: str = "config") -> Config:
        """The configuration written by :meth:`to_dict`; raises ``ValueError`` naming any unknown or mistyped key."""
        return build(Config, values, "", where)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """``config`` with ``section.key=value`` strings applied.

    >>> with_overrides(Config(), ["optim.batchsize=8"])
    Traceback (most recent call last):
    ...
    ValueError: unknown config key 'optim.batchsize': did you mean 'optim.batch_size'?
    """
    values = config.to_dict()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(
                f"cannot read {override!r}: overrides look like section.key=value, e.g. optim.batch_size=8"
            )
        section, _, name = key.strip().partition(".")
        known = [f"{s}.{k}" for s, keys in values.items() if isinstance(keys, dict) for k in keys]
        if f"{section}.{name}" not in known:
            raise ValueError(f"unknown config key {key.strip()!r}{nearest(key.strip(), known)}")
        kind = typing.get_type_hints(type(getattr(config, section)))[name]
        values[section][name] = parse(key.strip(), text.strip(), kind)
    return Config.from_dict(values)
