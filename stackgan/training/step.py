"""One training step: discriminators, generator, EMA."""

from __future__ import annotations

import torch
from torch import Tensor

from stackgan.data.sampler import Batch
from stackgan.latent.posterior import ACTIVE
from stackgan.networks.discriminator import Discriminator
from stackgan.runtime.distributed import gather_rows, mean_over_ranks, sharded
from stackgan.training.diagnostics import variety
from stackgan.training.ema import ema_decay, update_ema
from stackgan.training.feature_step import adversarial_on_features, step_on_features
from stackgan.training.losses import (
    colour_consistency,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    mode_seeking,
    text_contrast,
)
from stackgan.training.state import Phase, Run
from stackgan.training.step_data import (
    Cuts,
    GeneratedBatch,
    StepData,
    View,
    augment,
    autocast,
    batch_parts,
    generate_batch,
    load_batch,
    make_views,
    note,
)

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
    with sharded():
        scalars = run.update(update_networks, batch, phase)
    if phase.generator_learns:
        decay = ema_decay(config.optim.average, step, config.optim.average_ramp)
        update_ema(run.ema, run.model, decay)
    return scalars


def update_networks(run: Run, batch: Batch, phase: Phase) -> dict[str, Tensor]:
    """Optimiser steps of every discriminator, then of G; depends on the step number only through ``phase``.

    Each discriminator has its own backward pass, which frees its graph before the next one is built. In G's step
    these passes end at the images, and one backward pass of G takes the sum of the gradients there.
    """
    scalars: dict[str, Tensor] = {}
    for optimizer in run.optimizers.values():  # frees the last step's gradients before new graphs are built
        optimizer.zero_grad(set_to_none=True)
    data = load_batch(run, batch)
    with torch.set_grad_enabled(phase.generator_learns):
        generated = generate_batch(run, data)
    views = make_views(run, data, generated)

    real_logits = [_discriminator_step(run, view, phase, scalars) for view in views]
    finest = views[len(run.config.trained_stages) - 1]
    step_on_features(run, finest, scalars)
    if not phase.generator_learns:
        return scalars

    run.discriminators.requires_grad_(False)
    cuts = Cuts()
    _adversarial(run, views, real_logits, generated, cuts, scalars)
    adversarial_on_features(run, finest, cuts, scalars)
    terms = _variational(run, data, generated, cuts, scalars) + _regularisers(run, data, generated, scalars)
    cuts.backward(terms)
    run.step("generator")
    run.discriminators.requires_grad_(True)
    if phase.logged:
        scalars["g/variety"] = variety(generated.fakes[0], data.real[0])
    return scalars


# --- discriminators -----------------------------------------------------------------------------------------


def _discriminator_step(run: Run, view: View, phase: Phase, scalars: dict[str, Tensor]) -> list[Logits]:
    """One step of a discriminator; returns its detached logits on the real images, for each part of the batch."""
    config, net, real_logits = run.config, run.nets[view.stage], []
    groups = (view.real, view.wrong, view.fake.detach())
    shown = [augment(run, images) for images in groups if images is not None]
    parts = batch_parts(len(view.real), config.optim.accumulate)
    for part in parts:
        condition = view.condition[part] if view.condition is not None else None
        wrong_condition = view.wrong_condition[part] if view.wrong_condition is not None else None
        images = [group[part] for group in shown]
        loss, of_real = _discriminator_part(run, view.stage, images, condition, wrong_condition, scalars)
        real_logits.append(of_real)
        if phase.penalised:
            penalty = _penalty(net, view.real[part], condition, config.loss.penalty_power)
            note(scalars, f"d{run.sizes[view.stage]}/penalty", penalty, len(parts))
            if config.loss.penalty_fakes:
                fake = view.fake[part].float()
                penalty = penalty + _penalty(net, fake, condition, config.loss.penalty_power)
            loss = loss + config.loss.penalty * config.loss.penalty_every * penalty
        (loss / len(parts)).backward()
    run.step(f"discriminator{run.sizes[view.stage]}")
    return real_logits


