"""Normalizing flows on dequantised handwritten digits, compared with a full-covariance Gaussian.

A digit k has 64 pixels of 17 levels. With u ~ U[0, 1)⁶⁴ and y = (k + u) / 17, a density p(y) bounds the probability
of the stored digit (arXiv:1511.01844, section 3.1):

    log P(k) = log ∫ p_x(k + u) du ≥ E_u[log p_x(k + u)] = E_u[log p(y)] − 64 log 17

so that flows, Gaussians and the ELBO of :mod:`stackgan.study.vae_digits` are comparable, in nats or bits per pixel.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from stackgan.latent.distributions import Distribution, FullGaussian
from stackgan.latent.flows import (
    FAMILIES,
    ActNorm,
    Bijection,
    Flow,
    SplineCoupling,
    flow,
    image_flow,
    reversal,
    shuffle,
)
from stackgan.networks.schedules import warm_cosine
from stackgan.study.figures import (
    COLOURS,
    INK,
    Clock,
    blank,
    colour_of,
    dress,
    new_figure,
    print_table,
    save_figure,
    tiles,
    write_numbers,
)
from stackgan.study.vae_digits import Digits, load_digits, split
from stackgan.training.ema import ema_decay, update_ema

__all__ = [
    "AsImage",
    "Logit",
    "Standardise",
    "bits_per_dim",
    "dequantise",
    "discrete_bound",
    "run",
    "spline_flow",
]

BATCH = 128
DRAWS = 20  # samples of dequantisation noise for every reported likelihood
RIDGES = (0.0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # added to every variance
LOGIT_MARGIN = 0.01


@dataclass(frozen=True)
class Setting:
    """Settings of one family.

    ``images``: multi-scale with convolutions instead of vectors. ``permuted_splines``: :func:`spline_flow` instead of
    the family's flow.
    """

    steps: int = 8  # couplings or autoregressive maps; per level for images
    hidden: int = 128
    updates: int = 2500
    images: bool = False
    permuted_splines: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 1.0


_TUNED = {
    "glow": Setting(steps=4, hidden=64, updates=1200, images=True, learning_rate=2e-3, weight_decay=0.1),
    "maf": Setting(steps=6),
    "nsf": Setting(steps=6, hidden=96, updates=900, permuted_splines=True),
}
# Families whose density takes one network pass, for cheap maximum likelihood.
SETTINGS = {name: _TUNED.get(name, Setting()) for name, row in FAMILIES.items() if row.one_pass_density}


def run(out: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, Any]:
    """Train every family, evaluate on held-out digits, plot samples.

    Args:
        out: folder of the figures and ``numbers.json``.
        seed: of the split, the weights, the dequantisation and all samples.
        steps: of each training; None for the families' defaults.
    """
    clock = Clock()
    fit, validation, held_out = split(load_digits(), seed)
    numbers: dict[str, Any] = {
        "data": "scikit-learn digits, 8 × 8, 17 levels",
        "digits": {"fit": len(fit.images), "validation": len(validation.images), "held_out": len(held_out.images)},
        "seed": seed,
        "dequantisation_draws": DRAWS,
        "models": {},
    }
    sheets = {"held-out digits": held_out.flat[:36] / 16}
    for name, before in {"gaussian": Flow([], 64), "gaussian_logit": Logit()}.items():
        gaussian, ridge = fit_gaussian(before, fit, validation, seed)
        numbers["models"][name] = {**_measure(gaussian, held_out, seed), "ridge": ridge}
        sheets[name] = _samples(gaussian, seed)
    for family, setting in SETTINGS.items():
        timer, updates = Clock(), setting.updates if steps is None else steps
        model, history = train(family, setting, fit, validation, seed=seed, updates=updates)
        density = model.given(count=1)
        numbers["models"][family] = {
            **_measure(density, held_out, seed),
            "nats_on_fit": float(likelihood(density, fit, seed, draws=3).mean()),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "updates": updates,
            "best_validation": max(value for _, value in history),
            "best_update": max(history, key=lambda pair: pair[1])[0],
            "seconds": timer.seconds,
        }
        sheets[family] = _samples(model.given(count=36), seed)
    for found in numbers["models"].values():
        found["nats_over_gaussian"] = found["nats"] - numbers["models"]["gaussian"]["nats"]
    _draw_likelihoods(out / "likelihoods.png", numbers["models"])
    _draw_samples(out / "samples.png", sheets, numbers["models"])
    numbers["seconds"] = clock.seconds
    write_numbers(out, numbers)
    _report(numbers["models"])
    return numbers


# --- likelihoods --------------------------------------------------------------------------------------------


def dequantise(levels: Tensor, count: int, generator: Generator | None = None) -> Tensor:
    """Levels (N, D) of 0 … count − 1 -> y = (k + u) / count in [0, 1), u uniform."""
    return (levels + torch.rand(levels.shape, generator=generator, dtype=levels.dtype)) / count


def discrete_bound(log_density: Tensor, dimensions: int, count: int) -> Tensor:
    """log p(y) of y = (k + u) / count -> a bound in nats, whose mean over u is a lower bound of log P(k).

    >>> round(float(discrete_bound(torch.zeros(()), 64, 17)), 3)  # the uniform density: 17 levels, 64 pixels
    -181.326
    """
    return log_density - dimensions * math.log(count)


def bits_per_dim(nats: float, dimensions: int) -> float:
    """−nats / (D log 2).

    >>> round(bits_per_dim(-64 * math.log(16), 64), 6)
    4.0
    """
    return -nats / (dimensions * math.log(2))


@torch.no_grad()
def likelihood(density: Distribution, digits: Digits, seed: int, draws: int = DRAWS) -> Tensor:
    """Lower bound (N,) of log P of each digit, averaged over ``draws`` dequantisations."""
    generator = Generator().manual_seed(seed)
    x = digits.flat
    total = torch.zeros(len(x))
    for _ in range(draws):
        total += density.log_prob(dequantise(x, digits.levels, generator)) / draws
    return discrete_bound(total, x.shape[1], digits.levels)


def _measure(density: Distribution, digits: Digits, seed: int) -> dict[str, float]:
    values = likelihood(density, digits, seed + 1)
    nats = float(values.mean())
    return {
        "nats": nats,
        "standard_error": float(values.std() / math.sqrt(len(values))),
        "bits_per_dim": bits_per_dim(nats, digits.flat.shape[1]),
    }


# --- preprocessing maps -------------------------------------------------------------------------------------


class Logit(Bijection):
    """Elementwise y in (0, 1) -> logit(α + (1 − 2α) y) (arXiv:1605.08803, section 4.1)."""

    def __init__(self, margin: float = LOGIT_MARGIN) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = torch.logit(self.margin + (1 - 2 * self.margin) * x)
        return u, self._log_slope(u)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (torch.sigmoid(u) - self.margin) / (1 - 2 * self.margin), -self._log_slope(u)

    def _log_slope(self, u: Tensor) -> Tensor:
        """log ∂u/∂x = log(1 − 2α) − log σ(u) − log σ(−u), summed."""
        return (math.log(1 - 2 * self.margin) - F.logsigmoid(u) - F.logsigmoid(-u)).flatten(1).sum(1)


class Standardise(Bijection):
    """u = (x − mean) / std with fixed statistics (D,) of the training digits."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / self.std, -self.std.log().sum().expand(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u * self.std + self.mean, self.std.log().sum().expand(len(u))


