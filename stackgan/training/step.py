"""One step of training: discriminators, generator, average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stackgan.data.sampler import Batch, to_stages
from stackgan.latent.distributions import DiagonalGaussian
from stackgan.latent.posterior import ACTIVE, Style, infer_style
from stackgan.networks.discriminator import Discriminator
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
from stackgan.training.state import Run

__all__ = ["set_learning_rates", "train_step"]


def train_step(run: Run, batch: Batch) -> dict[str, Tensor]:
    """One step of every discriminator, then of G (arXiv:1710.10916, eq. 6–9); the scalars stay on the device.

    Each discriminator's graph ends with a backward pass of its own, which frees it before the next one is built: in
    G's step it ends at the pictures, whose gradients then go through G together.
    """
    config, sizes = run.config, run.config.tree.sizes
    count = len(batch.real)
    learns = run.progress.images >= config.optim.discriminator_first  # whether G learns, too
    parts = _parts(count, config.optim.accumulate)
    scalars: dict[str, Tensor] = {}
    set_learning_rates(run)
    for optimizer in run.optimizers:  # all of the last step's gradients make room before anything is built
        optimizer.zero_grad(set_to_none=True)

    # data
    real = _pictures(run, batch.real)
    wrong = _pictures(run, batch.wrong) if batch.wrong is not None else None
    e = batch.embedding.to(run.device) if batch.embedding is not None else None
    e_wrong = batch.wrong_embedding.to(run.device) if batch.wrong_embedding is not None else None

    # fakes of every stage, made once for both players; beside them, in the same pass, reconstructions (with a
    # posterior) and second pictures of some captions (for diversity)
    with _autocast(run), torch.set_grad_enabled(learns):
        q = run.model.condition(e) if e is not None else None
        c = q.sample() if q is not None else run.model.no_code(count)
        posterior = run.model.posterior
        style = infer_style(posterior, run.model.prior, real[-1], c) if posterior is not None else None
        again = max(count // 4, 1) if config.loss.diversity else 0
        styles = [style.drawn, style.z] if style is not None else [run.model.prior(c).sample()]
        codes = [c] * len(styles)
        if again:
            styles.append(run.model.prior(c[:again]).sample().detach())
            codes.append(c[:again])
        painted = run.paint(torch.cat(styles), torch.cat(codes))
    fakes = [images[:count] for images in painted]
    rebuilt = [images[count : 2 * count] for images in painted] if style is not None else None
    condition = _condition(run, e, q)
    wrong_condition = _condition(run, e_wrong, None)

    # discriminators
    judged_real: list[list[tuple[Tensor | None, Tensor | None]]] = [[] for _ in run.nets]
    for stage, net in enumerate(run.nets):
        groups = (real[stage], wrong[stage] if wrong is not None else None, fakes[stage].detach())
        shown = [_augment(run, images) for images in groups if images is not None]
        for part in parts:
            loss, of_real = _discriminator_part(
                run,
                stage,
                [images[part] for images in shown],
                condition[part] if condition is not None else None,
                wrong_condition[part] if wrong_condition is not None else None,
                scalars,
            )
            judged_real[stage].append(of_real)
            if config.loss.penalty and run.progress.step % config.loss.penalty_every == 0:
                text = condition[part] if condition is not None else None
                penalty = _penalty(net, real[stage][part], text, config.loss.penalty_power)
                _note(scalars, f"d{sizes[stage]}/penalty", penalty, len(parts))
                if config.loss.penalty_fakes:
                    penalty = penalty + _penalty(net, fakes[stage][part].float(), text, config.loss.penalty_power)
                loss = loss + config.loss.penalty * config.loss.penalty_every * penalty
            (loss / len(parts)).backward()
        run.optimizers[1 + stage].step()
    if not learns:
        return scalars

    # generator (and CA_NET, through the condition where D looks at the code): first what the discriminators say, as
    # gradients at the pictures and the code
    run.discriminators.requires_grad_(False)
    ends = _Ends()
    code = condition
    if q is not None and config.discriminator.condition == "code":
        code = ends.leaf(q.mu)
    for stage, net in enumerate(run.nets):
        shown_fakes = ends.leaf(_augment(run, fakes[stage]))
        for part, of_real in zip(parts, judged_real[stage], strict=True):
            with _autocast(run):
                h = run.features[stage](shown_fakes[part])
                judged = net.conditional(h, code[part]).float() if code is not None else None
                looked = net.unconditional(h).float() if config.discriminator.unconditional else None
            adversarial = generator_loss(config.loss.adversarial, judged, looked, of_real)
            _note(scalars, f"g{sizes[stage]}/loss", adversarial, len(parts))
            if config.discriminator.match and code is not None:
                against = wrong_condition[part] if wrong_condition is not None else None
                match = _match(run, net, h, code[part], against)
                _note(scalars, f"g{sizes[stage]}/match", match, len(parts))
                adversarial = adversarial + config.discriminator.match * match
            (adversarial / len(parts)).backward()
    terms = []
    if style is not None and rebuilt is not None:
        for stage in range(len(run.nets)):
            leaf = ends.leaf(rebuilt[stage])
            for part in parts:
                seen = _feature_distance(run, stage, leaf[part], real[stage][part]) / len(run.nets)
                _note(scalars, "vae/features", seen, len(parts))
                (config.latent.features * seen / len(parts)).backward()
        terms.append(_variational(run, style, rebuilt, real, scalars))

    # then what is said of the pictures themselves, and one backward pass through G for everything
    if config.loss.colour:
        for fine, coarse in zip(fakes[1:], fakes, strict=False):
            terms.append(config.loss.colour * colour_consistency(fine.float(), coarse.float()))
    if config.loss.diversity:
        diversity = mode_seeking(fakes[-1][:again], painted[-1][-again:], real[-1], config.loss.diversity_share)
        scalars["g/diversity"] = diversity.detach()
        terms.append(config.loss.diversity * diversity)
    if run.model.has_code_flow and q is not None:
        density = -run.model.codes(count).log_prob(c.detach().float()).mean() / c.shape[1]
        scalars["g/code_nll"] = density.detach()
        terms.append(density)
    if run.reader is not None and e is not None:
        contrast = text_contrast(run.reader.encode_images(fakes[-1].float()), e, e_wrong)
        scalars["g/contrast"] = contrast.detach()
        terms.append(config.loss.contrast * contrast)
    if q is not None:
        kl = q.kl().mean() / q.mu.shape[1]
        scalars["g/kl"] = kl.detach()
        terms.append(config.loss.kl * kl)
    ends.backward(terms)
    run.optimizers[0].step()
    run.discriminators.requires_grad_(True)

    if (run.progress.step + 1) % config.train.log_steps == 0:
        scalars["g/variety"] = variety(fakes[0], real[0])

    # average
    decay = average_decay(config.optim.average, run.progress.step, config.optim.average_ramp)
    update_average(run.average, run.model, decay)
    return scalars


class _Ends:
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
        tensors = [*terms, *(tensor for tensor, _ in self.pairs)]
        gradients = [*(None for _ in terms), *(leaf.grad for _, leaf in self.pairs)]
        torch.autograd.backward(tensors, gradients)


def _parts(count: int, accumulate: int) -> list[slice]:
    """A batch of ``count`` as ``accumulate`` slices of one size."""
    size = count // accumulate
    return [slice(start, start + size) for start in range(0, count, size)]


def _note(scalars: dict[str, Tensor], name: str, value: Tensor, parts: int) -> None:
    """Add a part's mean to the batch's, without waiting for the device."""
    share = value.detach() / parts
    scalars[name] = scalars[name] + share if name in scalars else share


def _discriminator_part(
    run: Run,
    stage: int,
    pictures: list[Tensor],
    condition: Tensor | None,
    wrong_condition: Tensor | None,
    scalars: dict[str, Tensor],
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """The adversarial loss of a stage's discriminator on (a part of) a batch, and its detached logits on real ones.

    Args:
        pictures: augmented; real, wrong and fake, or real and fake where captions are wrong instead of photos.
        condition, wrong_condition: (B, C), the latter without wrong photos.
    """
    config, net, name = run.config, run.nets[stage], f"d{run.config.tree.sizes[stage]}"
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
    """How badly the pictures with features h find their captions among the batch's and a wrong one of their own."""
    with _autocast(run):
        pictures, texts = net.halves(h, condition)
        others = net.text_half(wrong) if wrong is not None else None
    return text_contrast(pictures, texts, others)


