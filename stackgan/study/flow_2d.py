"""Normalizing flows on five two-dimensional densities, compared with zuko's of the same size if installed."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from stackgan.latent import flows
from stackgan.latent.flows import SPLINE_BINS, Flow, flow
from stackgan.study.figures import (
    GRID,
    INK,
    Clock,
    blank,
    colour_of,
    dress,
    new_figure,
    optional,
    print_table,
    save_figure,
    write_numbers,
)

__all__ = ["FAMILIES", "SHAPES", "Shape", "draw_shape", "fit", "run"]

# Families whose density takes one network pass, for cheap maximum likelihood, with their titles.
FAMILIES = {name: row.title for name, row in flows.FAMILIES.items() if row.one_pass_density}
# zuko's class for each compared family, and its options besides the common ones.
ZUKO: dict[str, tuple[str, dict[str, Any]]] = {
    "realnvp": ("RealNVP", {}),
    "maf": ("MAF", {}),
    "nsf": ("NSF", {"bins": SPLINE_BINS}),
}
UPDATES, BATCH, LEARNING_RATE = 2000, 256, 3e-3
TRANSFORMS, HIDDEN = 6, 64  # of all flows, ours and zuko's: transforms, and width of the two hidden layers
# Number of trainings from different initial weights, of which the best on training points is kept, for ours and
# zuko's. In two dimensions, affine maps converge to local optima that differ by 0.1 to 0.2 nats, splines hardly
# differ.
RESTARTS = {name: 4 if name in ("realnvp", "maf") else 2 for name in FAMILIES}
TRAINING, PICTURED = 50_000, 5_000
HELD_OUT = 100_000  # standard error of a difference of two flows: 0.003 nats; 0.014 with 5,000 points


def run(out: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, Any]:
    """Train every family on every density, evaluate on held-out points, plot densities and samples.

    Args:
        out: folder of the figures and ``numbers.json``.
        seed: of the points, the weights, the batches and the samples.
        steps: of each training; None for 2,000.
    """
    clock, steps = Clock(), UPDATES if steps is None else steps
    with_zuko = find_spec("zuko") is not None
    numbers: dict[str, Any] = {
        "seed": seed,
        "updates": steps,
        "restarts": RESTARTS,
        "settings": {"transforms": TRANSFORMS, "hidden": HIDDEN, "batch": BATCH, "learning_rate": LEARNING_RATE},
        "held_out_nats": {},
        "zuko": {} if with_zuko else None,
    }
    images = {}
    for name, (ours, theirs, shown) in zip(SHAPES, _every_shape(seed, steps, with_zuko), strict=True):
        numbers["held_out_nats"][name] = ours
        if with_zuko:
            numbers["zuko"][name] = theirs
        images[name] = shown
    _draw_grid(out / "densities.png", images, numbers, "Densities: p(x) of every flow", samples=False)
    _draw_grid(out / "samples.png", images, numbers, "Samples of every flow", samples=True)
    numbers["parameters"] = {family: _count(_ours(family, seed)) for family in FAMILIES}
    if with_zuko:
        numbers["zuko_parameters"] = {family: _count(_theirs(family, seed)) for family in ZUKO}
        numbers["least_ours_minus_zuko"] = {
            family: min(
                numbers["held_out_nats"][name][family] - theirs[family] for name, theirs in numbers["zuko"].items()
            )
            for family in ZUKO
        }
        _draw_comparison(out / "zuko.png", numbers)
    numbers["seconds"] = clock.seconds
    write_numbers(out, numbers)
    _report(numbers)
    return numbers


_Found = tuple[dict[str, float], dict[str, float], dict[str, tuple[Tensor | None, Tensor]]]


def _every_shape(seed: int, steps: int, with_zuko: bool) -> list[_Found]:
    """Results of all shapes, with one process per core, as such small networks do not use more than one."""
    jobs = [(name, family, True) for name in SHAPES for family in FAMILIES]
    jobs += [(name, family, False) for name in SHAPES for family in ZUKO if with_zuko]
    jobs.sort(key=lambda job: job[1] != "nsf")  # slow ones first, for a balanced load
    arguments = [(*job, seed, steps) for job in jobs]
    workers = min(os.cpu_count() or 1, len(jobs))
    if workers == 1:
        found = dict(zip(jobs, itertools.starmap(_one_flow, arguments), strict=True))
    else:
        with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
            found = dict(zip(jobs, pool.starmap(_one_flow, arguments, chunksize=1), strict=True))
    results: list[_Found] = []
    for name in SHAPES:
        shape = draw_shape(name, seed)
        shown: dict[str, tuple[Tensor | None, Tensor]] = {"data": (None, shape.pictured[:DOTS])}
        ours = {"gaussian": _gaussian_nats(shape)}
        for family in FAMILIES:
            ours[family], image = found[name, family, True]
            assert image is not None
            shown[family] = image
        theirs = {family: found[name, family, False][0] for family in ZUKO if with_zuko}
        results.append((ours, theirs, shown))
    return results


def _one_flow(name: str, family: str, own: bool, seed: int, steps: int) -> tuple[float, tuple[Tensor, Tensor] | None]:
    """Held-out nats, and for our flows plots: density (SIDE, SIDE) and points (DOTS, 2)."""
    shape = draw_shape(name, seed)
    model = _best(_ours if own else _theirs, family, shape, seed, steps)
    return _held_out(model, shape), _image(model, seed) if own else None


# --- points -------------------------------------------------------------------------------------------------


def _moons(count: int, generator: Generator) -> Tensor:
    """Two interleaved half circles, noise 0.1."""
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.stack((angle.cos(), angle.sin()), 1)
    lower = torch.stack((1 - angle.cos(), 0.5 - angle.sin()), 1)
    points = torch.where(torch.rand(count, 1, generator=generator) < 0.5, upper, lower)
    return points + 0.1 * torch.randn(count, 2, generator=generator)


def _eight_gaussians(count: int, generator: Generator) -> Tensor:
    """Equal Gaussians, standard deviation 0.2, on a circle of radius 2."""
    angle = 2 * math.pi / 8 * torch.randint(8, (count,), generator=generator)
    return 2 * torch.stack((angle.cos(), angle.sin()), 1) + 0.2 * torch.randn(count, 2, generator=generator)


def _pinwheel(count: int, generator: Generator) -> Tensor:
    """Five arms whose curvature increases with the radius."""
    arm = torch.randint(5, (count,), generator=generator)
    noise = torch.randn(count, 2, generator=generator)
    along, across = 1 + 0.3 * noise[:, 0], 0.1 * noise[:, 1]
    angle = 2 * math.pi / 5 * arm + 0.25 * along.exp()
    return torch.stack((along * angle.cos() - across * angle.sin(), along * angle.sin() + across * angle.cos()), 1)


def _spirals(count: int, generator: Generator) -> Tensor:
    """Two spirals of one and a half turns, noise 0.1."""
    angle = 3 * math.pi * torch.rand(count, generator=generator).sqrt()
    side = 1 - 2.0 * torch.randint(2, (count,), generator=generator)
    curve = torch.stack((-angle.cos(), angle.sin()), 1) * (side * angle / 3)[:, None]
    return curve + 0.1 * torch.randn(count, 2, generator=generator)


def _rings(count: int, generator: Generator) -> Tensor:
    """Three concentric circles, noise 0.08."""
    radius = 0.5 + 0.75 * torch.randint(3, (count,), generator=generator)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    circle = radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
    return circle + 0.08 * torch.randn(count, 2, generator=generator)


SHAPES: dict[str, Callable[[int, Generator], Tensor]] = {
    "moons": _moons,
    "eight gaussians": _eight_gaussians,
    "pinwheel": _pinwheel,
    "spirals": _spirals,
    "rings": _rings,
}


@dataclass(frozen=True)
class Shape:
    """Points (N, 2) of one density, standardised in each coordinate by the training points.

    ``held_out`` are used for evaluation, ``pictured`` for the figures.
    """

    training: Tensor
    held_out: Tensor
    pictured: Tensor


def draw_shape(name: str, seed: int, training: int = TRAINING, held_out: int = HELD_OUT) -> Shape:
    """Sample and standardise points; all log-likelihoods are those of standardised points."""
    points = SHAPES[name](training + PICTURED, Generator().manual_seed(seed))
    others = SHAPES[name](held_out, Generator().manual_seed(seed + 2**32))
    mean, std = points[:training].mean(0), points[:training].std(0)
    points, others = (points - mean) / std, (others - mean) / std
    return Shape(points[:training], others, points[training:])


# --- models -------------------------------------------------------------------------------------------------


class _Zuko(nn.Module):
    """A flow of zuko with the interface that :func:`fit` uses."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def log_prob(self, x: Tensor) -> Tensor:
        density: Tensor = self.inner().log_prob(x)
        return density


