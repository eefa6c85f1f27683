"""KL divergences in small examples: tooth counts, the variance term, forward and reverse KL, three coins.

All computations are in float64 and in nats.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from stackgan.latent.distributions import DiagonalGaussian, kl_discrete
from stackgan.study.figures import COLOURS, INK, dress, new_figure, print_table, save_figure, write_numbers

if TYPE_CHECKING:
    from stackgan.study.figures import Axes

__all__ = [
    "COINS",
    "coin_log_joint",
    "elbo",
    "fit_gaussian",
    "fit_posterior",
    "identity_error",
    "run",
    "tooth_counts",
    "two_peaks",
    "variance_term",
]

TEETH = (0.02, 0.03, 0.05, 0.14, 0.16, 0.15, 0.12, 0.08, 0.10, 0.08, 0.07)
COINS = (1 / 2, 1 / 3, 1 / 4)
TOSSES, FEW_TOSSES = 10_000, 24
PEAKS = ((0.6, -2.5, 0.6), (0.4, 2.5, 0.8))  # weight, mean, standard deviation


def run(out: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, Any]:
    """Compute, plot and print all four parts.

    Args:
        out: folder of the figures and ``numbers.json``.
        seed: of the coin, its tosses and the random q.
        steps: of every gradient descent or ascent; None for 1,000.
    """
    steps = 1000 if steps is None else steps
    numbers = {
        "teeth": _teeth(out),
        "variance_term": _variance(out),
        "forward_reverse": _forward_reverse(out, steps),
        "coins": _coins(out, seed, steps),
    }
    write_numbers(out, numbers)
    return numbers


# --- (a) tooth counts ---------------------------------------------------------------------------------------


def tooth_counts() -> dict[str, Tensor]:
    """Probabilities (11,) of 0 … 10 teeth: empirical, uniform, and Binomial(10, 0.544) with the same mean."""
    counted = torch.tensor(TEETH, dtype=torch.float64)
    chance = 0.544
    binomial = [math.comb(10, k) * chance**k * (1 - chance) ** (10 - k) for k in range(11)]
    return {
        "counted": counted,
        "uniform": torch.full_like(counted, 1 / 11),
        "binomial": torch.tensor(binomial, dtype=torch.float64),
    }


def _teeth(out: Path) -> dict[str, float]:
    teeth = tooth_counts()
    divergence = {name: float(kl_discrete(teeth["counted"], teeth[name])) for name in ("uniform", "binomial")}
    figure, axes = new_figure(1, 3, (11, 3.4), "Number of teeth: data and two models", sharey=True)
    titles = {
        "counted": "counted: p",
        "uniform": f"uniform: KL(p ‖ q) = {divergence['uniform']:.5f} nats",
        "binomial": f"Binomial(10, 0.544): KL(p ‖ q) = {divergence['binomial']:.5f} nats",
    }
    colours = {"counted": COLOURS["p"], "uniform": COLOURS["other"], "binomial": COLOURS["q"]}
    for panel, (name, probability) in zip(axes[0], teeth.items(), strict=True):
        dress(panel, titles[name], "teeth", "probability" if name == "counted" else "")
        panel.bar(range(11), probability, color=colours[name], width=0.8)
        if name != "counted":
            panel.step([i - 0.5 for i in range(12)], [*TEETH, TEETH[-1]], where="post", color=INK, lw=1.2, label="p")
            panel.legend(frameon=False, fontsize=9)
        panel.set_xticks(range(0, 11, 2))
    save_figure(figure, out / "teeth.png")
    print_table("KL(counted teeth ‖ model)", ["model", "nats"], [[k, f"{v:.5f}"] for k, v in divergence.items()])
    return divergence


# --- (b) the variance term ----------------------------------------------------------------------------------


def variance_term(std: Tensor) -> Tensor:
    """Elementwise KL(N(0, σ²) ‖ N(0, 1)) = −log σ + σ²/2 − ½ (arXiv:1312.6114, appendix B)."""
    return -std.log() + std.square() / 2 - 0.5


def _variance(out: Path) -> dict[str, float]:
    std = torch.linspace(0.05, 3, 600, dtype=torch.float64)
    value = variance_term(std)
    closed = DiagonalGaussian(torch.zeros(600, 1, dtype=torch.float64), 2 * std[:, None].log()).kl()
    figure, axes = new_figure(1, 1, (6, 3.8))
    panel = dress(axes[0, 0], "−log σ + σ²/2 − ½ = KL(N(0, σ²) ‖ N(0, 1))", "σ", "nats")
    panel.plot(std, value, color=COLOURS["p"], lw=2.2)
    panel.plot(std, std.square() / 2 - 0.5, color=COLOURS["other"], lw=1.2, ls="--", label="σ²/2 − ½")
    panel.plot(std, -std.log(), color=COLOURS["q"], lw=1.2, ls="--", label="−log σ")
    panel.plot([1], [0], "o", color=INK, ms=6)
    panel.annotate("0 at σ = 1", (1, 0), (1.05, 0.75), arrowprops={"arrowstyle": "-", "color": INK}, color=INK)
    panel.set_ylim(-1.2, 4)
    panel.legend(frameon=False, fontsize=9)
    save_figure(figure, out / "variance_term.png")
    half, one, two = variance_term(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)).tolist()
    return {
        "at_half": half,
        "at_one": one,
        "at_two": two,
        "least_at": float(std[value.argmin()]),
        "difference_to_DiagonalGaussian": float((value - closed).abs().max()),
    }


# --- (c) forward and reverse KL -----------------------------------------------------------------------------


def two_peaks(x: Tensor) -> Tensor:
    """Log density (N,) at x (N,) of a mixture of two Gaussians, at −2.5 and 2.5."""
    terms = [
        math.log(weight) + torch.distributions.Normal(mean, std, validate_args=False).log_prob(x)
        for weight, mean, std in PEAKS
    ]
    return torch.logsumexp(torch.stack(terms), 0)


def fit_gaussian(direction: str, mean: float, steps: int = 1000) -> tuple[float, float, float]:
    """Fit N(m, s²) to :func:`two_peaks` by gradient descent (Adam) on one divergence, integrated on a grid.

    Args:
        direction: ``forward``, KL(p ‖ q), which penalises low q where p has mass (mass-covering); or ``reverse``,
            KL(q ‖ p), which penalises mass of q where p is low (mode-seeking) (Murphy, Probabilistic Machine
            Learning, section 5.1.4).
        mean: initial m; s is initially 1.

    Returns:
        m, s, and the final divergence in nats.

    Raises:
        ValueError: the direction is unknown.
    """
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction is {direction!r}: it must be forward or reverse")
    x = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    width, log_p = float(x[1] - x[0]), two_peaks(x)
    free = torch.tensor([mean, 0.0], dtype=torch.float64, requires_grad=True)  # m, log s
    optimizer = torch.optim.Adam([free], 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def divergence() -> Tensor:
        log_q = DiagonalGaussian(free[:1], 2 * free[1:]).log_prob(x[:, None])
        first, second = (log_p, log_q) if direction == "forward" else (log_q, log_p)
        return (first.exp() * (first - second)).sum() * width

    for _ in range(steps):
        optimizer.zero_grad()
        divergence().backward()
        optimizer.step()
        schedule.step()
    m, log_s = free.tolist()
    return m, math.exp(log_s), float(divergence().detach())


def _forward_reverse(out: Path, steps: int) -> dict[str, Any]:
    fits = {
        "forward": fit_gaussian("forward", 0.5, steps),
        "reverse": fit_gaussian("reverse", -1.0, steps),
        "reverse_other_start": fit_gaussian("reverse", 1.0, steps),
    }
    mean = sum(w * m for w, m, _ in PEAKS)
    std = math.sqrt(sum(w * (s**2 + m**2) for w, m, s in PEAKS) - mean**2)
    x = torch.linspace(-7, 7, 701, dtype=torch.float64)
    density = two_peaks(x).exp()
    figure, axes = new_figure(1, 2, (10, 3.6), "A Gaussian fitted to two peaks", sharey=True)
    drawn = (
        ("forward", "forward, KL(p ‖ q): mass-covering", "q"),
        ("reverse", "reverse, KL(q ‖ p): mode-seeking", "other"),
    )
    for panel, (name, title, colour) in zip(axes[0], drawn, strict=True):
        m, s, value = fits[name]
        dress(panel, f"{title} ({value:.3f} nats)", "x", "density" if name == "forward" else "")
        panel.fill_between(x, density, color=COLOURS["p"], alpha=0.18, lw=0)
        panel.plot(x, density, color=COLOURS["p"], lw=1.6, label="p, two peaks")
        panel.plot(x, _normal(x, m, s), color=COLOURS[colour], lw=2.2, label=f"q = N({m:.2f}, {s:.2f}²)")
        if name == "reverse":
            m, s, value = fits["reverse_other_start"]
            label = f"initialised at the right: N({m:.2f}, {s:.2f}²), {value:.3f}"
            panel.plot(x, _normal(x, m, s), color=COLOURS[colour], lw=1.4, ls="--", label=label)
        panel.legend(frameon=False, fontsize=8.5, loc="upper right")
        panel.set_ylim(0, 0.95)
    save_figure(figure, out / "forward_reverse.png")
    rows: list[list[str | float]] = [[name, *values] for name, values in fits.items()]
    print_table("A Gaussian fitted to two peaks", ["divergence", "mean", "std", "nats"], rows)
    named = {name: dict(zip(("mean", "std", "nats"), values, strict=True)) for name, values in fits.items()}
    return {**named, "moments_of_p": {"mean": mean, "std": std}}


def _normal(x: Tensor, mean: float, std: float) -> Tensor:
    return torch.distributions.Normal(mean, std, validate_args=False).log_prob(x).exp()


# --- (d) three coins ----------------------------------------------------------------------------------------


def coin_log_joint(heads: int, tosses: int) -> Tensor:
    """log p(tosses, coin), (3,), with a uniform prior over ``COINS`` and the probability of the sequence of tosses.

    >>> [round(float(p), 4) for p in coin_log_joint(1, 2).softmax(0)]
    [0.3789, 0.3368, 0.2842]
    """
    heads_chance = torch.tensor(COINS, dtype=torch.float64)
    log_likelihood = heads * heads_chance.log() + (tosses - heads) * torch.log1p(-heads_chance)
    return log_likelihood - math.log(len(COINS))


def elbo(log_q: Tensor, log_joint: Tensor) -> Tensor:
    """E_q[log p(x, k) − log q(k)] over the last dimension: log p(x) − KL(q ‖ posterior) (arXiv:1312.6114, eq. 3)."""
    return (log_q.exp() * (log_joint - log_q)).sum(-1)


def identity_error(log_q: Tensor, log_joint: Tensor) -> Tensor:
    """|log p(x) − ELBO(q) − KL(q ‖ posterior)|, which is 0 in exact arithmetic, for rows q (…, 3)."""
    evidence = torch.logsumexp(log_joint, -1)
    log_posterior = log_joint.log_softmax(-1)
    divergence = (log_q.exp() * (log_q - log_posterior)).sum(-1)
    return (evidence - elbo(log_q, log_joint) - divergence).abs()


def fit_posterior(log_joint: Tensor, steps: int = 1000, rate: float = 0.1) -> tuple[Tensor, list[float]]:
    """Fit q = softmax(logits) by natural-gradient ascent on the ELBO, initialised uniformly.

    The natural gradient in the logits is the gradient with respect to q, log p(x, k) − log q(k), up to a constant
    that softmax removes (Hoffman et al., Stochastic Variational Inference, arXiv:1206.7051, section 2.3). The plain
    gradient is q times that, and vanishes if a coin has nearly no posterior probability.

    Returns:
        q (3,), and the ELBO before every step.
    """
    logits, path = torch.zeros_like(log_joint), []
    for _ in range(steps):
        log_q = logits.log_softmax(-1)
        path.append(float(elbo(log_q, log_joint)))
        logits = logits + rate * (log_joint - log_q)
    return logits.softmax(-1), path


def _coins(out: Path, seed: int, steps: int) -> dict[str, Any]:
    generator = Generator().manual_seed(seed)
    coin = int(torch.randint(len(COINS), (), generator=generator))
    heads = (torch.rand(TOSSES, generator=generator) < COINS[coin]).cumsum(0)
    log_q = (3 * torch.randn(1000, len(COINS), generator=generator, dtype=torch.float64)).log_softmax(-1)
    result: dict[str, Any] = {"coin": COINS[coin]}
    paths = {}
    for tosses in (FEW_TOSSES, TOSSES):
        log_joint = coin_log_joint(int(heads[tosses - 1]), tosses)
        q, paths[tosses] = fit_posterior(log_joint, steps)
        posterior = log_joint.softmax(0)
        result[f"after_{tosses}_tosses"] = {
            "heads": int(heads[tosses - 1]),
            "log_evidence": float(torch.logsumexp(log_joint, 0)),
            "posterior": posterior.tolist(),
            "fitted_q": q.tolist(),
            "difference_of_q": float((q - posterior).abs().max()),
            "largest_identity_error": float(identity_error(log_q, log_joint).max()),
        }
    _draw_coins(out / "coins.png", heads, result, paths[FEW_TOSSES])
    rows = []
    for tosses in (FEW_TOSSES, TOSSES):
        found = result[f"after_{tosses}_tosses"]
        errors = (found["difference_of_q"], found["largest_identity_error"])
        rows.append([f"{tosses} tosses", f"{found['log_evidence']:.4f}", *(f"{error:.1e}" for error in errors)])
    header = ["after", "log p(x)", "|q − posterior|", "|log p − ELBO − KL|, 1,000 q"]
    print_table(f"The coin drawn gives heads with probability {COINS[coin]:.3f}", header, rows)
    return result


def _draw_coins(file: Path, heads: Tensor, result: dict[str, Any], path: list[float]) -> None:
    few = result[f"after_{FEW_TOSSES}_tosses"]
    names = ("½", "⅓", "¼")
    colours = (COLOURS["p"], COLOURS["q"], COLOURS["other"])
    figure, axes = new_figure(1, 3, (12.5, 3.6), "Posterior over three coins")
    _draw_posterior(axes[0, 0], heads, names, colours)

    panel = dress(axes[0, 1], f"ELBO during the fit, {FEW_TOSSES} tosses", "step", "nats")
    shown = path[:80]
    panel.axhline(few["log_evidence"], color=INK, lw=1.2, label="log p(x)")
    panel.plot(shown, color=COLOURS["q"], lw=2, label="ELBO(q)")
    gap: dict[str, Any] = {"color": COLOURS["q"], "alpha": 0.15, "lw": 0, "label": "KL(q ‖ posterior)"}
    panel.fill_between(range(len(shown)), shown, few["log_evidence"], **gap)
    panel.legend(frameon=False, fontsize=9, loc="lower right")

    panel = dress(axes[0, 2], f"Fitted q = posterior, {FEW_TOSSES} tosses", "probability of heads", "probability")
    left, right = [-0.2, 0.8, 1.8], [0.2, 1.2, 2.2]
    panel.bar(left, few["posterior"], 0.38, color=COLOURS["p"], label="exact posterior")
    panel.bar(right, few["fitted_q"], 0.38, color=COLOURS["q"], label="fitted q")
    panel.set_xticks(range(3), names)
    panel.set_ylim(0, max(few["posterior"]) * 1.3)
    panel.legend(frameon=False, fontsize=9)
    save_figure(figure, file)


def _draw_posterior(panel: Axes, heads: Tensor, names: tuple[str, ...], colours: tuple[str, ...]) -> None:
    """Plot the posterior of each coin against the number of tosses."""
    tosses = torch.arange(1, len(heads) + 1)
    chance = torch.tensor(COINS, dtype=torch.float64)
    log_joint = heads[:, None] * chance.log() + (tosses - heads)[:, None] * torch.log1p(-chance)
    dress(panel, "Posterior after a number of tosses", "tosses", "probability")
    for i, name in enumerate(names):
        panel.plot(tosses, log_joint.softmax(1)[:, i], color=colours[i], lw=1.8, label=f"heads with {name}")
    panel.set_xscale("log")
    panel.legend(frameon=False, fontsize=9, loc="center right")
