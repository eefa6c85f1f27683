"""Tilt the style prior of a finished checkpoint toward realistic images: p(z | c) ∝ N(z; 0, I) · exp(β V(z, c)).

Some styles z give broken images: bodies without a head, or with two. V(z, c) is the score by which ``--best-of``
chooses candidates, predicted realism of the image G(z, c) plus its agreement with the caption
(:meth:`stackgan.networks.realism.RealismNetwork.score`). A normalizing flow q(z | c) is fitted to the tilted density
by minimising the reverse KL divergence,

    min_q  E_c [ KL(q(z | c) ‖ N(0, I)) − β · E_{z ~ q(z | c)} V(z, c) ]

whose minimum is the density above (as in reinforcement learning with a KL penalty, arXiv:2205.11275; for the noise
of a generator, arXiv:2508.09968). One image then has much of the quality of the best of several, at the cost of
one. G is not changed.

V is expensive to differentiate through G, so it is replaced by a small network of (z, c), which is fitted to values
and gradients ∂V/∂z of generated images (Sobolev training, arXiv:1706.04859, eq. 1). The first half of the images has
z from N(0, I), the second from the flow that was fitted to the first.

The reverse divergence seeks one mode, and an object looks as good as its mirror image: without a further term, all
would face the same way. The direction of z along which images change most toward their mirror images is found by
regression, and the mean of q(z | c) along it stays 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from stackgan.checkpoint import check_replaceable
from stackgan.config import Config
from stackgan.config.facts import TiltFacts
from stackgan.config.model_card import with_measured, with_section
from stackgan.data.prepared import PreparedFolder
from stackgan.io.checkpoint_names import find_checkpoint
from stackgan.latent.conditioning import Standardise
from stackgan.latent.priors import TILTED, FlowPrior, GaussianPrior
from stackgan.model import has_posterior
from stackgan.pipeline import StackGANPipeline
from stackgan.text.load import caption_embeddings
from stackgan.training.fitting import Fitting, held_out, save_fitted

__all__ = ["Scores", "ValueNetwork", "fit_tilted_flow", "fit_value_network", "mirror_axis", "tilt_prior"]

TRUNCATION = (0.6, 1.0)  # range of the noise scale ψ that the flow is fitted for
BATCH = 8  # images of which gradients are computed at once: more do not fit a CPU's cache
HIDDEN = 512  # width of the value network
EPOCHS = 20  # of the value network: with more, the flow finds its errors
VALUE_BATCH = 256
VALUE_RATE = 1e-3
WEIGHT_DECAY = 0.05
FLOW_STEPS = 1500
FLOW_BATCH = 256
FLOW_RATE = 1e-3
BALANCE = 20.0  # weight of E[z | c]² along the mirror axis
CELLS = 16  # rows and columns of an image's asymmetry
EMA_DECAY = 0.99
CHECKED = 512  # images of held-out captions for the figures


@dataclass(frozen=True)
class Scores:
    """Styles z (N, Z), codes c (N, C), scores V (N,) of their images, gradients ∂V/∂z (N, Z), and the asymmetry of
    the images (N, A), which changes its sign when they are mirrored."""

    z: Tensor
    c: Tensor
    value: Tensor
    gradient: Tensor
    asymmetry: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: Tensor) -> Scores:
        return Scores(*(getattr(self, each.name)[rows] for each in fields(self)))

    @staticmethod
    def joined(parts: Sequence[Scores]) -> Scores:
        return Scores(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Scores)))


def tilt_prior(
    checkpoint: str | Path,
    data: Path,
    out: Path,
    *,
    images: int = 20_000,
    strength: float = 10.0,
    seed: int = 0,
    device: str | None = None,
) -> int:
    """Write ``checkpoint`` with a tilted prior (latent.z=tilted) as a new checkpoint at ``out``; returns 0.

    Args:
        checkpoint: with a realism network (``stackgan fit-realism``) and without a posterior. A tilted prior that it
            has is replaced.
        data: the prepared folder it was trained on, of any size; its captions are used, not its photos.
        images: to generate for the fit, half of them with a first fit.
        strength: β, in nats per unit of the score, whose unit is the standard deviation of realism among the images
            of a caption. Larger values give better images that vary less.

    Raises:
        FileNotFoundError: there is no checkpoint or no prepared folder.
        ValueError: the checkpoint has no realism network, no image tower, or a posterior, whose prior was trained
            with it; too few images or captions; a strength that is not positive.
    """
    if images < 2 * BATCH or not 0 < strength < math.inf:
        raise ValueError(f"--images {images} --strength {strength}: give {2 * BATCH} images or more, and more than 0")
    checkpoint = find_checkpoint(checkpoint)
    check_replaceable(out)
    pipe = StackGANPipeline.from_pretrained(checkpoint, device=device)
    scorer = _Scorer(pipe, checkpoint)
    captions = caption_embeddings(PreparedFolder.open(data).train, scorer.encoder)
    embeddings = torch.from_numpy(np.array(captions)).to(pipe.device)
    torch.manual_seed(seed)
    held, seen = held_out(len(embeddings))
    if not len(seen):
        raise ValueError(f"{data}: has {len(embeddings)} captions, too few to fit a prior to")
    checked = _drawn(embeddings, held, CHECKED)
    latent = replace(pipe.config.latent, z=TILTED, context="caption")
    gaussian = GaussianPrior(latent.dim)

    def codes(count: int) -> tuple[Tensor, Tensor]:
        scales = _scales(count, pipe.device)
        return scorer.codes(_drawn(embeddings, seen, count), scales), scales

    scores = [scorer.measure(_drawn(embeddings, seen, images - images // 2), gaussian)]
    axis = mirror_axis(scores[0])
    for further in (images // 2, 0):
        value, correlation = fit_value_network(Scores.joined(scores), EPOCHS)
        fresh = FlowPrior(latent.dim, pipe.config.text.code_dim, latent).to(pipe.device)
        prior = fit_tilted_flow(fresh, value, codes, strength, FLOW_STEPS, axis)
        if further:
            scores.append(scorer.measure(_drawn(embeddings, seen, further), prior))
    facts = TiltFacts(
        images=images,
        strength=strength,
        score_gaussian=scorer.mean(checked, gaussian, pipe.truncation),
        score=scorer.mean(checked, prior, pipe.truncation),
        kl=_divergence(prior, scorer.codes(checked, torch.ones(len(checked), 1, device=pipe.device))),
        correlation=correlation,
    )
    config = replace(pipe.config, latent=latent)
    weights = {name: tensor for name, tensor in pipe.model.state_dict().items() if not name.startswith("prior.")}
    weights |= {f"prior.{name}": tensor for name, tensor in prior.state_dict().items()}
    all_facts = replace(pipe.facts, tilted_prior=facts, measured=())
    card = with_section(with_measured(pipe.card, all_facts), "## Tilted prior", _card(config, facts))
    save_fitted(out, pipe, checkpoint, config=config, weights=weights, facts=all_facts, card=card)
    print(json.dumps(asdict(facts), indent=2))
    return 0


class _Scorer:
    """V(z, c), the score of the image of the coarsest stage, and its gradient.

    Raises:
        ValueError: the checkpoint has a posterior, no realism network, or no text encoder.
    """

    def __init__(self, pipe: StackGANPipeline, checkpoint: Path) -> None:
        if has_posterior(pipe.config):
            raise ValueError(
                f"{checkpoint}: latent.z={pipe.config.latent.z} has a posterior, and its prior was trained with it; "
                "a prior can be tilted that has none (latent.z=gaussian)"
            )
        if pipe.text_encoder is None or pipe.realism is None:
            what = "a realism network, `stackgan fit-realism` fits one" if pipe.text_encoder else "a text encoder"
            raise ValueError(f"{checkpoint}: the score of an image needs {what}")
        self.pipe, self.model, self.encoder = pipe, pipe.model, pipe.text_encoder

    def codes(self, e: Tensor, scales: Tensor) -> Tensor:
        """c ~ q(c | e) (B, C) for embeddings (B, T), its noise multiplied by scales (B, 1)."""
        with torch.no_grad():
            q = self.model.condition(e)
            return q.sample(noise=scales * torch.randn_like(q.mu))

    def __call__(self, z: Tensor, c: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, Z), c (B, C), embeddings e (B, T) -> V (B,), and the images (B, 3, s, s)."""
        images = self.model.generator(z, c, count=1)[0]
        return self.pipe.score(images, e), images

    def measure(self, embeddings: Tensor, prior: nn.Module) -> Scores:
        """One image for each of the embeddings (N, T), with z ~ ``prior`` and noise scales from TRUNCATION."""
        found = []
        with tqdm(total=len(embeddings), desc="images", unit="image", leave=False) as bar:
            for e in embeddings.split(BATCH):
                scales = _scales(len(e), e.device)
                c = self.codes(e, scales)
                z = self._styles(prior, c, scales).requires_grad_()
                value, images = self(z, c, e)
                (gradient,) = torch.autograd.grad(value.sum(), z)
                found.append(Scores(z.detach(), c, value.detach(), gradient, _asymmetry(images.detach())))
                bar.update(len(e))
        return Scores.joined(found)

    @torch.no_grad()
    def mean(self, embeddings: Tensor, prior: nn.Module, scale: float) -> float:
        """Mean score of one image for each of the embeddings; the same noise for every prior."""
        total = 0.0
        with torch.random.fork_rng([embeddings.device] if embeddings.is_cuda else []):
            torch.manual_seed(0)
            for e in embeddings.split(BATCH):
                scales = torch.full((len(e), 1), scale, device=e.device)
                c = self.codes(e, scales)
                total += float(self(self._styles(prior, c, scales), c, e)[0].sum())
        return round(total / len(embeddings), 3)

    def _styles(self, prior: nn.Module, c: Tensor, scales: Tensor) -> Tensor:
        noise = scales * torch.randn(len(c), self.model.config.latent.dim, device=c.device)
        with torch.no_grad():
            z: Tensor = prior(c).sample(noise=noise)
        return z


