"""State of a training run: networks, optimisers and progress, saved and restored for resuming."""

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
from stackgan.data.sampler import Batch
from stackgan.io.weights import compare_weights
from stackgan.model import StackGAN, build_discriminators, build_feature_discriminator
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.frozen_features import FeatureHeads, FrozenFeatures
from stackgan.networks.recompute import set_checkpointing
from stackgan.runtime.compiler import need_compiler
from stackgan.runtime.distributed import average_gradients
from stackgan.text.compact import CompactEncoder
from stackgan.training.cuda_graphs import CapturedSteps
from stackgan.training.warm_start import InitialisationSource, copy_weights

__all__ = ["ROLLBACK_RATE", "GeneratorForward", "Phase", "Progress", "RandomState", "Run", "Trunk"]

ROLLBACK_RATE = 0.5  # factor of the learning rates at each rollback

GeneratorForward = Callable[..., list[Tensor]]  # (z, c, crop positions) -> images, coarsest first
Trunk = Callable[..., Tensor]  # (images, groups=1) -> features


@dataclass
class Progress:
    """Progress of a run: steps, images, seconds in the loop over all calls.

    Attributes:
        best: lowest distance in evaluations.
        rollbacks: how often the run went back to a saved state because it diverged.
    """

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    best: float = math.inf
    rollbacks: int = 0

    def fraction(self, config: Config) -> float:
        """The completed fraction of the run, by images or by minutes, whichever is larger."""
        by_time = self.seconds / (60 * config.train.minutes) if config.train.minutes else 0.0
        return max(self.images / config.train.images, by_time)