def _discriminator_part(
    run: Run,
    stage: int,
    images: list[Tensor],
    condition: Tensor | None,
    wrong_condition: Tensor | None,
    scalars: dict[str, Tensor],
) -> tuple[Tensor, Logits]:
    """The adversarial loss of a stage's discriminator on (a part of) a batch, and its detached logits on real images.

    Args:
        images: augmented; real, wrong and fake, or real and fake if mismatched pairs are made by wrong captions.
        condition, wrong_condition: (B, C), the latter only without wrong photos.
    """
    config, net, name = run.config, run.nets[stage], f"d{run.sizes[stage]}"
    photos = len(images) == 3
    conditional = unconditional = None
    with autocast(run):
        h = _features(run, stage, images)
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
            note(scalars, f"{name}/{group}", logits.mean(), parts)
    if unconditional is not None:
        note(scalars, f"{name}/plain_real", unconditional[0].mean(), parts)
        note(scalars, f"{name}/plain_fake", unconditional[2].mean(), parts)
    loss = discriminator_loss(config.loss.adversarial, conditional, unconditional)
    note(scalars, f"{name}/loss", loss, parts)
    if config.discriminator.match and condition is not None:
        match = _match(run, net, h_real, condition, None if photos else wrong_condition)
        note(scalars, f"{name}/match", match, parts)
        loss = loss + config.discriminator.match * match
    of_real = tuple(head[0].detach() if head is not None else None for head in (conditional, unconditional))
    return loss, (of_real[0], of_real[1])


def _match(run: Run, net: Discriminator, h: Tensor, condition: Tensor, wrong: Tensor | None) -> Tensor:
    """Contrastive loss of the images with features h over the batch's captions and one wrong caption per image."""
    with autocast(run):
        images, texts = net.match_vectors(h, condition)
        others = net.text_half(wrong) if wrong is not None else None
    return text_contrast(images, texts, others)


def _features(run: Run, stage: int, groups: list[Tensor]) -> list[Tensor]:
    """Trunk features of each group of augmented images, computed in one pass where the result is the same.

    With BatchNorm each group is normalised by its own statistics, as published. In NCHW the samples of the groups are
    interleaved for that (:class:`~stackgan.networks.fast_ops.BatchNormByGroup`); in channels-last format there is one
    pass per group.
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
    image = real.detach().requires_grad_()
    if condition is None:
        return gradient_penalty(net.unconditional(net.features(image)), (image,), power)
    text = condition.detach().requires_grad_()
    logits = net.conditional(net.features(image), text)
    return gradient_penalty(logits, (image, text), power)


# --- generator ----------------------------------------------------------------------------------------------


def _adversarial(
    run: Run,
    views: list[View],
    real_logits: list[list[Logits]],
    generated: GeneratedBatch,
    cuts: Cuts,
    scalars: dict[str, Tensor],
) -> None:
    """G's adversarial loss in each view, back-propagated to the images and, if D takes the code, to mu."""
    config = run.config
    mu = None
    if generated.q is not None and config.discriminator.condition == "code":
        mu = cuts.leaf(generated.q.mu)
    for view, logits in zip(views, real_logits, strict=True):
        net, size = run.nets[view.stage], run.sizes[view.stage]
        code = mu[: len(view.fake)] if mu is not None else view.condition
        shown = cuts.leaf(augment(run, view.fake))
        parts = batch_parts(len(view.fake), config.optim.accumulate)
        for part, of_real in zip(parts, logits, strict=True):
            with autocast(run):
                h = run.features[view.stage](shown[part])
                conditional = net.conditional(h, code[part]).float() if code is not None else None
                unconditional = net.unconditional(h).float() if config.discriminator.unconditional else None
            loss = generator_loss(config.loss.adversarial, conditional, unconditional, of_real)
            note(scalars, f"g{size}/loss", loss, len(parts))
            if config.discriminator.match and code is not None:
                against = view.wrong_condition[part] if view.wrong_condition is not None else None
                match = _match(run, net, h, code[part], against)
                note(scalars, f"g{size}/match", match, len(parts))
                loss = loss + config.discriminator.match * match
            (view.weight * loss / len(parts)).backward()


