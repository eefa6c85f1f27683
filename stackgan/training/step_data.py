"""Data of one training step: the batch on the device, generated images, and each discriminator's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.config import BASE_SIZE
from stackgan.data.sampler import Batch
from stackgan.images.pixels import to_stages
from stackgan.latent.distributions import DiagonalGaussian
from stackgan.latent.posterior import Style, infer_style
from stackgan.networks.patches import PatchPlaces, patch_margin
from stackgan.runtime.precision import bf16_autocast
from stackgan.training.diff_augment import diff_augment
from stackgan.training.state import Run

__all__ = [
    "Cuts",
    "GeneratedBatch",
    "StepData",
    "View",
    "augment",
    "autocast",
    "batch_parts",
    "generate_batch",
    "load_batch",
    "make_views",
    "note",
]


@dataclass(frozen=True)
class StepData:
    """A batch on the device: images (B, 3, s, s) per stage, embeddings (B, T)."""

    real: list[Tensor]
    wrong: list[Tensor] | None
    e: Tensor | None
    e_wrong: Tensor | None


@dataclass(frozen=True)
class GeneratedBatch:
    """Generated images of a batch.

    Attributes:
        q, c: q(c | e) of CA_NET and a sample of it, (B, C).
        fakes: (B, 3, s, s) per stage; crops at the finest stage if it is trained on crops.
        style, rebuilt: with a posterior, q(z | x, c) and the reconstructions (B, 3, s, s) per stage.
        again: second images of the first captions at the finest stage, for loss.diversity.
        places: positions of the crops.
        whole: whole images of the finest stage for the first captions, for loss.coarse.
    """

    q: DiagonalGaussian | None
    c: Tensor
    fakes: list[Tensor]
    style: Style | None = None
    rebuilt: list[Tensor] | None = None
    again: Tensor | None = None
    places: PatchPlaces | None = None
    whole: Tensor | None = None


@dataclass(frozen=True)
class View:
    """Inputs of one discriminator in a step: real, wrong and generated images of one size with their conditions.

    Attributes:
        stage: index of the discriminator.
        weight: of its term in G's loss.
        wrong: mismatched photos, or None if captions are mismatched instead.
        condition, wrong_condition: (B, C or T); None for unconditional training.
    """

    stage: int
    weight: float
    real: Tensor
    wrong: Tensor | None
    fake: Tensor
    condition: Tensor | None
    wrong_condition: Tensor | None


def load_batch(run: Run, batch: Batch) -> StepData:
    return StepData(
        real=_stages(run, batch.real),
        wrong=_stages(run, batch.wrong) if batch.wrong is not None else None,
        e=batch.embedding.to(run.device) if batch.embedding is not None else None,
        e_wrong=batch.wrong_embedding.to(run.device) if batch.wrong_embedding is not None else None,
    )


def _stages(run: Run, images: Tensor) -> list[Tensor]:
    """uint8 (B, S, S, 3) -> (B, 3, s, s) per stage, in the memory format of the networks."""
    order = torch.channels_last if run.config.optim.channels_last else torch.contiguous_format
    return [x.contiguous(memory_format=order) for x in to_stages(images, run.config.tree.sizes, run.device)]


def generate_batch(run: Run, data: StepData) -> GeneratedBatch:
    """Generate the images of every stage, used in the steps of both D and G.

    The same pass computes reconstructions (with a posterior) and second images of some captions (for loss.diversity).
    """
    config, count = run.config, len(data.real[0])
    with autocast(run):
        q = run.model.condition(data.e) if data.e is not None else None
        c = q.sample() if q is not None else run.model.no_code(count)
        posterior = run.model.posterior
        style = infer_style(posterior, run.model.prior, data.real[-1], c) if posterior is not None else None
        again = max(count // 4, 1) if config.loss.diversity else 0
        styles = [style.drawn, style.z] if style is not None else [run.model.prior(c).sample()]
        codes = [c] * len(styles)
        if again:
            styles.append(run.model.prior(c[:again]).sample().detach())
            codes.append(c[:again])
        places = None
        if config.patch_side is not None:
            margin = patch_margin(config.generator.residuals, config.generator.refine)
            places = PatchPlaces.draw(count, config.tree.sizes[-1], config.patch_side, margin, run.device)
        generated = run.generate(torch.cat(styles), torch.cat(codes), places)
        whole = None
        if config.loss.coarse and places is not None:
            some = max(count // 4, 1)
            whole = run.generate(styles[0][:some], c[:some], None)[-1]
    return GeneratedBatch(
        q,
        c,
        fakes=[images[:count] for images in generated],
        style=style,
        rebuilt=[images[count : 2 * count] for images in generated] if style is not None else None,
        again=generated[-1][-again:] if again else None,
        places=places,
        whole=whole,
    )


def make_views(run: Run, data: StepData, generated: GeneratedBatch) -> list[View]:
    """Inputs of each discriminator: images of its stage or crops of them, and reduced images with loss.coarse."""
    config = run.config
    condition = _condition(run, data.e, generated.q)
    wrong_condition = _condition(run, data.e_wrong, None)
    views = []
    for stage in config.trained_stages:
        groups = [data.real[stage], data.wrong[stage] if data.wrong is not None else None]
        if generated.places is not None and stage == config.tree.stages - 1:
            groups = [generated.places.from_whole(images) if images is not None else None for images in groups]
        real, wrong = groups
        assert real is not None
        views.append(View(stage, 1.0, real, wrong, generated.fakes[stage], condition, wrong_condition))
    if config.loss.coarse:
        fine = (
            generated.whole if generated.whole is not None else generated.fakes[-1][: max(len(data.real[0]) // 4, 1)]
        )
        some = slice(len(fine))
        views.append(
            View(
                0,
                config.loss.coarse,
                data.real[0][some],
                data.wrong[0][some] if data.wrong is not None else None,
                F.adaptive_avg_pool2d(fine, BASE_SIZE),
                condition[some] if condition is not None else None,
                wrong_condition[some] if wrong_condition is not None else None,
            )
        )
    return views


def _condition(run: Run, e: Tensor | None, q: DiagonalGaussian | None) -> Tensor | None:
    """Condition of the discriminators' heads for embeddings e, without gradient; ``q`` is q(c | e) if computed."""
    if e is None:
        return None
    with torch.no_grad():
        if run.config.discriminator.condition == "code":
            q = run.model.condition(e) if q is None else q
            return q.mu.detach()
        return run.model.standardise(e)