@dataclass(frozen=True)
class RandomState:
    """State of torch's random generators: the CPU's, and that of ``device`` where it is a GPU."""

    cpu: Tensor
    gpu: Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), gpu, device)

    def set(self) -> None:
        """Set the generators to this state; a GPU's is left as it is when the state was saved on a CPU."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(self.gpu, self.device)


@dataclass(frozen=True)
class Phase:
    """Properties of a step that change its kernels; with CUDA graphs each combination is captured separately.

    Attributes:
        penalised: whether the gradient penalty is applied.
        generator_learns: whether G is updated too.
        logged: whether scalars that only the log uses are computed.
    """

    penalised: bool
    generator_learns: bool
    logged: bool


Update = Callable[["Run", Batch, Phase], dict[str, Tensor]]


@dataclass
class Run:
    """Everything that a training step changes and that resuming restores.

    Attributes:
        optimizers: of the trained modules, by name: ``generator`` (with CA_NET, latent modules), ``discriminator64``,
            …
        generate, features: G's forward pass and each discriminator trunk's: compiled, or the modules' own.
        graphs: captured steps, with optim.cuda_graphs.
        dual_encoder: its image tower encodes generated images, for loss.contrast.
        frozen, heads: of discriminator.features: the frozen network and the heads on its maps.
    """

    config: Config
    model: StackGAN
    ema: StackGAN
    discriminators: nn.ModuleList
    optimizers: dict[str, torch.optim.Adam]
    device: torch.device
    generate: GeneratorForward
    features: list[Trunk]
    graphs: CapturedSteps | None = None
    dual_encoder: CompactEncoder | None = None
    frozen: FrozenFeatures | None = None
    heads: FeatureHeads | None = None
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def start(cls, config: Config, device: torch.device) -> Run:
        """Initialise networks and optimisers on ``device`` from the seed.

        Raises:
            ValueError: optim.compile without a compiler; optim.cuda_graphs without a GPU.
        """
        optim = config.optim
        if optim.compile:
            need_compiler("optim.compile is true", "train with optim.compile=false")
        if optim.cuda_graphs and device.type != "cuda":
            raise ValueError(
                f"optim.cuda_graphs is true and the device is {device.type}: CUDA graphs need an NVIDIA GPU"
            )
        if device.type == "cuda":  # a setting of the whole process
            fp32 = "ieee" if optim.precision == "fp32" else "tf32"
            torch.backends.cuda.matmul.fp32_precision = fp32
            torch.backends.cudnn.conv.fp32_precision = fp32  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = True  # worthwhile, as few shapes recur
        torch.manual_seed(config.train.seed)
        model = StackGAN(config).to(device)
        discriminators = build_discriminators(config).to(device)
        if optim.channels_last:
            model.to(memory_format=torch.channels_last)
            discriminators.to(memory_format=torch.channels_last)
        ema = copy.deepcopy(model).eval().requires_grad_(False)
        _freeze(model, config)
        for module in (model.generator, discriminators):
            set_checkpointing(module, optim.checkpointing)
        generate: GeneratorForward = model.generator
        features: list[Trunk] = [cast(Discriminator, net).features for net in discriminators]
        if optim.compile:  # compiled once per shape, as the discriminators have few input shapes
            generate = torch.compile(generate, dynamic=False)
            features = [torch.compile(trunk, dynamic=False) for trunk in features]
        frozen, heads = build_feature_discriminator(config) or (None, None)
        if frozen is not None and heads is not None:
            order = torch.channels_last if optim.channels_last else torch.contiguous_format
            for part in (frozen, heads):
                part.to(device).to(memory_format=order)
        optimizers = _optimizers(config, model, discriminators, heads)
        run = cls(config, model, ema, discriminators, optimizers, device, generate, features)
        run.graphs = CapturedSteps() if optim.cuda_graphs else None
        run.frozen, run.heads = frozen, heads
        return run

    def start_from(self, start: InitialisationSource) -> list[str]:
        """Copy the EMA weights of ``start``; returns the names of the modules that are newly initialised.

        A discriminator that ``start`` lacks or has with other shapes gets the weights of the finest coarser one that
        fit: crops of a finer stage resemble whole images of a coarser one.
        """
        fresh = copy_weights(start.model, self.model, start.folder)
        copy_weights(start.model, self.ema, start.folder)
        modules = {name.split(".")[0] for name in fresh}
        if start.discriminators is None:
            return sorted(modules | {"discriminators"})
        for stage, net in enumerate(self.nets):
            source = next((s for s in range(stage, -1, -1) if _fits(start.discriminators, s, net)), None)
            if source is not None:
                prefix = f"{source}."
                net.load_state_dict({name: start.discriminators[prefix + name] for name in net.state_dict()})
            if source != stage:
                since = f" (from {self.sizes[source]} px)" if source is not None else ""
                modules.add(f"discriminator{self.sizes[stage]}{since}")
        return sorted(modules)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the stages in pixels, coarsest first."""
        return self.config.tree.sizes

    def update(self, networks: Update, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Call ``networks(self, batch, phase)``, or replay its captured graph with optim.cuda_graphs."""
        if self.graphs is None:
            return networks(self, batch, phase)
        return self.graphs(lambda held: networks(self, held, phase), batch, phase, self.optimizers, self.device)

    def step(self, name: str) -> None:
        """A step of one optimiser, with the gradients of the whole batch if several processes share it."""
        optimizer = self.optimizers[name]
        average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
        optimizer.step()

    def set_learning_rates(self) -> None:
        """Constant, then ∝ 1 / √images from optim.decay_images on; decays to 5 % of that from optim.decay_from on.

        Each rollback multiplies them by :data:`ROLLBACK_RATE`.
        """
        optim = self.config.optim
        scale: float = ROLLBACK_RATE**self.progress.rollbacks
        if optim.decay_images and self.progress.images > optim.decay_images:
            scale *= (optim.decay_images / self.progress.images) ** 0.5
        if optim.decay_from < 1:
            late = (self.progress.fraction(self.config) - optim.decay_from) / (1 - optim.decay_from)
            scale *= 1 - 0.95 * min(max(late, 0.0), 1.0)
        for name, optimizer in self.optimizers.items():
            rate = scale * (optim.lr_generator if name == "generator" else optim.lr_discriminator)
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # on the device, as captured steps read it there
                    group["lr"].fill_(rate * group["factor"])
                else:
                    group["lr"] = rate * group["factor"]

    @property
    def nets(self) -> list[Discriminator]:
        """The discriminators, coarsest first."""
        return [cast(Discriminator, net) for net in self.discriminators]

    def state(self, random_state: RandomState) -> dict[str, Any]:
        """Everything that :meth:`restore` restores; ``random_state``: the generators' at the end of the last step."""
        return {
            "model": self.model.state_dict(),
            "average": self.ema.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            **({"features": self.heads.state_dict()} if self.heads is not None else {}),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "rng": random_state.cpu,
            "device_rng": random_state.gpu,
            "progress": vars(self.progress),
        }

    def non_finite(self) -> str | None:
        """Name of a weight or statistic with a value that is not finite; None if there is none."""
        networks = {"model": self.model, "average": self.ema, "discriminators": self.discriminators}
        named = {
            f"{name}.{key}": value
            for name, network in (networks | ({"features": self.heads} if self.heads is not None else {})).items()
            for key, value in network.state_dict().items()
            if value.is_floating_point()
        }
        finite = torch.stack([value.isfinite().all() for value in named.values()]).tolist()
        return next((name for name, good in zip(named, finite, strict=True) if not good), None)

    def restore(self, state: dict[str, Any], file: Path) -> None:
        """Restore what :meth:`state` returned, as read from ``file``.

        Raises:
            ValueError: the saved networks have other parameters; the run is left unchanged.
        """
        networks: dict[str, nn.Module] = {"model": self.model, "average": self.ema}
        networks["discriminators"] = self.discriminators
        if self.heads is not None:
            networks["features"] = self.heads
        for name, network in networks.items():
            _must_fit(network, state[name], f"{file}: what was saved as {name!r}")
        for name, network in networks.items():
            network.load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        RandomState(state["rng"], state.get("device_rng"), self.device).set()
        self.progress = Progress(**state["progress"])
        if self.graphs is not None:  # captured steps read the optimisers' tensors of before
            self.graphs = CapturedSteps()


def _freeze(model: StackGAN, config: Config) -> None:
    """With optim.lower_rate=0, disable gradients of all but the finest stage and fix its BatchNorm statistics."""
    if config.optim.lower_rate:
        return
    learns = {id(p) for p in model.generator.finest_parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learns)
    model.generator.set_frozen(config.tree.stages - 1)


def _optimizers(
    config: Config, model: StackGAN, discriminators: nn.ModuleList, heads: FeatureHeads | None
) -> dict[str, torch.optim.Adam]:
    """Adam for G and for each trained discriminator; lower stages with their share of the learning rates."""
    optim = config.optim

    def adam(groups: list[dict[str, Any]], rate: float, device: torch.device) -> torch.optim.Adam:
        lr = torch.tensor(rate, device=device) if optim.cuda_graphs else rate
        groups = [{"lr": lr.clone() if isinstance(lr, Tensor) else lr} | group for group in groups]
        betas = (optim.beta1, optim.beta2)
        return torch.optim.Adam(groups, lr=lr, betas=betas, fused=True, capturable=optim.cuda_graphs)

    device = next(model.parameters()).device
    finest = list(model.generator.finest_parameters()) if config.tree.stages > 1 else []
    ids = {id(parameter) for parameter in finest}
    groups = [{"params": [p for p in model.parameters() if id(p) not in ids], "factor": optim.lower_rate}]
    if not finest:
        groups[0]["factor"] = 1.0
    elif optim.lower_rate == 1:  # one group, in the modules' order
        groups = [{"params": list(model.parameters()), "factor": 1.0}]
    elif optim.lower_rate == 0:
        groups = [{"params": finest, "factor": 1.0}]
    else:
        groups.append({"params": finest, "factor": 1.0})
    optimizers = {"generator": adam(groups, optim.lr_generator, device)}
    learning = set(config.trained_stages) | ({0} if config.loss.coarse else set())
    for stage, net in enumerate(discriminators):
        if stage in learning:
            factor = 1.0 if stage == config.tree.stages - 1 or not optim.lower_rate else optim.lower_rate
            group = [{"params": list(net.parameters()), "factor": factor}]
            optimizers[f"discriminator{config.tree.sizes[stage]}"] = adam(group, optim.lr_discriminator, device)
    if heads is not None:
        optimizers["features"] = adam(
            [{"params": heads.trained_parameters(), "factor": 1.0}], optim.lr_discriminator, device
        )
    return optimizers


def _fits(discriminators: Mapping[str, Tensor], stage: int, net: nn.Module) -> bool:
    """Whether the weights of ``stage`` match ``net``, apart from additional heads in the weights."""
    differs = compare_weights(net, discriminators, prefix=f"{stage}.")
    return not differs.missing and not differs.reshaped


def _must_fit(network: nn.Module, saved: Mapping[str, Tensor], title: str) -> None:
    if other := compare_weights(network, saved).names:
        raise ValueError(
            f"{title} has other weights than this version of stackgan builds ({other[0]}, "
            f"{len(other)} in all): resume with the version that started the run, or start a new run with "
            "--start-from this run's checkpoint folder"
        )