class ValueNetwork(nn.Module):
    """An approximation of V(z, c) that is cheap to differentiate: a perceptron with three hidden layers.

    Args:
        scores: which standardise its input and output.
    """

    def __init__(self, scores: Scores, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.standardise = Standardise(scores.c.shape[1])
        self.standardise.measure(scores.c.cpu().numpy())
        self.mean, self.spread = float(scores.value.mean()), max(float(scores.value.std()), 1e-6)
        inputs = scores.z.shape[1] + scores.c.shape[1]
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, Z), c (B, C) -> V (B,)."""
        found: Tensor = self.net(torch.cat((z, self.standardise(c)), 1))[:, 0]
        return self.mean + self.spread * found


def fit_value_network(scores: Scores, epochs: int) -> tuple[ValueNetwork, float]:
    """Fit V(z, c) to values and gradients by least squares, both relative to their mean square.

    Returns the network and the correlation of its values with the scores that were held out.
    """
    held, seen = held_out(len(scores))
    network = ValueNetwork(scores).to(scores.z.device)
    optimizer = torch.optim.AdamW(network.parameters(), VALUE_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(seen) // VALUE_BATCH)
    fitting = Fitting(network, optimizer, steps, warm=max(1, steps // 20), decay=EMA_DECAY)
    slope = scores.gradient[seen].square().sum(1).mean().clamp_min(1e-12)
    with tqdm(total=steps, desc="fitting V(z, c)", unit="step", leave=False) as bar:
        for _ in range(epochs):
            for rows in seen[torch.randperm(len(seen))].split(VALUE_BATCH):
                part = scores[rows]
                z = part.z.clone().requires_grad_()
                found = network(z, part.c)
                (gradient,) = torch.autograd.grad(found.sum(), z, create_graph=True)
                values = (found - part.value).square().mean() / network.spread**2
                fitting.step(values + (gradient - part.gradient).square().sum(1).mean() / slope)
                bar.update()
    fitted = fitting.ema.requires_grad_(False)
    with torch.no_grad():
        found = fitted(scores.z[held], scores.c[held])
    return fitted, round(float(torch.corrcoef(torch.stack((found, scores.value[held])))[0, 1]), 3)


def fit_tilted_flow(
    prior: FlowPrior,
    value: Callable[[Tensor, Tensor], Tensor],
    codes: Callable[[int], tuple[Tensor, Tensor]],
    strength: float,
    steps: int,
    axis: Tensor | None = None,
) -> FlowPrior:
    """Fit q(z | c) by stochastic gradients of KL(q(z | c) ‖ N(0, ψ² I)) − β V(z, c), reparameterised.

    q is the image of N(0, ψ² I) under the flow, for truncations ψ; the expectation is over these, too.

    Args:
        prior: changed by the fit.
        value: z (B, Z), c (B, C) -> V (B,), differentiable.
        codes: B -> codes c (B, C), and truncations ψ (B, 1).
        strength: β.
        axis: unit vector (Z,) along which E[z | c] stays 0.

    Returns:
        A copy of the prior with the averaged weights.
    """
    optimizer = torch.optim.Adam(prior.parameters(), FLOW_RATE, betas=(0.9, 0.99))
    fitting = Fitting(prior, optimizer, steps, warm=max(1, steps // 20), decay=EMA_DECAY)
    with tqdm(total=steps, desc="fitting the prior", unit="step", leave=False) as bar:
        for _ in range(steps):
            c, scales = (each.repeat(2, 1) for each in codes(FLOW_BATCH // 2))  # two styles of each code
            z, divergence = _sample(prior, c, scales)
            loss = (divergence / strength - value(z, c)).mean()
            if axis is not None:
                first, second = (z / scales @ axis).chunk(2)
                loss = loss + BALANCE / strength * (first * second).mean()  # E[z | c]² along the axis
            fitting.step(loss)
            bar.update()
    return fitting.ema.requires_grad_(False)


def mirror_axis(scores: Scores) -> Tensor:
    """The direction of z, a unit vector (Z,), along which images change most toward their mirror images.

    The first principal component of the images' asymmetry is regressed on z.
    """
    centred = scores.asymmetry - scores.asymmetry.mean(0)
    component = torch.pca_lowrank(centred, q=min(4, *centred.shape), center=False)[2][:, 0]
    z = torch.cat((scores.z, torch.ones_like(scores.z[:, :1])), 1)
    weights = torch.linalg.lstsq(z, (centred @ component)[:, None]).solution[:-1, 0]
    return weights / weights.norm().clamp_min(1e-12)


def _asymmetry(images: Tensor) -> Tensor:
    """How much more contrast the left half of images (B, 3, s, s) has than the right one, by cell (B, 128)."""
    grey = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), (CELLS, CELLS))[:, 0]
    contrast = (grey - grey.mean((1, 2), keepdim=True)).abs()
    return (contrast - contrast.flip(2))[:, :, : CELLS // 2].flatten(1)


def _sample(prior: FlowPrior, c: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """z ~ q (B, Z), and log q(z | c) − log N(z; 0, ψ² I) (B,), whose mean is the KL divergence."""
    u = scales * torch.randn(len(c), prior.flow.dim, device=c.device)
    z, log_det = prior.flow.inverse(u, c if prior.context else None)
    return z, (z.square().sum(1) - u.square().sum(1)) / (2 * scales[:, 0] ** 2) - log_det


@torch.no_grad()
def _divergence(prior: FlowPrior, c: Tensor) -> float:
    """KL(q(z | c) ‖ N(0, I)) in nats, a mean over codes (B, C)."""
    return round(float(_sample(prior, c, torch.ones(len(c), 1, device=c.device))[1].mean()), 2)


def _scales(count: int, device: torch.device) -> Tensor:
    """Truncations ψ (count, 1), uniform in TRUNCATION."""
    return torch.empty(count, 1, device=device).uniform_(*TRUNCATION)


def _drawn(embeddings: Tensor, rows: Tensor, count: int) -> Tensor:
    """``count`` of these rows, with repetition."""
    return embeddings[rows[torch.randint(len(rows), (count,))].to(embeddings.device)]


def _card(config: Config, facts: TiltFacts) -> str:
    return (
        f"p(z | c) is a flow of family `{config.latent.family}`, fitted to N(z; 0, I) · exp(β V) "
        f"by `stackgan tilt-prior`, with β = {facts.strength:g} and {facts.images:,} images. V is the score by which "
        f"`--best-of` chooses. One image for each of {CHECKED} captions that were held out:\n\n"
        "| | tilted | N(0, I) |\n|---|---|---|\n"
        f"| mean score | {facts.score:.2f} | {facts.score_gaussian:.2f} |\n"
        f"| KL divergence from N(0, I), nats | {facts.kl:.2f} | 0 |\n"
    )
