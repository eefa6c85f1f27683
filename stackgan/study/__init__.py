"""Studies of the latent modules on small data, with numbers and figures.

    kl             KL divergences: tooth counts, the variance term, forward against reverse, three coins
    vae-digits     a variational autoencoder on handwritten digits, with and without the KL term
    flow-digits    five flows and a Gaussian on dequantised digits, in nats and bits per dimension
    flow-2d        five flows on five two-dimensional densities, compared with zuko's if installed
    latents        all latent modules of the model on painted birds, in one table (hours)
    recipe         ablation of the modern recipe against the published one on your data (hours)

They need ``pip install "stackgan[study]"``.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["STUDIES", "study"]

STUDIES = {
    "kl": "stackgan.study.kl",
    "vae-digits": "stackgan.study.vae_digits",
    "flow-digits": "stackgan.study.flow_digits",
    "flow-2d": "stackgan.study.flow_2d",
    "latents": "stackgan.study.latents",
    "recipe": "stackgan.study.recipe",
}


def study(name: str, out: Path, seed: int = 0, **options: Any) -> dict[str, Any]:
    """Run one study: writes figures (PNG) and ``numbers.json`` to ``out``, prints a table, and returns the numbers.

    Args:
        options: for ``latents`` and ``recipe``; see ``run`` in :mod:`stackgan.study.latents` and
            :mod:`stackgan.study.recipe`.

    Raises:
        ValueError: the study is unknown, or an optional package is missing.
    """
    if name not in STUDIES:
        raise ValueError(f"unknown study {name!r}: choose from {', '.join(STUDIES)}")
    numbers: dict[str, Any] = import_module(STUDIES[name]).run(out, seed=seed, **options)
    return numbers
