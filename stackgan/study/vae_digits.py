"""Variational autoencoder on handwritten digits, with and without the KL term.

The decoder's distribution of every pixel is a discretised logistic over its levels (arXiv:1701.05517, section 2.1),
so that the ELBO bounds the log-probability of the stored digit and is comparable with the bound in
:mod:`stackgan.study.flow_digits`.
"""

from __future__ import annotations

import gzip
import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from stackgan.latent.distributions import DiagonalGaussian, FullGaussian
from stackgan.study.figures import (
    COLOURS,
    DIGIT_COLOURS,
    INK,
    Clock,
    blank,
    dress,
    new_figure,
    optional,
    print_table,
    save_figure,
    tiles,
    write_numbers,
)

__all__ = [
    "Autoencoder",
    "Digits",
    "discretised_logistic",
    "kernel_distance",
    "load_digits",
    "nearest_distance",
    "run",
    "split",
]

STEPS, BATCH = 1500, 128
LATENT, HIDDEN = 16, 256
LEAST_SCALE = 0.05  # minimum scale of the logistic, in levels: at this scale nearly all mass is on one level


def run(out: Path, *, seed: int = 0, steps: int | None = None, mnist: Path | None = None) -> dict[str, Any]:
    """Train four models (2-D and 16-D latent, with and without KL), evaluate and plot.

    Args:
        out: folder of the figures and ``numbers.json``.
        seed: of the split, the weights and all samples.
        steps: of each training; None for 1,500.
        mnist: folder with ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte`` (or ``.gz``) to use instead of
            scikit-learn's 8 × 8 digits.
    """
    clock, steps = Clock(), STEPS if steps is None else steps
    digits = load_digits(mnist)
    parts = split(digits, seed)
    numbers: dict[str, Any] = {
        "data": "MNIST" if mnist else "scikit-learn digits, 8 × 8, 17 levels",
        "digits": dict(zip(("fit", "validation", "held_out"), (len(part.images) for part in parts), strict=True)),
        "seed": seed,
        "steps": steps,
    }
    models = {
        (name, latent): train(parts[0], parts[1], latent, name == "vae", seed=seed, steps=steps)
        for latent in (2, LATENT)
        for name in ("vae", "ae")
    }
    held_out = parts[2]
    for (name, latent), model in models.items():
        numbers[f"{name}_{latent}d"] = measure(model, held_out, seed)
    samples = prior_samples(models["vae", LATENT], models["ae", LATENT], parts[0], len(held_out.images), seed)
    numbers["samples"] = _compare_samples(samples, held_out)
    _draw_reconstructions(out / "reconstructions.png", models["vae", LATENT], models["ae", LATENT], held_out)
    _draw_samples(out / "samples.png", samples, held_out, numbers["samples"])
    _draw_maps(out / "latent.png", models["vae", 2], models["ae", 2], held_out)
    numbers["seconds"] = clock.seconds
    write_numbers(out, numbers)
    _report(numbers)
    return numbers


# --- digits -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Stored digits: ``images`` (N, H, W) of integers 0 … levels − 1, ``labels`` (N,) of 0 … 9."""

    images: Tensor
    labels: Tensor
    levels: int

    @property
    def flat(self) -> Tensor:
        """Levels (N, H·W), float32."""
        return self.images.flatten(1).float()

    def take(self, rows: Tensor) -> Digits:
        return Digits(self.images[rows], self.labels[rows], self.levels)


def load_digits(mnist: Path | None = None) -> Digits:
    """scikit-learn's 1,797 digits of 8 × 8 pixels and 17 levels (NIST, 43 writers), or MNIST's training digits.

    Raises:
        ValueError: scikit-learn is not installed, or a file is not in the idx format.
        FileNotFoundError: the MNIST files are missing.
    """
    if mnist is not None:
        images = torch.from_numpy(_read_idx(mnist, "train-images-idx3-ubyte", 3)).long()
        return Digits(images, torch.from_numpy(_read_idx(mnist, "train-labels-idx1-ubyte", 1)).long(), 256)
    loaded = optional("sklearn.datasets").load_digits()
    return Digits(torch.from_numpy(loaded.images).long(), torch.from_numpy(loaded.target).long(), 17)


