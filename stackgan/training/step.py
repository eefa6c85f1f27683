"""One step of training: discriminators, generator, EMA."""

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
from stackgan.latent.posterior import ACTIVE, Style, infer_style
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.patches import PatchPlaces, patch_margin
from stackgan.training.diagnostics import variety
from stackgan.training.diff_augment import diff_augment
from stackgan.training.ema import average_decay, update_average
from stackgan.training.losses import (
    colour_consistency,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    mode_seeking,
    text_contrast,
)
from stackgan.training.state import Phase, Run

__all__ = ["train_step", "update_networks"]

Logits = tuple[Tensor | None, Tensor | None]  # conditional, unconditional


def train_step(run: Run, batch: Batch) -> dict[str, Tensor]:
    """One step of every discriminator, then of G (arXiv:1710.10916, eq. 6–9), then of the EMA.

    Returns scalars to log, on the device.
    """
    config, step = run.config, run.progress.step
    run.set_learning_rates()
    phase = Phase(
        penalised=bool(config.loss.penalty) and step % config.loss.penalty_every == 0,
        generator_learns=run.progress.images >= config.optim.discriminator_first,
        logged=(step + 1) % config.train.log_steps == 0,
    )
    scalars = run.update(update_networks, batch, phase)
    if phase.generator_learns:
        decay = average_decay(config.optim.average, step, config.optim.average_ramp)
        update_average(run.average, run.model, decay)
    return scalars


def update_networks(run: Run, batch: Batch, phase: Phase) -> dict[str, Tensor]:
    """Optimiser steps of every discriminator, then of G: nothing here depends on the step but through ``phase``.

    Each discriminator's graph ends with a backward pass of its own, which frees it before the next one is built: in
    G's step it ends at the images, whose gradients then go through G together.
    """
    scalars: dict[str, Tensor] = {}
    for optimizer in run.optimizers.values():  # all of the last step's gradients make room before anything is built
        optimizer.zero_grad(set_to_none=True)
    data = _load(run, batch)
    with torch.set_grad_enabled(phase.generator_learns):
        painted = _paint(run, data)
    views = _views(run, data, painted)

    real_logits = [_discriminator_step(run, view, phase, scalars) for view in views]
    if not phase.generator_learns:
        return scalars

    run.discriminators.requires_grad_(False)
    cuts = _Cuts()
    _adversarial(run, views, real_logits, painted, cuts, scalars)
    terms = _variational(run, data, painted, cuts, scalars) + _regularisers(run, data, painted, scalars)
    cuts.backward(terms)
    run.optimizers["generator"].step()
    run.discriminators.requires_grad_(True)
    if phase.logged:
        scalars["g/variety"] = variety(painted.fakes[0], data.real[0])
    return scalars


# --- what a step works on -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """A batch on the device: images (B, 3, s, s) a stage, embeddings (B, T)."""

    real: list[Tensor]
    wrong: list[Tensor] | None
    e: Tensor | None
    e_wrong: Tensor | None


