"""Training losses: pure functions of logits, codes and images, each returning a scalar tensor.

Where several processes share a batch (:mod:`stackgan.runtime.distributed`), the arguments are one process's rows, and
the mean of its losses over processes is that of the whole batch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.images.diversity import averaged_down, mean_difference
from stackgan.runtime.distributed import gather_rows, mean_over_ranks, own_rows

__all__ = [
    "ADVERSARIAL",
    "bce",
    "colour_consistency",
    "colour_statistics",
    "discriminator_loss",
    "generator_loss",
    "gradient_penalty",
    "hinge",
    "mode_seeking",
    "relative",
    "text_contrast",
]


def bce(logits: Tensor, real: bool) -> Tensor:
    """−log σ(logits) for real, −log(1 − σ(logits)) for fake, mean; the published cross entropy, from logits.

    >>> round(float(bce(torch.zeros(4), real=True)), 4)
    0.6931
    """
    return F.softplus(-logits if real else logits).mean()


def hinge(logits: Tensor, real: bool) -> Tensor:
    """max(0, 1 − logits) for real, max(0, 1 + logits) for fake, mean (arXiv:1705.02894, eq. 3).

    >>> float(hinge(torch.tensor([2.0, 0.0]), real=True))
    0.5
    """
    return F.relu(1 - logits if real else 1 + logits).mean()


def relative(logits: Tensor, real: Tensor) -> Tensor:
    """−log σ(real − logits), mean: depends only on differences of paired logits (RpGAN, arXiv:1807.00734, eq. 8).

    >>> round(float(relative(torch.zeros(4), torch.zeros(4))), 4)
    0.6931
    """
    return F.softplus(logits - real).mean()


# Losses of single logits by value of config key loss.adversarial; ``relativistic`` takes pairs of logits.
ADVERSARIAL: dict[str, Callable[[Tensor, bool], Tensor]] = {"bce": bce, "hinge": hinge}


def discriminator_loss(
    kind: str,
    conditional: tuple[Tensor, Tensor, Tensor] | None,
    unconditional: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:
    """D's loss of one stage from logits on (real, wrong, fake).

    ``bce`` is the published sum of six terms: conditional targets 1, 0, 0 and unconditional 1, 1, 0 (a mismatched
    photo is still a real photo); without the unconditional head real + ½ (wrong + fake). ``hinge`` is conditional
    real + ½ (wrong + fake) and unconditional ½ (real + wrong) + fake. ``relativistic`` pairs real with fake in both
    heads, and real with wrong in the conditional one.

    Raises:
        ValueError: neither head's logits were given.
    """
    if conditional is None and unconditional is None:
        raise ValueError("discriminator_loss needs the logits of at least one head")
    if kind == "relativistic":
        terms = []
        if conditional is not None:
            real, wrong, fake = conditional
            terms += [relative(wrong, real), relative(fake, real)]
        if unconditional is not None:
            terms.append(relative(unconditional[2], unconditional[0]))
        return torch.stack(terms).sum()
    term = ADVERSARIAL[kind]
    total = torch.zeros((), device=(conditional or unconditional)[0].device)  # type: ignore[index]
    half = 1.0 if kind == "bce" and conditional is not None and unconditional is not None else 0.5
    if conditional is not None:
        real, wrong, fake = conditional
        total = total + term(real, True) + half * (term(wrong, False) + term(fake, False))
    if unconditional is not None:
        real, wrong, fake = unconditional
        total = total + half * (term(real, True) + term(wrong, True)) + term(fake, False)
    return total


def generator_loss(
    kind: str,
    conditional: Tensor | None,
    unconditional: Tensor | None,
    real: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Tensor:
    """G's loss of one stage from D's logits on fakes: non-saturating for ``bce``, −mean for ``hinge``.

    ``real``: conditional and unconditional logits of real images, without gradient, for ``relativistic``: −log σ(fake
    − real).

    Raises:
        ValueError: neither head's logits were given.
    """
    terms = []
    for logits, reference in zip((conditional, unconditional), real, strict=True):
        if logits is None:
            continue
        if kind == "relativistic":
            assert reference is not None
            terms.append(relative(reference, logits))
        else:
            terms.append(bce(logits, real=True) if kind == "bce" else -logits.mean())
    if not terms:
        raise ValueError("generator_loss needs the logits of at least one head")
    return torch.stack(terms).sum()


def gradient_penalty(logits: Tensor, inputs: tuple[Tensor, ...], power: int) -> Tensor:
    """E[(Σ_i ‖∂ logits / ∂ input_i‖₂)^power], zero-centred, at real images and their true captions.

    Power 6 with weight 2 is the matching-aware penalty of DF-GAN (arXiv:2008.05865, eq. 2); with power 2 the
    squares are added, E[Σ_i ‖·‖²], which is R1 (arXiv:1801.04406, eq. 9) over image and embedding.

    Args:
        logits: (B,), a differentiable function of ``inputs``, sample by sample.
        inputs: tensors (B, …) that require gradients.
    """
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
    if power == 2:
        return torch.stack(squares).sum(0).mean()
    norms = torch.stack([(square + 1e-12).sqrt() for square in squares]).sum(0)
    return norms.pow(power).mean()


def colour_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, 3) and covariance (B, 3, 3) of the colours of each image (B, 3, H, W)."""
    pixels = images.flatten(2)
    mean = pixels.mean(2)
    centred = pixels - mean[:, :, None]
    return mean, centred @ centred.transpose(1, 2) / pixels.shape[2]