class _Own(nn.Module):
    def __init__(self, inner: Flow) -> None:
        super().__init__()
        self.inner = inner

    def log_prob(self, x: Tensor) -> Tensor:
        return self.inner.given(count=len(x)).log_prob(x)


def _ours(family: str, seed: int) -> _Own:
    """Our flow with PyTorch's default initialisation of the last layers instead of zero.

    Zero (the identity) is the right initialisation for a latent prior. For densities with the symmetries of these it
    is close to a saddle point of the likelihood, which additive couplings leave slowly or never.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Own(flow(family, 2, steps=TRANSFORMS, hidden=HIDDEN))
        for layer in model.modules():
            if isinstance(layer, nn.Linear) and not layer.weight.any():
                layer.reset_parameters()
    return model


def _theirs(family: str, seed: int) -> _Zuko:
    """zuko's flow of that family: same number of transforms, same networks, same number of bins."""
    theirs = optional("zuko.flows")
    name, own = ZUKO[family]
    options: dict[str, Any] = {"transforms": TRANSFORMS, "hidden_features": (HIDDEN, HIDDEN), "activation": nn.SiLU}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Zuko(getattr(theirs, name)(2, **options, **own))


def fit(model: Any, shape: Shape, seed: int, updates: int) -> Any:
    """Maximum likelihood with Adam, a cosine schedule and the same batches for every model; returns the model."""
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    model.train()
    for _ in range(updates):
        rows = torch.randint(len(shape.training), (BATCH,), generator=generator)
        optimizer.zero_grad()
        (-model.log_prob(shape.training[rows]).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def _best(make: Callable[[str, int], Any], family: str, shape: Shape, seed: int, updates: int) -> Any:
    """The best of several trainings on training points, as two-dimensional flows can reach poor local optima."""
    models = [fit(make(family, seed + restart), shape, seed, updates) for restart in range(RESTARTS[family])]
    return max(models, key=lambda model: _mean_log_prob(model, shape.training))


def _held_out(model: Any, shape: Shape) -> float:
    """Mean log-likelihood of the held-out points, in nats per point."""
    return _mean_log_prob(model, shape.held_out)


@torch.no_grad()
def _mean_log_prob(model: Any, x: Tensor) -> float:
    return float(model.log_prob(x).mean())


def _gaussian_nats(shape: Shape) -> float:
    """The same for the full-covariance Gaussian of the training points."""
    gaussian = torch.distributions.MultivariateNormal(shape.training.mean(0), shape.training.T.cov())
    return float(gaussian.log_prob(shape.held_out).mean())


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# --- figures ------------------------------------------------------------------------------------------------

REACH, SIDE, DOTS = 2.6, 161, 3000


@torch.no_grad()
def _image(model: _Own, seed: int) -> tuple[Tensor, Tensor]:
    """Density (SIDE, SIDE) over [−REACH, REACH]², rows upwards, and points (DOTS, 2)."""
    line = torch.linspace(-REACH, REACH, SIDE)
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
    points = model.inner.given(count=DOTS).sample(Generator().manual_seed(seed))
    return model.log_prob(places).exp().view(SIDE, SIDE), points


def _draw_grid(file: Path, images: dict[str, Any], numbers: dict[str, Any], title: str, *, samples: bool) -> None:
    """A row per density and a column per family, with the data on the left."""
    figure, axes = new_figure(len(images), len(FAMILIES) + 1, (12, 10.2), title)
    frame = (-REACH, REACH, -REACH, REACH)
    for row, (name, found) in enumerate(images.items()):
        brightest = max(float(density.max()) for density, _ in found.values() if density is not None)
        brightest = min(brightest, 1.5 * float(found["nsf"][0].max()))
        for column, (family, (density, points)) in enumerate(found.items()):
            nats = "" if family == "data" else f"{numbers['held_out_nats'][name][family]:.2f} nats"
            head = FAMILIES.get(family, "held-out points")
            panel = blank(axes[row, column], (f"{head}\n{nats}" if row == 0 else nats).strip())
            if density is None or samples:
                panel.scatter(points[:, 0], points[:, 1], s=1.2, lw=0, alpha=0.55, color=colour_of(family))
                panel.set(xlim=frame[:2], ylim=frame[2:], aspect="equal", facecolor="white")
            else:
                panel.imshow(density, origin="lower", extent=frame, cmap="magma", vmin=0, vmax=brightest)
            if column == 0:
                panel.set_ylabel(name, fontsize=11, color=INK)
    save_figure(figure, file)


def _draw_comparison(file: Path, numbers: dict[str, Any]) -> None:
    """Ours minus zuko's, held-out nats, by density and family."""
    figure, axes = new_figure(1, 1, (8, 3.8))
    panel = dress(axes[0, 0], "Our flows minus zuko's of the same size, held-out points", "", "nats per point")
    for i, family in enumerate(ZUKO):
        values = [numbers["held_out_nats"][name][family] - numbers["zuko"][name][family] for name in SHAPES]
        places = [at + 0.26 * (i - 1) for at in range(len(SHAPES))]
        panel.bar(places, values, 0.24, color=colour_of(family), label=FAMILIES[family])
    panel.axhline(0, color=INK, lw=1)
    panel.axhspan(-0.05, 0.05, color=GRID, zorder=0)
    panel.set_xticks(range(len(SHAPES)), list(SHAPES))
    panel.set_ylim(-0.2, 0.4)  # without bounds, a single outlier can cost a flow any number of nats
    panel.legend(frameon=False, fontsize=9, ncols=3)
    save_figure(figure, file)


def _report(numbers: dict[str, Any]) -> None:
    rows: list[list[str | float]] = [[name, *found.values()] for name, found in numbers["held_out_nats"].items()]
    print_table("Held-out log-likelihood, nats per point", ["density", "Gaussian", *FAMILIES.values()], rows)
    if numbers["zuko"] is None:
        print("zuko is not installed: no comparison")
        return
    rows = []
    for name, theirs in numbers["zuko"].items():
        ours = numbers["held_out_nats"][name]
        rows.append([name, *(f"{ours[family]:.3f} / {theirs[family]:.3f}" for family in ZUKO)])
    rows.append(["smallest difference", *(f"{value:+.3f}" for value in numbers["least_ours_minus_zuko"].values())])
    print_table("Ours / zuko's", ["density", *(FAMILIES[family] for family in ZUKO)], rows)