@dataclass(frozen=True)
class _Painted:
    """G's images for a batch.

    Attributes:
        q, c: of CA_NET, c (B, C).
        fakes: (B, 3, s, s) a stage; of the finest stage crops, where it is trained on crops.
        style, rebuilt: with a posterior, its styles and the reconstructions (B, 3, s, s) a stage.
        again: second images of the first captions, of the finest stage, for loss.diversity.
        places: of the crops.
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
class _View:
    """What one discriminator judges in a step: real, wrong and generated images of one size with their conditions.

    Attributes:
        stage: of the discriminator.
        weight: of its verdict in G's loss.
        wrong: mismatched photos, or None where captions are mismatched instead.
        condition, wrong_condition: (B, C or T); None for unconditional training.
    """

    stage: int
    weight: float
    real: Tensor
    wrong: Tensor | None
    fake: Tensor
    condition: Tensor | None
    wrong_condition: Tensor | None


def _load(run: Run, batch: Batch) -> _Data:
    return _Data(
        real=_stages(run, batch.real),
        wrong=_stages(run, batch.wrong) if batch.wrong is not None else None,
        e=batch.embedding.to(run.device) if batch.embedding is not None else None,
        e_wrong=batch.wrong_embedding.to(run.device) if batch.wrong_embedding is not None else None,
    )


def _stages(run: Run, images: Tensor) -> list[Tensor]:
    """uint8 (B, S, S, 3) -> (B, 3, s, s) a stage, in the memory order that the networks are in."""
    order = torch.channels_last if run.config.optim.channels_last else torch.contiguous_format
    return [x.contiguous(memory_format=order) for x in to_stages(images, run.config.tree.sizes, run.device)]


def _paint(run: Run, data: _Data) -> _Painted:
    """Images of every stage, made once for both players.

    Beside them, in the same pass, reconstructions (with a posterior) and second images of some captions (for
    loss.diversity).
    """
    config, count = run.config, len(data.real[0])
    with _autocast(run):
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
            margin = patch_margin(config.generator.residuals)
            places = PatchPlaces.draw(count, config.tree.sizes[-1], config.patch_side, margin, run.device)
        painted = run.paint(torch.cat(styles), torch.cat(codes), places)
        whole = None
        if config.loss.coarse and places is not None:
            some = max(count // 4, 1)
            whole = run.paint(styles[0][:some], c[:some], None)[-1]
    return _Painted(
        q,
        c,
        fakes=[images[:count] for images in painted],
        style=style,
        rebuilt=[images[count : 2 * count] for images in painted] if style is not None else None,
        again=painted[-1][-again:] if again else None,
        places=places,
        whole=whole,
    )


def _views(run: Run, data: _Data, painted: _Painted) -> list[_View]:
    """What each discriminator judges: its stage's images, or crops of them, and with loss.coarse small ones."""
    config = run.config
    condition = _condition(run, data.e, painted.q)
    wrong_condition = _condition(run, data.e_wrong, None)
    views = []
    for stage in config.trained_stages:
        groups = [data.real[stage], data.wrong[stage] if data.wrong is not None else None]
        if painted.places is not None and stage == config.tree.stages - 1:
            groups = [painted.places.from_whole(images) if images is not None else None for images in groups]
        real, wrong = groups
        assert real is not None
        views.append(_View(stage, 1.0, real, wrong, painted.fakes[stage], condition, wrong_condition))
    if config.loss.coarse:
        fine = painted.whole if painted.whole is not None else painted.fakes[-1][: max(len(data.real[0]) // 4, 1)]
        some = slice(len(fine))
        views.append(
            _View(
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
    """What the discriminators' conditional heads see of embeddings e, without gradient; q is q(c | e) if known."""
    if e is None:
        return None
    with torch.no_grad():
        if run.config.discriminator.condition == "code":
            q = run.model.condition(e) if q is None else q
            return q.mu.detach()
        return run.model.standardise(e)


# --- discriminators -----------------------------------------------------------------------------------------


def _discriminator_step(run: Run, view: _View, phase: Phase, scalars: dict[str, Tensor]) -> list[Logits]:
    """One step of a discriminator; returns its detached logits on the real images, part by part of the batch."""
    config, net, real_logits = run.config, run.nets[view.stage], []
    groups = (view.real, view.wrong, view.fake.detach())
    shown = [_augment(run, images) for images in groups if images is not None]
    parts = _parts(len(view.real), config.optim.accumulate)
    for part in parts:
        condition = view.condition[part] if view.condition is not None else None
        wrong_condition = view.wrong_condition[part] if view.wrong_condition is not None else None
        images = [group[part] for group in shown]
        loss, of_real = _discriminator_part(run, view.stage, images, condition, wrong_condition, scalars)
        real_logits.append(of_real)
        if phase.penalised:
            penalty = _penalty(net, view.real[part], condition, config.loss.penalty_power)
            _note(scalars, f"d{run.sizes[view.stage]}/penalty", penalty, len(parts))
            if config.loss.penalty_fakes:
                fake = view.fake[part].float()
                penalty = penalty + _penalty(net, fake, condition, config.loss.penalty_power)
            loss = loss + config.loss.penalty * config.loss.penalty_every * penalty
        (loss / len(parts)).backward()
    run.optimizers[f"discriminator{run.sizes[view.stage]}"].step()
    return real_logits


def _discriminator_part(
    run: Run,
    stage: int,
    pictures: list[Tensor],
    condition: Tensor | None,
    wrong_condition: Tensor | None,
    scalars: dict[str, Tensor],
) -> tuple[Tensor, Logits]:
    """The adversarial loss of a stage's discriminator on (a part of) a batch, and its detached logits on real ones.

    Args:
        pictures: augmented; real, wrong and fake, or real and fake where captions are wrong instead of photos.
        condition, wrong_condition: (B, C), the latter without wrong photos.
    """
    config, net, name = run.config, run.nets[stage], f"d{run.sizes[stage]}"
    photos = len(pictures) == 3
    conditional = unconditional = None
    with _autocast(run):
        h = _features(run, stage, pictures)
        h_real, h_wrong, h_fake = h[0], h[1] if photos else h[0], h[-1]
        if condition is not None:
            against = condition if photos else wrong_condition
            assert against is not None
            joint = net.joint_maps(torch.cat(h))
            maps = joint.chunk(len(h)) if joint is not None else [None] * len(h)
            conditional = (
                net.conditional(h_real, condition, maps[0]).float(),
                net.conditional(h_wrong, against, maps[1] if photos else maps[0]).float(),
                net.conditional(h_fake, condition, maps[-1]).float(),
            )
        if config.discriminator.unconditional:
            plain = net.unconditional(h_real).float()
            unconditional = (
                plain,
                net.unconditional(h_wrong).float() if photos else plain,
                net.unconditional(h_fake).float(),
            )
    parts = config.optim.accumulate
    if conditional is not None:
        for group, logits in zip(("real", "wrong", "fake"), conditional, strict=True):
            _note(scalars, f"{name}/{group}", logits.mean(), parts)
    if unconditional is not None:
        _note(scalars, f"{name}/plain_real", unconditional[0].mean(), parts)
        _note(scalars, f"{name}/plain_fake", unconditional[2].mean(), parts)
    loss = discriminator_loss(config.loss.adversarial, conditional, unconditional)
    _note(scalars, f"{name}/loss", loss, parts)
    if config.discriminator.match and condition is not None:
        match = _match(run, net, h_real, condition, None if photos else wrong_condition)
        _note(scalars, f"{name}/match", match, parts)
        loss = loss + config.discriminator.match * match
    of_real = tuple(head[0].detach() if head is not None else None for head in (conditional, unconditional))
    return loss, (of_real[0], of_real[1])


def _match(run: Run, net: Discriminator, h: Tensor, condition: Tensor, wrong: Tensor | None) -> Tensor:
    """How badly the images with features h find their captions among the batch's and a wrong one of their own."""
    with _autocast(run):
        pictures, texts = net.halves(h, condition)
        others = net.text_half(wrong) if wrong is not None else None
    return text_contrast(pictures, texts, others)


def _features(run: Run, stage: int, groups: list[Tensor]) -> list[Tensor]:
    """Trunk features of each group of augmented images, by one pass where that is the same.

    Under BatchNorm each group keeps statistics of its own, as published. In NCHW its samples are then interleaved
    with the others' (:class:`~stackgan.networks.layers.BatchNormByGroup`); in channels-last order every group has its
    pass.
    """
    features, count = run.features[stage], len(groups)
    alike = [images.to(groups[0].dtype) for images in groups]
    if run.config.discriminator.block != "legacy":
        return list(features(torch.cat(alike), count).chunk(count))
    if run.config.optim.channels_last:
        return [features(images) for images in alike]
    h = features(torch.stack(alike, 1).flatten(0, 1), count)
    return list(h.unflatten(0, (-1, count)).unbind(1))


def _penalty(net: Discriminator, real: Tensor, condition: Tensor | None, power: int) -> Tensor:
    """Gradient penalty at real images and true captions, in float32."""
    picture = real.detach().requires_grad_()
    if condition is None:
        return gradient_penalty(net.unconditional(net.features(picture)), (picture,), power)
    text = condition.detach().requires_grad_()
    logits = net.conditional(net.features(picture), text)
    return gradient_penalty(logits, (picture, text), power)


# --- generator ----------------------------------------------------------------------------------------------


class _Cuts:
    """Where graphs are cut: leaves in the place of tensors, which hand back the gradients they have collected."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def leaf(self, tensor: Tensor) -> Tensor:
        """``tensor`` for a graph of its own."""
        leaf = tensor.detach().requires_grad_()
        self.pairs.append((tensor, leaf))
        return leaf

    def backward(self, terms: Sequence[Tensor]) -> None:
        """Gradients of the scalar ``terms`` and, through the cut tensors, of all that came from their leaves."""
        pairs = [(tensor, leaf) for tensor, leaf in self.pairs if tensor.requires_grad]
        tensors = [*terms, *(tensor for tensor, _ in pairs)]
        gradients = [*(None for _ in terms), *(leaf.grad for _, leaf in pairs)]
        torch.autograd.backward(tensors, gradients)


def _adversarial(
    run: Run,
    views: list[_View],
    real_logits: list[list[Logits]],
    painted: _Painted,
    cuts: _Cuts,
    scalars: dict[str, Tensor],
) -> None:
    """G's adversarial loss in every view, as gradients at the images and, where D looks at the code, at mu."""
    config = run.config
    mu = None
    if painted.q is not None and config.discriminator.condition == "code":
        mu = cuts.leaf(painted.q.mu)
    for view, logits in zip(views, real_logits, strict=True):
        net, size = run.nets[view.stage], run.sizes[view.stage]
        code = mu[: len(view.fake)] if mu is not None else view.condition
        shown = cuts.leaf(_augment(run, view.fake))
        parts = _parts(len(view.fake), config.optim.accumulate)
        for part, of_real in zip(parts, logits, strict=True):
            with _autocast(run):
                h = run.features[view.stage](shown[part])
                judged = net.conditional(h, code[part]).float() if code is not None else None
                looked = net.unconditional(h).float() if config.discriminator.unconditional else None
            loss = generator_loss(config.loss.adversarial, judged, looked, of_real)
            _note(scalars, f"g{size}/loss", loss, len(parts))
            if config.discriminator.match and code is not None:
                against = view.wrong_condition[part] if view.wrong_condition is not None else None
                match = _match(run, net, h, code[part], against)
                _note(scalars, f"g{size}/match", match, len(parts))
                loss = loss + config.discriminator.match * match
            (view.weight * loss / len(parts)).backward()


def _variational(run: Run, data: _Data, painted: _Painted, cuts: _Cuts, scalars: dict[str, Tensor]) -> list[Tensor]:
    """With a posterior: reconstruction in images and in discriminator features, and β · KL(q ‖ p) with free bits.

    −ELBO with G as the decoder (arXiv:1312.6114, eq. 2).
    """
    style, rebuilt = painted.style, painted.rebuilt
    if style is None or rebuilt is None:
        return []
    latent, real = run.config.latent, data.real
    parts = _parts(len(real[0]), run.config.optim.accumulate)
    for stage in range(len(run.nets)):
        leaf = cuts.leaf(rebuilt[stage])
        for part in parts:
            seen = _feature_distance(run, stage, leaf[part], real[stage][part]) / len(run.nets)
            _note(scalars, "vae/features", seen, len(parts))
            (latent.features * seen / len(parts)).backward()
    pixels = torch.stack([(a.float() - b).abs().mean() for a, b in zip(rebuilt, real, strict=True)]).mean()
    kl = style.kl(latent.free_bits)
    warm = min(1.0, run.progress.fraction(run.config) / latent.warm_up) if latent.warm_up else 1.0
    with torch.no_grad():
        per_dimension = style.q.kl_per_dimension().mean(0)
        scalars["vae/pixels"] = pixels.detach()
        scalars["vae/kl"] = style.plain_kl.mean().detach()
        scalars["vae/kl_most"], scalars["vae/kl_least"] = per_dimension.max(), per_dimension.min()
        scalars["vae/active_units"] = (style.q.mu.var(0) > ACTIVE).float().sum()
    return [latent.reconstruction * pixels + warm * latent.beta * kl + style.prior_nll()]


def _feature_distance(run: Run, stage: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean distance of reconstructions from photos in discriminator features (arXiv:1512.09300, eq. 7–8)."""
    with _autocast(run):
        h = run.features[stage](ours)
        with torch.no_grad():
            wanted = run.features[stage](theirs)
    return (h.float() - wanted.float()).abs().mean()


def _regularisers(run: Run, data: _Data, painted: _Painted, scalars: dict[str, Tensor]) -> list[Tensor]:
    """The terms of G's loss that no discriminator is asked for."""
    config, fakes, terms = run.config, painted.fakes, []
    if config.loss.colour:
        coarse = list(fakes[:-1])
        if painted.places is not None:
            coarse[-1] = painted.places.coarse(coarse[-1])
        for fine, below in zip(fakes[1:], coarse, strict=True):
            if fine.requires_grad:
                terms.append(config.loss.colour * colour_consistency(fine.float(), below.float()))
    if painted.again is not None:
        count, share = len(painted.again), config.loss.diversity_share
        diversity = mode_seeking(fakes[-1][:count], painted.again, data.real[-1], share)
        scalars["g/diversity"] = diversity.detach()
        terms.append(config.loss.diversity * diversity)
    frozen = config.optim.lower_rate == 0
    if run.model.has_code_flow and painted.q is not None and not frozen:
        density = -run.model.codes(len(painted.c)).log_prob(painted.c.detach().float()).mean() / painted.c.shape[1]
        scalars["g/code_nll"] = density.detach()
        terms.append(density)
    if run.reader is not None and data.e is not None:
        contrast = text_contrast(run.reader.encode_images(fakes[-1].float()), data.e, data.e_wrong)
        scalars["g/contrast"] = contrast.detach()
        terms.append(config.loss.contrast * contrast)
    if painted.q is not None and not frozen:
        kl = painted.q.kl().mean() / painted.q.mu.shape[1]
        scalars["g/kl"] = kl.detach()
        terms.append(config.loss.kl * kl)
    return terms


# --- small parts --------------------------------------------------------------------------------------------


def _parts(count: int, accumulate: int) -> list[slice]:
    """A batch of ``count`` as ``accumulate`` slices of one size."""
    size = max(count // accumulate, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


def _note(scalars: dict[str, Tensor], name: str, value: Tensor, parts: int) -> None:
    """Add a part's mean to the batch's, without waiting for the device."""
    share = value.detach() / parts
    scalars[name] = scalars[name] + share if name in scalars else share


def _autocast(run: Run) -> torch.autocast:
    enabled = run.config.optim.precision == "bf16"
    return torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=enabled)


def _augment(run: Run, images: Tensor) -> Tensor:
    return diff_augment(images, run.config.augment.names, run.config.augment.probability)