def colour_consistency(fine: Tensor, coarse: Tensor) -> Tensor:
    """MSE of colour means + 5 · MSE of colour covariances, finer stage against the detached coarser one.

    arXiv:1710.10916, eq. 10, with the published weights; images (B, 3, H, W), sides may differ.
    """
    mean, covariance = colour_statistics(fine)
    wanted_mean, wanted_covariance = (statistic.detach() for statistic in colour_statistics(coarse))
    return F.mse_loss(mean, wanted_mean) + 5.0 * F.mse_loss(covariance, wanted_covariance)


def mode_seeking(one: Tensor, two: Tensor, real: Tensor, share: float) -> Tensor:
    """Mode-seeking loss: max(0, log(share · r / d)) for pairs of images of one caption.

    d = mean |one − two|, r = mean distance of real images to others of the batch, on images reduced by averaging
    (:mod:`stackgan.images.diversity`). MSGAN's ratio of distances (arXiv:1903.05628, eq. 3), relative to real images
    and with a threshold: the loss is zero where d reaches share · r.

    Args:
        one, two: (B, 3, s, s) generated from the same codes c and different latents z.
        real: (N, 3, s, s), N at least 2.
        share: of r that d is to reach.

    >>> a, b = torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)
    >>> float(mode_seeking(a, b, torch.cat((a, b)), share=0.5))
    0.0
    """
    one, two, real = (averaged_down(images) for images in (one, two, real))
    real = gather_rows(real)
    wanted = share * mean_difference(real, (len(real) // 2,))
    between = mean_over_ranks((one - two).abs().mean())
    return F.relu(torch.log((wanted + 1e-6) / (between + 1e-6)))


def text_contrast(images: Tensor, texts: Tensor, wrong: Tensor | None = None, scale: float = 10.0) -> Tensor:
    """Image-to-text contrastive loss (InfoNCE) with the captions of the batch and one wrong caption per image.

    Cross entropy of the softmax over captions of scale · cosine: the image-to-text term of CLIP's loss
    (arXiv:2103.00020, figure 3), applied to generated images as AttnGAN applies DAMSM (arXiv:1711.10485, eq. 13).

    Args:
        images, texts: (B, T) vectors of a joint space; row i of ``images`` belongs to row i of ``texts``.
        wrong: (B, T) embeddings of captions that do not describe the image of the same row.
        scale: inverse temperature.

    >>> round(float(text_contrast(torch.eye(2), torch.eye(2), scale=1.0)), 4)
    0.3133
    """
    images, texts = F.normalize(images.float(), dim=1), F.normalize(texts.float(), dim=1)
    texts = gather_rows(texts)
    logits = scale * images @ texts.T
    if wrong is not None:
        own = scale * (images * F.normalize(wrong.float(), dim=1)).sum(1, keepdim=True)
        logits = torch.cat((logits, own), 1)
    return F.cross_entropy(logits, own_rows(torch.arange(len(texts), device=images.device)))