def _read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an idx file of unsigned bytes (MNIST's format): magic 0, 0, 8, dimensions; sizes; bytes."""
    file = folder / name
    if file.is_file():
        content = file.read_bytes()
    elif file.with_name(f"{name}.gz").is_file():
        content = gzip.decompress(file.with_name(f"{name}.gz").read_bytes())
    else:
        raise FileNotFoundError(f"{file}: no such file, nor {name}.gz: copy MNIST's idx files there")
    shape = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4").astype(int)
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) != 4 + 4 * dimensions + shape.prod():
        raise ValueError(f"{file}: not an idx file of {dimensions} dimensions, or truncated: download it again")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def split(digits: Digits, seed: int) -> tuple[Digits, Digits, Digits]:
    """Seeded split: 70 % for fitting, 10 % for validation (together the training split), 20 % held out."""
    count = len(digits.images)
    order = torch.randperm(count, generator=Generator().manual_seed(seed))
    held_out, validation = round(0.2 * count), round(0.1 * count)
    rows = order.split([count - validation - held_out, validation, held_out])
    return digits.take(rows[0]), digits.take(rows[1]), digits.take(rows[2])


# --- model --------------------------------------------------------------------------------------------------


def discretised_logistic(levels: Tensor, mean: Tensor, scale: Tensor, count: int) -> Tensor:
    """Discretised logistic: log P(k) of the mass between k − ½ and k + ½, with the tails at the end levels.

    P(k) = σ(b) − σ(a), a = (k − ½ − mean) / scale, b = (k + ½ − mean) / scale (arXiv:1701.05517, eq. 2), computed as
    log σ(b) + log σ(−a) + log(1 − exp(a − b)).

    Args:
        levels, mean, scale: of equal shape; levels 0 … count − 1, scale > 0, in levels.

    >>> k = torch.arange(17.0)
    >>> round(float(discretised_logistic(k, torch.full_like(k, 3.3), torch.full_like(k, 2.0), 17).exp().sum()), 5)
    1.0
    """
    above = F.logsigmoid((levels + 0.5 - mean) / scale)
    below = F.logsigmoid((mean - levels + 0.5) / scale)
    middle = above + below + torch.log(-torch.expm1(-1 / scale))
    return torch.where(levels <= 0, above, torch.where(levels >= count - 1, below, middle))


class Autoencoder(nn.Module):
    """Autoencoder of digits (N, pixels): q(z | x) and p(x | z) are perceptrons with two hidden layers.

    Args:
        pixels: H·W.
        levels: number of values of a pixel.
        latent: D of z.
        variational: sample z and include the KL to N(0, I); otherwise z is q's mean, without KL.
    """

    def __init__(self, pixels: int, levels: int, latent: int, variational: bool, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.levels, self.variational = levels, variational
        self.encoder = _perceptron(pixels, hidden, 2 * latent)
        self.decoder = _perceptron(latent, hidden, 2 * pixels)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """q(z | x) for levels x (N, pixels)."""
        mu, logvar = self.encoder(2 * x / (self.levels - 1) - 1).chunk(2, 1)
        return DiagonalGaussian(mu, logvar.clamp(-10, 5))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale (N, pixels) of each pixel's logistic, in levels."""
        mean, scale = self.decoder(z).chunk(2, 1)
        half = (self.levels - 1) / 2
        return half * (1 + mean), half / 4 * F.softplus(scale) + LEAST_SCALE

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (N,)."""
        return discretised_logistic(x, *self.decode(z), self.levels).sum(1)

    def objective(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """(N,): the ELBO log p(x | z) − KL(q ‖ N(0, I)) with one z ~ q (arXiv:1312.6114, eq. 10), or without KL."""
        q = self.posterior(x)
        if not self.variational:
            return self.log_likelihood(x, q.mode)
        return self.log_likelihood(x, q.sample(generator)) - q.kl()

    def image(self, z: Tensor) -> Tensor:
        """The decoder's means as levels in [0, 1], (N, pixels)."""
        return (self.decode(z)[0] / (self.levels - 1)).clamp(0, 1)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )  # fmt: skip


def train(fit: Digits, validation: Digits, latent: int, variational: bool, *, seed: int, steps: int) -> Autoencoder:
    """Maximise the objective with AdamW; returns the weights with the best validation objective."""
    x, unseen = fit.flat, validation.flat
    generator = Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder(x.shape[1], fit.levels, latent, variational)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, kept = -math.inf, deepcopy(model.state_dict())
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        (-model.objective(x[rows], generator).mean()).backward()
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 40) == 0 or step == steps:
            value = _validate(model, unseen, seed)
            if value > best:
                best, kept = value, deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model.eval()


