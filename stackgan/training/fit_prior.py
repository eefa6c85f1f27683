"""Fit flow priors to a trained checkpoint: p(z) to samples of its posterior, p(c) to the codes of its captions.

G, CA_NET and q(z | x, c) are not changed; both flows are fitted by maximum likelihood,

    max E_{x, c} E_{z ~ q(z | x, c)} [log p(z)]        max E_e E_{c ~ q(c | e)} [log p(c)]

which are the terms of the ELBO (arXiv:1312.6114, eq. 3) that depend on the priors when q is fixed; with
latent.context=caption the first is p(z | c). Takes minutes on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stackgan.checkpoint import check_replaceable
from stackgan.config import Config, with_overrides
from stackgan.config.facts import FittedPriorFacts, PriorFitFacts
from stackgan.config.model_card import with_measured, with_section
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.images.pixels import from_arrays
from stackgan.io.checkpoint_names import find_checkpoint
from stackgan.latent.distributions import DiagonalGaussian, standard_normal
from stackgan.latent.flows import Flow
from stackgan.latent.posterior import ACTIVE
from stackgan.latent.priors import FLOW, PRIORS, FlowPrior
from stackgan.model import StackGAN, check_choices, has_posterior
from stackgan.pipeline import StackGANPipeline
from stackgan.text.load import caption_embeddings, stored_embeddings
from stackgan.training.fitting import Fitting, held_out, save_fitted

__all__ = ["fit_prior"]

BATCH = 256
LEARNING_RATE = 1e-3
EMA_DECAY = 0.998  # of the flows' weights
MAX_CODES = 50_000  # captions that p(c) is fitted to, at most
VIEWS = 2  # of each image, with different flips and crops


@dataclass(frozen=True)
class _Styles:
    """Posteriors q(z | x, c) (N, Z) of images, and the conditioning codes (N, C) they were computed with."""

    q: DiagonalGaussian
    c: Tensor


def fit_prior(
    checkpoint: str | Path,
    data: Path,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    steps: int = 3000,
    seed: int = 0,
    device: str | None = None,
) -> int:
    """Write ``checkpoint`` with fitted flow priors as a new checkpoint at ``out``; returns 0.

    p(z) is fitted where the checkpoint has a posterior, p(c) where it has captions and latent.c is flow.

    Args:
        checkpoint: latent.z vae or flow for p(z).
        data: the prepared folder it was trained on, or one with similar images and captions.
        overrides: ``latent.family=nsf`` and the like; other sections may not be changed.
        steps: of Adam, each with 256 styles or codes.

    Raises:
        ValueError: nothing to fit, or an override of a key that cannot change after training.
    """
    if steps < 1:
        raise ValueError(f"--steps {steps}: it must be 1 or more")
    checkpoint = find_checkpoint(checkpoint)
    check_replaceable(out)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    model, split = pipe.model, PreparedFolder.open(data).train
    config = _new_config(pipe.config, overrides)
    torch.manual_seed(seed)
    fitted = StackGAN(config).to(pipe.device).eval()
    _carry_over(model, fitted)
    report: dict[str, dict[str, float]] = {}

    embeddings = torch.from_numpy(np.array(_embeddings(pipe, split))) if pipe.conditional else None
    if model.posterior is not None:
        styles = read_styles(model, split, embeddings, seed)
        captioned = config.latent.context == "caption" and pipe.conditional
        context = styles.c if captioned else None
        report["z"] = _fit(_flow_of(fitted.prior), styles.q, context, steps, "p(z | c)" if captioned else "p(z)")
        report["z"]["active_units"] = float((styles.q.mu.var(0) > ACTIVE).sum())
    if fitted.has_code_flow and embeddings is not None:
        rows = torch.randperm(len(embeddings))[:MAX_CODES]
        with torch.no_grad():
            q = model.condition(embeddings[rows].to(pipe.device))
        report["c"] = _fit(_flow_of(fitted.code_prior), q, None, steps, "p(c)")
        fitted.measure_codes(embeddings[rows].to(pipe.device))
    fits = {slot: PriorFitFacts(**figures) for slot, figures in report.items()}
    facts = replace(pipe.facts, fitted_prior=FittedPriorFacts(config.latent.family, steps, **fits), measured=())
    card = with_section(with_measured(pipe.card, facts), "## Fitted priors", _card(config, steps, report))
    save_fitted(out, pipe, checkpoint, config=config, weights=fitted.state_dict(), facts=facts, card=card)
    print(json.dumps(report, indent=2))
    return 0


@torch.no_grad()
def read_styles(model: StackGAN, split: PreparedSplit, embeddings: Tensor | None, seed: int) -> _Styles:
    """q(z | x, c) of :data:`VIEWS` views of each image of the split, each with one of its captions."""
    assert model.posterior is not None
    device, side = next(model.parameters()).device, model.config.tree.sizes[-1]
    draws = np.random.default_rng((seed, 0xF1))
    mus, logvars, codes = [], [], []
    for _ in range(VIEWS):
        for start in tqdm(range(0, len(split), 64), desc="encoding images", unit="batch", leave=False):
            rows = np.arange(start, min(start + 64, len(split)))
            y, x = draws.integers(split.images.shape[1] - side + 1, size=2)
            images = np.asarray(split.images[rows, y : y + side, x : x + side])
            images = images[:, :, ::-1] if draws.random() < 0.5 else images
            shown = from_arrays(images).to(device)
            c = model.no_code(len(rows))
            if embeddings is not None:
                captions = draws.integers(split.offsets[rows], split.offsets[rows + 1])
                c = model.condition(embeddings[captions].to(device)).sample()
            q = model.posterior(shown, c)
            mus.append(q.mu)
            logvars.append(q.logvar)
            codes.append(c)
    return _Styles(DiagonalGaussian(torch.cat(mus), torch.cat(logvars)), torch.cat(codes))


def _fit(flow: Flow, q: DiagonalGaussian, c: Tensor | None, steps: int, what: str) -> dict[str, float]:
    """Maximum likelihood fit to samples of q; returns held-out nats per dimension of N(0, I) and of the flow."""
    count, dim = q.mu.shape
    held, seen = held_out(count)
    if not len(seen):
        raise ValueError(f"{count} rows are too few to fit {what} to")

    def draw(rows: Tensor) -> tuple[Tensor, Tensor | None]:
        part = DiagonalGaussian(q.mu[rows], q.logvar[rows])
        return part.sample(), c[rows] if c is not None else None

    held_z, held_c = draw(held)
    optimizer = torch.optim.Adam(flow.parameters(), LEARNING_RATE)
    fitting = Fitting(flow, optimizer, steps, warm=max(1, steps // 50), decay=EMA_DECAY)
    flow.train()
    with tqdm(total=steps, desc=f"fitting {what}", unit="step", leave=False) as bar:
        for step in range(steps):
            z, context = draw(seen[torch.randint(len(seen), (min(BATCH, len(seen)),))])
            loss = -flow.given(context, len(z)).log_prob(z).mean() / dim
            fitting.step(loss)
            bar.update()
            if step % 50 == 0:
                bar.set_postfix(nats=f"{float(loss.detach()):.3f}", refresh=False)
    flow.load_state_dict(fitting.ema.state_dict())
    flow.eval()
    with torch.no_grad():
        ours = -flow.given(held_c, len(held_z)).log_prob(held_z).mean() / dim
        base = -standard_normal(held_z, dim).log_prob(held_z).mean() / dim
    return {"nats_per_dimension_flow": round(float(ours), 4), "nats_per_dimension_gaussian": round(float(base), 4)}


def _flow_of(prior: nn.Module) -> Flow:
    assert isinstance(prior, FlowPrior)
    return prior.flow


def _embeddings(pipe: StackGANPipeline, split: PreparedSplit) -> np.ndarray:
    if pipe.text_encoder is not None:
        return caption_embeddings(split, pipe.text_encoder)
    return stored_embeddings(split, pipe.config.text.encoder)


def _new_config(config: Config, overrides: Sequence[str]) -> Config:
    """The checkpoint's configuration with flow priors for z (if it has a posterior) and c (if it has captions)."""
    for override in overrides:
        if not override.startswith("latent."):
            raise ValueError(f"{override!r}: only latent.* may be changed, the rest of the checkpoint is trained")
    latent = config.latent
    wanted = replace(
        latent, z=FLOW if has_posterior(config) else latent.z, c=FLOW if config.text.conditional else latent.c
    )
    optim = replace(config.optim, cuda_graphs=False)  # CUDA graphs belong to training and do not support a flow p(c)
    new = with_overrides(replace(config, latent=wanted, optim=optim), overrides)
    check_choices(new)
    flow_keys = [(each.family, each.steps, each.hidden, each.context) for each in (latent, new.latent)]
    if PRIORS[latent.z].fitted and flow_keys[0] != flow_keys[1]:
        raise ValueError(f"latent.z={latent.z} is a flow with these keys: change them first, then use tilt-prior")
    if has_posterior(new) != has_posterior(config) or (new.latent.dim, new.latent.width) != (
        latent.dim,
        latent.width,
    ):
        raise ValueError(
            "latent.z, latent.dim and latent.width of a trained checkpoint cannot be changed, except vae → flow: "
            "its posterior and its generator were trained with them"
        )
    if not has_posterior(new) and not (config.text.conditional and new.latent.c == FLOW):
        raise ValueError(f"nothing to fit: the checkpoint has no posterior (latent.z={latent.z}) and no captions")
    return new


def _carry_over(old: StackGAN, new: StackGAN) -> None:
    """Copy all weights except those of the priors that are fitted."""
    fresh = new.state_dict()
    fitted = (
        ("prior.", "code_prior.", "code_quantiles")
        if has_posterior(new.config)
        else ("code_prior.", "code_quantiles")
    )
    kept = {k: v for k, v in old.state_dict().items() if not k.startswith(fitted)}
    new.load_state_dict(fresh | kept)


def _card(config: Config, steps: int, report: dict[str, dict[str, float]]) -> str:
    lines = [
        f"Flows of family `{config.latent.family}`, {steps} steps, `stackgan fit-prior`; "
        "nats per dimension on the 5 % of the rows that were held out:\n",
        "| | flow | N(0, I) |\n|---|---|---|",
    ]
    for name, figures in report.items():
        what = f"p({name})" if name == "c" or config.latent.context == "none" else "p(z \\| c)"
        lines.append(f"| {what} | {figures['nats_per_dimension_flow']} | {figures['nats_per_dimension_gaussian']} |")
    return "\n".join(lines) + "\n"
