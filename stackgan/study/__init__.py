"""Studies: the mathematics of the latent modules on small data, with numbers and figures.

    kl             divergences by hand: tooth counts, the variance term, forward against reverse, three coins
    vae-digits     a variational autoencoder on handwritten digits, beside one without the KL
    flow-digits    five flows and a Gaussian on dequantised digits, in nats and bits per dimension
    flow-2d        five flows on five densities of the plane, and zuko's where it is installed
    latents        every latent module of the model on painted birds, in one table (hours)
    recipe         the modern recipe against the published one on your data, a departure a row (hours)

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
    """Run one study: figures (PNG) and ``numbers.json`` into ``out``, a table on the screen; returns the numbers.

    Args:
        options: of ``latents`` and ``recipe``; see the ``run`` of :mod:`stackgan.study.latents` and
            :mod:`stackgan.study.recipe`.

    Raises:
        ValueError: no such study, or an optional package is missing.
    """
    if name not in STUDIES:
        raise ValueError(f"unknown study {name!r}: choose from {', '.join(STUDIES)}")
    numbers: dict[str, Any] = import_module(STUDIES[name]).run(out, seed=seed, **options)
    return numbers