class AsImage(Bijection):
    """(B, H·W) -> (B, 1, H, W)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.shape = (1, height, width)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.view(-1, *self.shape), x.new_zeros(len(x))

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u.flatten(1), u.new_zeros(len(u))


# --- training -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Behind:
    """The distribution of y such that ``before``(y) has the distribution ``base``."""

    before: Bijection
    base: FullGaussian

    @property
    def mode(self) -> Tensor:
        return self.before.inverse(self.base.mode[None])[0]

    def sample(self, generator: Generator | None = None, noise: Tensor | None = None) -> Tensor:
        return self.before.inverse(self.base.sample(generator, noise))[0]

    def to_noise(self, x: Tensor) -> Tensor:
        return self.base.to_noise(self.before(x)[0])

    def log_prob(self, x: Tensor) -> Tensor:
        u, log_det = self.before(x)
        return self.base.log_prob(u) + log_det


def fit_gaussian(before: Bijection, fit: Digits, validation: Digits, seed: int) -> tuple[Behind, float]:
    """Full-covariance Gaussian of ``before``(dequantised digits), with a ridge selected on the validation part.

    The final fit uses both parts, an advantage over the flows.
    """
    generator = Generator().manual_seed(seed)

    def fitted(x: Tensor, ridge: float) -> Behind:
        y = torch.cat([before(dequantise(x.double(), fit.levels, generator))[0] for _ in range(DRAWS)])
        gaussian = FullGaussian.fit(y, ridge)
        return Behind(before, FullGaussian(gaussian.mean.float(), gaussian.factor.float()))

    def value(ridge: float) -> float:
        return float(likelihood(fitted(fit.flat, ridge), validation, seed, draws=5).mean())

    ridge = max(RIDGES, key=value)
    return fitted(torch.cat((fit.flat, validation.flat)), ridge), ridge


def build(family: str, setting: Setting, fit: Digits, seed: int) -> Flow:
    """Logit, standardisation of each pixel, and the family's flow over vectors or 8 × 8 images."""
    dimensions, (height, width) = fit.flat.shape[1], fit.images.shape[1:]
    y = Logit()(dequantise(fit.flat.repeat(DRAWS, 1), fit.levels, Generator().manual_seed(seed)))[0]
    maps: list[Bijection] = [Logit(), Standardise(y.mean(0), y.std(0))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if setting.images:
            shape = (1, height, width)
            maps += [AsImage(height, width), image_flow(family, shape, steps=setting.steps, hidden=setting.hidden)]
        elif setting.permuted_splines:
            maps.append(spline_flow(dimensions, steps=setting.steps, hidden=setting.hidden))
        else:
            maps.append(flow(family, dimensions, steps=setting.steps, hidden=setting.hidden))
    return Flow(maps, dimensions)


def spline_flow(dim: int, *, steps: int, hidden: int) -> Flow:
    """Spline couplings between permutations (arXiv:1906.04032), over vectors (B, dim).

    ``flow("nsf", …)`` has invertible linear maps instead of permutations. Their initial rotations mix the pixels'
    distributions (most of them peaked at 0) into ones that elementwise splines fit worse.
    """
    maps: list[Bijection] = []
    for step in range(steps):
        maps += [ActNorm(dim), SplineCoupling(dim, 0, hidden)]
        maps.append(reversal(dim) if step % 2 else shuffle(dim, Generator().manual_seed(step)))
    return Flow(maps, dim)


def train(
    family: str, setting: Setting, fit: Digits, validation: Digits, *, seed: int, updates: int
) -> tuple[Flow, list[tuple[int, float]]]:
    """Maximum likelihood with new dequantisation noise in every update.

    An EMA of the weights is evaluated on the validation part 30 times; returns the best one, and all results (update,
    nats).
    """
    generator = Generator().manual_seed(seed)
    model = build(family, setting, fit, seed).train()
    ema = deepcopy(model)
    optimizer = torch.optim.AdamW(_groups(model, setting.weight_decay), setting.learning_rate, fused=True)
    schedule = warm_cosine(optimizer, updates, warm=max(1, min(100, updates // 10)))
    history: list[tuple[int, float]] = []
    x, kept = fit.flat, deepcopy(model.state_dict())
    for update in range(1, updates + 1):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        y = dequantise(x[rows], fit.levels, generator)
        (-model.given(count=BATCH).log_prob(y).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        schedule.step()
        update_ema(ema, model, ema_decay(0.998, update, ramp=True))
        if update % max(1, updates // 30) == 0 or update == updates:
            ema.eval()
            value = float(likelihood(ema.given(count=1), validation, seed, draws=5).mean())
            if not history or value > max(best for _, best in history):
                kept = deepcopy(ema.state_dict())
            history.append((update, value))
    ema.load_state_dict(kept)
    return ema.eval(), history


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay only for network weights, not for scales, shifts and invertible matrices."""
    decayed = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    chosen = {id(weight) for weight in decayed}
    free = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


# --- figures ------------------------------------------------------------------------------------------------

_NAMES = {
    "gaussian": "Gaussian",
    "gaussian_logit": "Gaussian of logits",
    **{name: FAMILIES[name].title for name in SETTINGS},
}


@torch.no_grad()
def _samples(density: Distribution, seed: int, count: int = 36) -> Tensor:
    """Digits (36, 64) in [0, 1], rounded to levels."""
    noise = torch.randn(count, 64, generator=Generator().manual_seed(seed))
    return (density.sample(noise=noise) * 17 - 0.5).clamp(0, 16) / 16


def _draw_likelihoods(file: Path, models: dict[str, Any]) -> None:
    figure, axes = new_figure(1, 1, (9, 4.2))
    panel = dress(axes[0, 0], "Held-out digits: bound on log P of the stored pixels (higher is better)", "", "nats")
    values = [models[name]["nats"] for name in _NAMES if name in models]
    floor = 5 * math.floor(min(values) / 5) - 5
    for i, (name, found) in enumerate(models.items()):
        panel.bar(i, found["nats"] - floor, 0.75, bottom=floor, color=colour_of(name.removesuffix("_logit")))
        panel.errorbar(i, found["nats"], 2 * found["standard_error"], color=INK, capsize=3, lw=1)
        text = f"{found['nats']:.1f} nats\n{found['bits_per_dim']:.3f} bits/dim"
        top = found["nats"] + 2 * found["standard_error"] + 0.5
        panel.text(i, top, text, ha="center", va="bottom", fontsize=8.5, color=INK)
    panel.axhline(models["gaussian"]["nats"], color=COLOURS["gaussian"], lw=1, ls="--")
    panel.set_xticks(range(len(models)), [_NAMES[name].replace(" ", "\n", 1) for name in models])
    panel.set_ylim(floor, max(values) + 7)
    save_figure(figure, file)


def _draw_samples(file: Path, sheets: dict[str, Tensor], models: dict[str, Any]) -> None:
    rows = math.ceil(len(sheets) / 4)
    figure, axes = new_figure(rows, 4, (11.5, 3.3 * rows), "Samples of each density")
    for panel in axes.flat[len(sheets) :]:
        panel.set_visible(False)
    for panel, (name, images) in zip(axes.flat, sheets.items(), strict=False):
        title = f"{_NAMES[name]}: {models[name]['nats']:.1f} nats" if name in models else name
        blank(panel, title).imshow(tiles(images.view(-1, 8, 8), 6), cmap="Greys", vmin=0, vmax=1)
    save_figure(figure, file)


def _report(models: dict[str, Any]) -> None:
    rows: list[list[str | float]] = [
        [_NAMES[name], found["nats"], found["standard_error"], found["bits_per_dim"], found["nats_over_gaussian"]]
        for name, found in models.items()
    ]
    header = ["model", "nats", "± s.e.", "bits/dim", "gain over Gaussian"]
    print_table("Held-out digits, bound on log P", header, rows)
