"""Discriminator on frozen features (discriminator.features): its training step and its term of G's loss."""

from __future__ import annotations

import torch
from torch import Tensor

from stackgan.training.losses import discriminator_loss, generator_loss
from stackgan.training.state import Run
from stackgan.training.step_data import Cuts, View, augment, autocast, note

__all__ = ["adversarial_on_features", "step_on_features"]


def step_on_features(run: Run, view: View, scalars: dict[str, Tensor]) -> None:
    """One step of the heads on the images of the finest stage's discriminator; does nothing without heads.

    Without wrong photos, real images are also scored with wrong captions, as in that discriminator.
    """
    if run.frozen is None or run.heads is None:
        return
    heads, count = run.heads, len(view.real)
    groups = [augment(run, images) for images in (view.real, view.wrong, view.fake.detach()) if images is not None]
    with autocast(run):
        with torch.no_grad():
            maps = _maps(run, torch.cat([images.to(groups[0].dtype) for images in groups]))
        features = heads.features(maps)
        real, fake = [h[:count] for h in features], [h[-count:] for h in features]
        of_real = heads.score(real, view.condition)
        of_fake = heads.score(fake, view.condition)
        of_wrong = of_real
        if view.wrong is not None:
            of_wrong = heads.score([h[count : 2 * count] for h in features], view.condition)
        elif view.wrong_condition is not None:
            of_wrong = heads.score(real, view.wrong_condition)
    kind, losses = run.config.loss.adversarial, []
    for triple in zip(of_real, of_wrong, of_fake, strict=True):
        conditional = triple if view.condition is not None else None
        losses.append(discriminator_loss(kind, conditional, None if conditional else triple))
    loss = torch.stack(losses).mean()
    note(scalars, "features/loss", loss, 1)
    for name, logits in (("real", of_real), ("wrong", of_wrong), ("fake", of_fake)):
        note(scalars, f"features/{name}", torch.stack([logit.mean() for logit in logits]).mean(), 1)
    loss.backward()
    run.step("features")


def adversarial_on_features(run: Run, view: View, cuts: Cuts, scalars: dict[str, Tensor]) -> None:
    """The heads' term of G's loss, back-propagated to the images; does nothing without heads."""
    if run.frozen is None or run.heads is None:
        return
    kind, losses = run.config.loss.adversarial, []
    run.heads.requires_grad_(False)
    shown = cuts.leaf(augment(run, view.fake))
    with autocast(run):
        of_fake = run.heads.score(run.heads.features(_maps(run, shown)), view.condition)
        of_real: list[Tensor | None] = [None] * len(of_fake)
        if kind == "relativistic":
            with torch.no_grad():
                real = run.heads.features(_maps(run, augment(run, view.real)))
                of_real = [*run.heads.score(real, view.condition)]
    for logits, reference in zip(of_fake, of_real, strict=True):
        losses.append(generator_loss(kind, logits, None, (reference, None)))
    loss = torch.stack(losses).mean()
    note(scalars, "g/features", loss, 1)
    (run.config.discriminator.features_weight * loss).backward()
    for parameter in run.heads.trained_parameters():
        parameter.requires_grad_(True)


def _maps(run: Run, images: Tensor) -> list[Tensor]:
    assert run.frozen is not None
    return run.frozen(images, run.config.discriminator.features_maps)