def _features(run: Run, stage: int, groups: list[Tensor]) -> list[Tensor]:
    """Trunk features of each group of augmented pictures, by one pass where that is the same.

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


def _feature_distance(run: Run, stage: int, ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean distance of reconstructions from pictures in discriminator features (arXiv:1512.09300, eq. 7–8)."""
    with _autocast(run):
        h = run.features[stage](ours)
        with torch.no_grad():
            wanted = run.features[stage](theirs)
    return (h.float() - wanted.float()).abs().mean()


def _variational(
    run: Run, style: Style, rebuilt: list[Tensor], real: list[Tensor], scalars: dict[str, Tensor]
) -> Tensor:
    """Reconstruction in pictures, and β · KL(q ‖ p) with free bits: −ELBO with G as the decoder.

    arXiv:1312.6114, eq. 2; :func:`_feature_distance` joins it.
    """
    latent = run.config.latent
    pixels = torch.stack([(a.float() - b).abs().mean() for a, b in zip(rebuilt, real, strict=True)]).mean()
    kl = style.kl(latent.free_bits)
    warm = min(1.0, run.progress.fraction(run.config) / latent.warm_up) if latent.warm_up else 1.0
    with torch.no_grad():
        per_dimension = style.q.kl_per_dimension().mean(0)
        scalars["vae/pixels"] = pixels.detach()
        scalars["vae/kl"] = style.plain_kl.mean().detach()
        scalars["vae/kl_most"], scalars["vae/kl_least"] = per_dimension.max(), per_dimension.min()
        scalars["vae/active_units"] = (style.q.mu.var(0) > ACTIVE).float().sum()
    return latent.reconstruction * pixels + warm * latent.beta * kl + style.prior_nll()