def _variational(
    run: Run, data: StepData, generated: GeneratedBatch, cuts: Cuts, scalars: dict[str, Tensor]
) -> list[Tensor]:
    """With a posterior: reconstruction loss in pixels and discriminator features, and β · KL(q ‖ p) with free bits.

    −ELBO with G as the decoder (arXiv:1312.6114, eq. 2).
    """
    style, rebuilt = generated.style, generated.rebuilt
    if style is None or rebuilt is None:
        return []
    latent, real = run.config.latent, data.real
    parts = batch_parts(len(real[0]), run.config.optim.accumulate)
    for stage in range(len(run.nets)):
        leaf = cuts.leaf(rebuilt[stage])
        for part in parts:
            seen = _feature_distance(run, stage, leaf[part], real[stage][part]) / len(run.nets)
            note(scalars, "vae/features", seen, len(parts))
            (latent.features * seen / len(parts)).backward()
    pixels = torch.stack([(a.float() - b).abs().mean() for a, b in zip(rebuilt, real, strict=True)]).mean()
    kl = style.kl(latent.free_bits)
    warm = min(1.0, run.progress.fraction(run.config) / latent.warm_up) if latent.warm_up else 1.0
    with torch.no_grad():
        per_dimension = mean_over_ranks(style.q.kl_per_dimension().mean(0))
        scalars["vae/pixels"] = pixels.detach()
        scalars["vae/kl"] = style.plain_kl.mean().detach()
        scalars["vae/kl_most"], scalars["vae/kl_least"] = per_dimension.max(), per_dimension.min()
        scalars["vae/active_units"] = (gather_rows(style.q.mu).var(0) > ACTIVE).float().sum()
    return [latent.reconstruction * pixels + warm * latent.beta * kl + style.prior_nll()]


def _feature_distance(run: Run, stage: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean distance between reconstructions and photos in discriminator features (arXiv:1512.09300, eq. 7–8)."""
    with autocast(run):
        h = run.features[stage](ours)
        with torch.no_grad():
            wanted = run.features[stage](theirs)
    return (h.float() - wanted.float()).abs().mean()


def _regularisers(run: Run, data: StepData, generated: GeneratedBatch, scalars: dict[str, Tensor]) -> list[Tensor]:
    """The terms of G's loss that do not involve a discriminator."""
    config, fakes, terms = run.config, generated.fakes, []
    if config.loss.colour:
        coarse = list(fakes[:-1])
        if generated.places is not None:
            coarse[-1] = generated.places.coarse(coarse[-1])
        for fine, below in zip(fakes[1:], coarse, strict=True):
            if fine.requires_grad:
                terms.append(config.loss.colour * colour_consistency(fine.float(), below.float()))
    if generated.again is not None:
        count, share = len(generated.again), config.loss.diversity_share
        diversity = mode_seeking(fakes[-1][:count], generated.again, data.real[-1], share)
        scalars["g/diversity"] = diversity.detach()
        terms.append(config.loss.diversity * diversity)
    frozen = config.optim.lower_rate == 0
    if run.model.has_code_flow and generated.q is not None and not frozen:
        density = (
            -run.model.codes(len(generated.c)).log_prob(generated.c.detach().float()).mean() / generated.c.shape[1]
        )
        scalars["g/code_nll"] = density.detach()
        terms.append(density)
    if run.dual_encoder is not None and data.e is not None:
        contrast = text_contrast(run.dual_encoder.encode_images(fakes[-1].float()), data.e, data.e_wrong)
        scalars["g/contrast"] = contrast.detach()
        terms.append(config.loss.contrast * contrast)
    if generated.q is not None and not frozen:
        kl = generated.q.kl().mean() / generated.q.mu.shape[1]
        scalars["g/kl"] = kl.detach()
        terms.append(config.loss.kl * kl)
    return terms