@torch.no_grad()
def _validate(model: Autoencoder, x: Tensor, seed: int, draws: int = 4) -> float:
    """Mean objective over digits, with the same noise in every call."""
    generator = Generator().manual_seed(seed + 1)
    return sum(float(model.objective(x, generator).mean()) for _ in range(draws)) / draws


# --- measures -----------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(model: Autoencoder, held_out: Digits, seed: int, draws: int = 200) -> dict[str, float]:
    """Evaluate on held-out digits: mean reconstruction error in levels; for a VAE also the ELBO and its terms.

    ``log_likelihood`` is the importance-weighted bound of ``draws`` samples (arXiv:1509.00519, eq. 8), in nats.
    """
    x = held_out.flat
    q = model.posterior(x)
    error = (model.image(q.mode) * (model.levels - 1) - x).square().mean().sqrt()
    result = {"reconstruction_rmse_levels": float(error), "code_std": float(q.mu.std(0).mean())}
    if not model.variational:
        return result
    generator = Generator().manual_seed(seed)
    standard = DiagonalGaussian(torch.zeros_like(q.mu), torch.zeros_like(q.mu))
    likelihoods, weights = [], []
    for _ in range(draws):
        z = q.sample(generator)
        likelihoods.append(model.log_likelihood(x, z))
        weights.append(likelihoods[-1] + standard.log_prob(z) - q.log_prob(z))
    reconstruction = torch.stack(likelihoods).mean(0)
    bound = float((reconstruction - q.kl()).mean())
    importance = float((torch.logsumexp(torch.stack(weights), 0) - math.log(draws)).mean())
    return {
        **result,
        "elbo": bound,
        "reconstruction": float(reconstruction.mean()),
        "kl": float(q.kl().mean()),
        "active_dimensions": int((q.kl_per_dimension().mean(0) > 0.1).sum()),
        "log_likelihood": importance,
        "bits_per_dim": -importance / x.shape[1] / math.log(2),
    }


@torch.no_grad()
def prior_samples(vae: Autoencoder, ae: Autoencoder, fit: Digits, count: int, seed: int) -> dict[str, Tensor]:
    """Samples (count, pixels) in [0, 1] from the same noise: VAE, AE, AE with a Gaussian fitted to its codes.

    ``real`` are as many digits of the training split, as a reference for a perfect model.
    """
    noise = torch.randn(count, LATENT, generator=Generator().manual_seed(seed))
    codes = FullGaussian.fit(ae.posterior(fit.flat).mode, ridge=1e-4)
    fitted = FullGaussian(codes.mean.expand(count, -1), codes.factor)
    return {
        "real": fit.flat[:count] / (fit.levels - 1),
        "vae": vae.image(noise),
        "ae": ae.image(noise),
        "ae_fitted": ae.image(fitted.sample(noise=noise)),
    }


def nearest_distance(samples: Tensor, real: Tensor) -> float:
    """Mean Euclidean distance from each sample (N, D) to the nearest real one (M, D)."""
    return float(torch.cdist(samples, real).min(1).values.mean())