def batch_parts(count: int, accumulate: int) -> list[slice]:
    """Split a batch of ``count`` into ``accumulate`` slices of equal size."""
    size = max(count // accumulate, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


def note(scalars: dict[str, Tensor], name: str, value: Tensor, parts: int) -> None:
    """Add a part's mean to the batch's mean, without synchronising with the device."""
    share = value.detach() / parts
    scalars[name] = scalars[name] + share if name in scalars else share


def autocast(run: Run) -> torch.autocast:
    return bf16_autocast(run.device, run.config.optim.precision == "bf16")


def augment(run: Run, images: Tensor) -> Tensor:
    return diff_augment(images, run.config.augment.names, run.config.augment.probability)


class Cuts:
    """Cuts in the autograd graph: leaves replace tensors, and their accumulated gradients are passed on later."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def leaf(self, tensor: Tensor) -> Tensor:
        """A leaf with the values of ``tensor``, for a separate graph."""
        leaf = tensor.detach().requires_grad_()
        self.pairs.append((tensor, leaf))
        return leaf

    def backward(self, terms: Sequence[Tensor]) -> None:
        """Back-propagate the scalar ``terms``, then the gradients accumulated in the leaves from the cut tensors."""
        pairs = [(tensor, leaf) for tensor, leaf in self.pairs if tensor.requires_grad]
        tensors = [*terms, *(tensor for tensor, _ in pairs)]
        gradients = [*(None for _ in terms), *(leaf.grad for _, leaf in pairs)]
        torch.autograd.backward(tensors, gradients)
