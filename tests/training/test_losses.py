"""Losses compared with explicit computations, torch's functions and autograd."""

import math

import pytest
import torch
import torch.nn.functional as F

from stackgan.training.losses import (
    bce,
    colour_consistency,
    colour_statistics,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    hinge,
    mode_seeking,
    text_contrast,
)


def _triple() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(5), torch.randn(5), torch.randn(5)


@pytest.mark.parametrize("real", [True, False])
def test_bce_is_cross_entropy_of_the_sigmoid(real: bool) -> None:
    logits = torch.randn(9) * 3
    target = torch.full_like(logits, float(real))
    torch.testing.assert_close(bce(logits, real), F.binary_cross_entropy(logits.sigmoid(), target))


@pytest.mark.parametrize("term", [bce, hinge])
@pytest.mark.parametrize("real", [True, False])
def test_extreme_logits_stay_finite(term, real: bool) -> None:  # type: ignore[no-untyped-def]
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    term(logits, real).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_published_discriminator_loss_is_six_terms() -> None:
    torch.manual_seed(0)
    c, u = _triple(), _triple()
    ones, zeros = torch.ones(5), torch.zeros(5)
    expected = sum(
        F.binary_cross_entropy_with_logits(logits, target)
        for logits, target in zip((*c, *u), (ones, zeros, zeros, ones, ones, zeros), strict=True)
    )
    torch.testing.assert_close(discriminator_loss("bce", c, u), expected)
    without = bce(c[0], True) + 0.5 * (bce(c[1], False) + bce(c[2], False))
    torch.testing.assert_close(discriminator_loss("bce", c, None), without)


def test_hinge_discriminator_loss() -> None:
    c, u = _triple(), _triple()
    expected = hinge(c[0], True) + 0.5 * (hinge(c[1], False) + hinge(c[2], False))
    expected = expected + 0.5 * (hinge(u[0], True) + hinge(u[1], True)) + hinge(u[2], False)
    torch.testing.assert_close(discriminator_loss("hinge", c, u), expected)
    alone = 0.5 * (hinge(u[0], True) + hinge(u[1], True)) + hinge(u[2], False)
    torch.testing.assert_close(discriminator_loss("hinge", None, u), alone)


def test_relativistic_losses_depend_on_differences_only_and_are_each_others_mirror() -> None:
    real, wrong, fake = torch.randn(3, 16, dtype=torch.float64)
    loss = discriminator_loss("relativistic", (real, wrong, fake), (real, real, fake))
    expected = F.softplus(wrong - real).mean() + 2 * F.softplus(fake - real).mean()
    torch.testing.assert_close(loss, expected)
    shifted = discriminator_loss("relativistic", (real + 7, wrong + 7, fake + 7), (real - 3, real - 3, fake - 3))
    torch.testing.assert_close(shifted, loss)
    ours = generator_loss("relativistic", fake, fake, (real, real))
    torch.testing.assert_close(ours, 2 * F.softplus(real - fake).mean())


def test_losses_need_a_head() -> None:
    with pytest.raises(ValueError, match="head"):
        discriminator_loss("bce", None, None)
    with pytest.raises(ValueError, match="head"):
        generator_loss("bce", None, None)


def test_generator_loss() -> None:
    c, u = torch.tensor([0.0]), torch.tensor([2.0])
    assert math.isclose(float(generator_loss("bce", c, None)), math.log(2), rel_tol=1e-6)
    assert float(generator_loss("hinge", c, u)) == -2.0


@pytest.mark.parametrize("power", [2, 6])
def test_gradient_penalty_of_a_linear_function(power: int) -> None:
    """logits = 3·Σx + 4·Σe: the gradients' norms are 3√n and 4√m everywhere."""
    x, e = torch.randn(4, 3, 2, 2, requires_grad=True), torch.randn(4, 9, requires_grad=True)
    logits = 3 * x.flatten(1).sum(1) + 4 * e.sum(1)
    nx, ne = 3 * math.sqrt(12), 4 * math.sqrt(9)
    expected = nx**2 + ne**2 if power == 2 else (nx + ne) ** power
    assert math.isclose(float(gradient_penalty(logits, (x, e), power)), expected, rel_tol=1e-5)


def test_gradient_penalty_reaches_the_weights() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LeakyReLU(0.2), torch.nn.Linear(4, 1))
    x = torch.randn(5, 3, requires_grad=True)
    gradient_penalty(net(x).flatten(), (x,), 2).backward()
    assert net[0].weight.grad is not None and net[0].weight.grad.abs().sum() > 0


def test_colour_statistics_and_consistency() -> None:
    images = torch.rand(2, 3, 8, 8)
    mean, covariance = colour_statistics(images)
    pixels = images[1].flatten(1)
    torch.testing.assert_close(mean[1], pixels.mean(1))
    torch.testing.assert_close(covariance[1], torch.cov(pixels, correction=0))
    fine, coarse = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 8, 8, requires_grad=True)
    assert colour_consistency(coarse, coarse).item() == 0
    colour_consistency(fine, coarse).backward()
    assert fine.grad is not None and coarse.grad is None, "the coarser stage is the teacher"


def test_text_contrast_prefers_the_own_caption_and_pushes_off_the_wrong_one() -> None:
    torch.manual_seed(0)
    texts = torch.randn(5, 8)
    own = text_contrast(texts, texts).item()
    other = text_contrast(texts.roll(1, 0), texts).item()
    assert own < 0.1 < other
    assert text_contrast(texts, texts, wrong=texts).item() > own
    pictures = torch.randn(5, 8, requires_grad=True)
    text_contrast(pictures, texts, wrong=texts.roll(1, 0)).backward()
    assert pictures.grad is not None and pictures.grad.abs().sum() > 0


def test_mode_seeking_pushes_images_of_one_caption_apart_and_stops() -> None:
    torch.manual_seed(0)
    real = torch.rand(8, 3, 64, 64).round() * 2 - 1
    real = F.interpolate(F.avg_pool2d(real, 16), 64)  # differences visible at 16 px
    wanted = 0.5 * (F.avg_pool2d(real, 4) - F.avg_pool2d(real, 4).roll(4, 0)).abs().mean()
    one = torch.zeros(2, 3, 64, 64, requires_grad=True)
    two = torch.full((2, 3, 64, 64), float(wanted) / 4)
    loss = mode_seeking(one, two, real, share=0.5)
    assert loss.item() == pytest.approx(math.log(4), abs=1e-3)
    loss.backward()
    assert one.grad is not None and (one.grad > 0).all()  # away from the other image
    assert float(mode_seeking(one.detach(), two * 8, real, share=0.5)) == 0
    noise = torch.randn(2, 3, 64, 64) * 0.05  # texture that averages out is not diversity
    assert float(mode_seeking(one.detach(), noise, real, share=0.5)) > 1