def kernel_distance(samples: Tensor, real: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al., JMLR 2012, eq. 3) of samples (N, D), (M, D).

    The kernel is Gaussian with the median distance between real samples as bandwidth. About 0 for equal
    distributions.
    """
    width = torch.pdist(real).median()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * width.square()))

    def within(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(within(samples) + within(real) - 2 * kernel(samples, real).mean())


def _compare_samples(samples: dict[str, Tensor], held_out: Digits) -> dict[str, dict[str, float]]:
    """Distances of each kind of sample to the held-out digits, of which at most 1,000 are used."""
    real = held_out.flat[:1000] / (held_out.levels - 1)
    return {
        name: {
            "nearest_distance": nearest_distance(images[:1000], real),
            "nearest_distance_back": nearest_distance(real, images[:1000]),
            "kernel_distance": kernel_distance(images[:1000], real),
        }
        for name, images in samples.items()
    }


def _report(numbers: dict[str, Any]) -> None:
    names = {"elbo": "ELBO", "kl": "KL", "log_likelihood": "log p (200 draws)", "bits_per_dim": "bits/dim"}
    rows: list[list[str | float]] = [
        [f"VAE, {latent}-D", *(numbers[f"vae_{latent}d"][key] for key in names)] for latent in (2, LATENT)
    ]
    print_table("Held-out digits, nats", ["model", *names.values()], rows)
    rows = [
        [_SAMPLE_NAMES[name], *(round(v, 4) + 0.0 for v in values.values())]
        for name, values in numbers["samples"].items()
    ]
    print_table("Samples against held-out digits", ["samples", "to nearest digit", "back", "kernel distance"], rows)


# --- figures ------------------------------------------------------------------------------------------------

_SAMPLE_NAMES = {
    "real": "real digits (training)",
    "vae": "VAE, z ~ N(0, I)",
    "ae": "without KL, z ~ N(0, I)",
    "ae_fitted": "without KL, Gaussian fitted to codes",
}


@torch.no_grad()
def _draw_reconstructions(file: Path, vae: Autoencoder, ae: Autoencoder, held_out: Digits, count: int = 20) -> None:
    shape, x = held_out.images.shape[1:], held_out.flat[:count]
    rows = {
        "held-out digits": x / (held_out.levels - 1),
        f"VAE, {LATENT}-D": vae.image(vae.posterior(x).mode),
        "without KL": ae.image(ae.posterior(x).mode),
    }
    figure, axes = new_figure(3, 1, (11, 2.6), "Held-out digits and their reconstructions")
    for panel, (name, images) in zip(axes[:, 0], rows.items(), strict=True):
        blank(panel).imshow(tiles(images.view(-1, *shape), count), cmap="Greys", vmin=0, vmax=1)
        panel.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9.5, color=INK)
    save_figure(figure, file)


def _draw_samples(file: Path, samples: dict[str, Tensor], held_out: Digits, distances: dict[str, Any]) -> None:
    figure, axes = new_figure(
        1, 4, (14, 4.2), "Decoder means of z drawn from the prior, with and without the KL in training"
    )
    for panel, (name, images) in zip(axes[0], samples.items(), strict=True):
        sheet = tiles(images[:64].view(-1, *held_out.images.shape[1:]), 8)
        blank(panel, _SAMPLE_NAMES[name]).imshow(sheet, cmap="Greys", vmin=0, vmax=1)
        nearest, kernel = distances[name]["nearest_distance"], round(distances[name]["kernel_distance"], 3) + 0.0
        note = f"to nearest digit {nearest:.2f}, kernel distance {kernel:.3f}"
        panel.set_xlabel(note, fontsize=9, color=INK)
    save_figure(figure, file)


@torch.no_grad()
def _draw_maps(file: Path, vae: Autoencoder, ae: Autoencoder, held_out: Digits, side: int = 15) -> None:
    """Plot the held-out digits' codes in the latent plane, and decoded images over the plane."""
    figure, axes = new_figure(1, 3, (14.5, 4.9), "Two-dimensional latents of held-out digits")
    for panel, (name, model) in zip(axes[0], {"VAE": vae, "without KL": ae}.items(), strict=False):
        codes = model.posterior(held_out.flat).mode
        dress(panel, f"{name}: codes and the prior's 1, 2, 3 σ", "z₁", "z₂", grid="")
        for digit in range(10):
            points = codes[held_out.labels == digit]
            panel.scatter(points[:, 0], points[:, 1], s=12, color=DIGIT_COLOURS[digit], label=str(digit), lw=0)
        angle = torch.linspace(0, 2 * math.pi, 200)
        for radius in (1, 2, 3):
            panel.plot(radius * angle.cos(), radius * angle.sin(), color=INK, lw=0.9, ls=":")
        panel.set_aspect("equal", "datalim")
    axes[0, 1].legend(title="digit", frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5))
    quantiles = torch.special.ndtri(torch.linspace(0.02, 0.98, side))
    z = torch.stack(torch.meshgrid(quantiles, -quantiles, indexing="xy"), -1).view(-1, 2)
    sheet = tiles(vae.image(z).view(-1, *held_out.images.shape[1:]), side)
    panel = blank(axes[0, 2], "VAE: decoded quantiles of N(0, I) in the plane")
    panel.imshow(sheet, cmap="Greys", vmin=0, vmax=1)
    panel.set_xlabel("z₁", fontsize=9.5, color=COLOURS["data"])
    panel.set_ylabel("z₂", fontsize=9.5, color=COLOURS["data"])
    save_figure(figure, file)
