"""What a training run holds: networks, optimisers, progress; what a step changes and a resume brings back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from stackgan.config import Config
from stackgan.model import StackGAN, build_discriminators
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.layers import set_checkpointing
from stackgan.runtime.compiler import need_compiler
from stackgan.text.compact import CompactEncoder
from stackgan.training.warm_start import Start, copy_weights

__all__ = ["Painter", "Progress", "Run", "Trunk"]

Painter = Callable[[Tensor, Tensor], list[Tensor]]  # (z, c) -> images, coarsest first
Trunk = Callable[..., Tensor]  # (images, groups=1) -> features


@dataclass
class Progress:
    """How far a run is: steps, images seen, seconds spent in the loop over all resumes; the least distance found."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    best: float = math.inf

    def fraction(self, config: Config) -> float:
        """The share of the run that is done, by images or by minutes, whichever is further."""
        by_time = self.seconds / (60 * config.train.minutes) if config.train.minutes else 0.0
        return max(self.images / config.train.images, by_time)


@dataclass
class Run:
    """Everything that a step changes and a resume brings back."""

    config: Config
    model: StackGAN
    average: StackGAN
    discriminators: nn.ModuleList
    optimizers: list[torch.optim.Adam]  # of G (with CA_NET), then of each discriminator
    device: torch.device
    paint: Painter  # G's forward pass, and each discriminator trunk's: compiled, or the modules' own
    features: list[Trunk]
    reader: CompactEncoder | None = None  # whose image half reads generated pictures, for loss.contrast
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def start(cls, config: Config, device: torch.device) -> Run:
        optim = config.optim
        if optim.compile:
            need_compiler("optim.compile is true", "train with optim.compile=false")
        if device.type == "cuda":  # process-wide, as PyTorch has it
            fp32 = "ieee" if optim.precision == "fp32" else "tf32"
            torch.backends.cuda.matmul.fp32_precision = fp32
            torch.backends.cudnn.conv.fp32_precision = fp32  # type: ignore[attr-defined]
        torch.manual_seed(config.train.seed)
        model = StackGAN(config).to(device)
        discriminators = build_discriminators(config).to(device)
        if optim.channels_last:
            model.to(memory_format=torch.channels_last)
            discriminators.to(memory_format=torch.channels_last)
        betas = (optim.beta1, optim.beta2)
        optimizers = [torch.optim.Adam(model.parameters(), lr=optim.lr_generator, betas=betas, fused=True)]
        for net in discriminators:
            optimizers.append(torch.optim.Adam(net.parameters(), lr=optim.lr_discriminator, betas=betas, fused=True))
        average = copy.deepcopy(model).eval().requires_grad_(False)
        for module in (model.generator, discriminators):
            set_checkpointing(module, optim.checkpointing)
        paint: Painter = model.generator
        features: list[Trunk] = [cast(Discriminator, net).features for net in discriminators]
        if optim.compile:  # one piece of code a shape: the discriminators see few, again and again
            paint = torch.compile(paint, dynamic=False)
            features = [torch.compile(trunk, dynamic=False) for trunk in features]
        return cls(config, model, average, discriminators, optimizers, device, paint, features)

    def start_from(self, start: Start) -> list[str]:
        """Take over averaged weights; returns the modules that are new and begin afresh."""
        fresh = copy_weights(start.model, self.model, start.folder)
        copy_weights(start.model, self.average, start.folder)
        modules = {name.split(".")[0] for name in fresh}
        if start.discriminators is None:
            modules.add("discriminators")
        elif copy_weights(start.discriminators, self.discriminators, start.folder):
            modules.add("some discriminators")
        return sorted(modules)

    @property
    def nets(self) -> list[Discriminator]:
        """The discriminators, coarsest first."""
        return [cast(Discriminator, net) for net in self.discriminators]

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "progress": vars(self.progress),
        }

    def restore(self, state: dict[str, Any], file: Path) -> None:
        """Go on from what :meth:`state` gave, read from ``file``.

        Raises:
            ValueError: the networks were others when it was saved; nothing has been changed then.
        """
        networks = {"model": self.model, "average": self.average, "discriminators": self.discriminators}
        for name, network in networks.items():
            _must_fit(network, state[name], f"{file}: what was saved as {name!r}")
        for name, network in networks.items():
            network.load_state_dict(state[name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state.get("device_rng") is not None:  # None: saved on a CPU
            torch.cuda.set_rng_state(state["device_rng"], self.device)
        self.progress = Progress(**state["progress"])


def _must_fit(network: nn.Module, saved: Mapping[str, Tensor], title: str) -> None:
    have = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    if other := sorted(name for name in have.keys() | found.keys() if have.get(name) != found.get(name)):
        raise ValueError(
            f"{title} has other weights than this version of stackgan builds ({other[0]}, "
            f"{len(other)} in all): go on with the version that began the run, or begin a new one with "
            "--start-from this run's checkpoint folder"
        )