def _pictures(run: Run, images: Tensor) -> list[Tensor]:
    """uint8 (B, S, S, 3) -> (B, 3, s, s) a stage, in the memory order that the networks are in."""
    order = torch.channels_last if run.config.optim.channels_last else torch.contiguous_format
    return [x.contiguous(memory_format=order) for x in to_stages(images, run.config.tree.sizes, run.device)]


def _autocast(run: Run) -> torch.autocast:
    enabled = run.config.optim.precision == "bf16"
    return torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=enabled)


def _condition(run: Run, e: Tensor | None, q: DiagonalGaussian | None) -> Tensor | None:
    """What the discriminators' conditional heads see of embeddings e, without gradient; q is q(c | e) if known."""
    if e is None:
        return None
    with torch.no_grad():
        if run.config.discriminator.condition == "code":
            q = run.model.condition(e) if q is None else q
            return q.mu.detach()
        return run.model.standardise(e)


def _augment(run: Run, images: Tensor) -> Tensor:
    return diff_augment(images, run.config.augment.names, run.config.augment.probability)


def _penalty(net: Discriminator, real: Tensor, condition: Tensor | None, power: int) -> Tensor:
    """Gradient penalty at real pictures and true captions, in float32."""
    picture = real.detach().requires_grad_()
    if condition is None:
        return gradient_penalty(net.unconditional(net.features(picture)), (picture,), power)
    text = condition.detach().requires_grad_()
    logits = net.conditional(net.features(picture), text)
    return gradient_penalty(logits, (picture, text), power)


def set_learning_rates(run: Run) -> None:
    """Constant, falling as 1 / √images from optim.decay_images on, and to 5 % of that from optim.decay_from on."""
    optim = run.config.optim
    scale = 1.0
    if optim.decay_images and run.progress.images > optim.decay_images:
        scale = (optim.decay_images / run.progress.images) ** 0.5
    if optim.decay_from < 1:
        late = (run.progress.fraction(run.config) - optim.decay_from) / (1 - optim.decay_from)
        scale *= 1 - 0.95 * min(max(late, 0.0), 1.0)
    for i, optimizer in enumerate(run.optimizers):
        for group in optimizer.param_groups:
            group["lr"] = scale * (optim.lr_discriminator if i else optim.lr_generator)
