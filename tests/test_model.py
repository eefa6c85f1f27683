"""Layers, generator, discriminators, latent modules: shapes, gradients, equations, published sizes."""

import math

import pytest
import torch
from torch import Tensor, nn

from stackgan.config import AUGMENTATIONS, DiscriminatorConfig, GeneratorConfig, preset
from stackgan.latent.conditioning import CANet, Standardise
from stackgan.latent.distributions import DiagonalGaussian
from stackgan.model import StackGAN, build_discriminators
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.generator import Generator
from stackgan.training.diff_augment import diff_augment
from stackgan.training.ema import average_decay, update_average

TINY = {
    "legacy": ["generator.width=8", "discriminator.width=2"],
    "modern": ["generator.width=4", "discriminator.width=2"],
}


def _tiny(name: str, stages: int) -> StackGAN:
    overrides = [*TINY[name], f"tree.stages={stages}", "text.dim=6", "text.code_dim=4", "latent.dim=5"]
    return StackGAN(preset(name, overrides))


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ["legacy", "modern"])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_images_and_logits_have_their_shapes_and_gradients(name: str, stages: int) -> None:
    torch.manual_seed(0)
    model = _tiny(name, stages)
    e = torch.randn(3, 6)
    q = model.condition(e)
    images = model.generator(model.prior(q.mu).sample(), q.sample())
    assert [tuple(i.shape) for i in images] == [(3, 3, 64 << s, 64 << s) for s in range(stages)]
    assert all(i.abs().max() <= 1 for i in images)
    total = torch.zeros(())
    for net, image in zip(build_discriminators(model.config), images, strict=True):
        h = net.features(image)
        assert h.shape[2:] == (4, 4)
        condition = q.mu if model.config.discriminator.condition == "code" else e
        logits, plain = net.conditional(h, condition), net.unconditional(h)
        assert logits.shape == plain.shape == (3,)
        total = total + logits.sum() + plain.sum()
    (total + q.kl().sum()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        if key.endswith("weight"):
            assert parameter.grad.abs().max() > 0, key


def test_published_sizes() -> None:
    """ORIGINAL: 21.24 M parameters in G; 5.72, 18.83, 71.27 M in the discriminators of 64, 128, 256 px."""
    config = preset("legacy", ["text.dim=1024"])
    with torch.device("meta"):
        generator, discriminators = StackGAN(config), build_discriminators(config)
    assert round(_parameters(generator) / 1e6, 2) == 21.24
    assert [round(_parameters(net) / 1e6, 2) for net in discriminators] == [5.72, 18.83, 71.27]


@pytest.mark.parametrize(("size", "millions"), [(512, 280.997), (1024, 1119.882)])
def test_large_discriminators_have_the_published_sizes(size: int, millions: float) -> None:
    with torch.device("meta"):
        net = Discriminator(DiscriminatorConfig(block="legacy", width=64, condition="code"), size, 128)
    assert round(_parameters(net) / 1e6, 3) == millions


@pytest.mark.parametrize("block", ["legacy", "fused"])
def test_five_stages_reach_1024(block: str) -> None:
    g = Generator(GeneratorConfig(block=block, width=16, residuals=1), 5, z_dim=3, code_dim=2).eval()
    with torch.inference_mode():
        images = g(torch.randn(1, 3), torch.randn(1, 2))
    assert [i.shape[-1] for i in images] == [64, 128, 256, 512, 1024]


def test_c_comes_before_z_in_the_first_linear_map() -> None:
    g = Generator(GeneratorConfig(block="legacy", width=8), 1, z_dim=5, code_dim=3)
    assert g.stages[0].linear.in_features == 8
    h = torch.zeros(1, 8)
    h[0, 0] = 1
    with torch.no_grad():
        from_c = g.stages[0].linear(torch.cat((torch.eye(3)[:1], torch.zeros(1, 5)), 1))
        assert torch.equal(from_c, g.stages[0].linear(h))


def test_wrong_shapes_are_named() -> None:
    model = _tiny("modern", 1)
    with pytest.raises(ValueError, match=r"z has shape \(2, 7\)"):
        model.generator(torch.zeros(2, 7), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"c has shape"):
        model.generator(torch.zeros(2, 5), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"embeddings have shape"):
        model.condition(torch.zeros(2, 7))
    with pytest.raises(ValueError, match=r"takes \(B, 3, 64, 64\)"):
        build_discriminators(model.config)[0].features(torch.zeros(2, 3, 32, 32))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(1)
    model = _tiny("modern", 2).eval().double()
    z, c = torch.randn(5, 5, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    with torch.inference_mode():
        whole = model.generator(z, c)
        alone = model.generator(z[3:4], c[3:4])
    for a, b in zip(whole, alone, strict=True):
        torch.testing.assert_close(a[3:4], b, atol=1e-11, rtol=0)


# --- latent modules -----------------------------------------------------------------------------------------


def test_kl_agrees_with_torch_distributions() -> None:
    q = DiagonalGaussian(torch.randn(4, 7), torch.randn(4, 7))
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mu, q.std), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    torch.testing.assert_close(q.kl(), theirs)
    x = torch.randn(4, 7)
    torch.testing.assert_close(q.log_prob(x), torch.distributions.Normal(q.mu, q.std).log_prob(x).sum(1))


def test_samples_are_reparameterised_and_seeded() -> None:
    mu, logvar = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    q = DiagonalGaussian(mu, logvar)
    noise = torch.randn(2, 3)
    q.sample(noise=noise).sum().backward()
    assert mu.grad is not None and logvar.grad is not None
    torch.testing.assert_close(mu.grad, torch.ones(2, 3))
    torch.testing.assert_close(logvar.grad, noise / 2)
    draws = [q.sample(torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_canet_is_the_published_map() -> None:
    net = CANet(6, 2)
    assert net.linear.weight.shape == (8, 6) and net.linear.bias is not None
    e = torch.randn(3, 6)
    with torch.no_grad():
        x = net.linear(e)
        gated = x[:, :4] * torch.sigmoid(x[:, 4:])
        q = net(e)
    torch.testing.assert_close(q.mu, gated[:, :2])
    torch.testing.assert_close(q.logvar, gated[:, 2:])


def test_standardise_measures_mean_and_overall_scale() -> None:
    e = torch.randn(500, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    s = Standardise(4)
    assert torch.equal(s(e), e)
    s.measure(e)
    out = s(e)
    assert out.mean(0).abs().max() < 1e-4
    assert math.isclose(float(out.square().mean()), 1.0, rel_tol=1e-3)
    assert float(out[:, 3].std() / out[:, 0].std()) > 3, "directions keep their proportions"


# --- average and augmentation -------------------------------------------------------------------------------


def test_average_follows_and_leaves_the_live_module_alone() -> None:
    live, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        live.weight.fill_(3.0)
        assert live.running_mean is not None
        live.running_mean.fill_(7.0)
    update_average(average, live, 0.75)
    assert average.weight.tolist() == [1.5, 1.5] and live.weight.tolist() == [3.0, 3.0]
    assert average.running_mean is not None and average.running_mean.tolist() == [7.0, 7.0]
    with pytest.raises(ValueError, match="different parameters"):
        update_average(nn.PReLU(), live, 0.5)


def test_ramp_reaches_the_decay() -> None:
    decays = [average_decay(0.99, t, ramp=True) for t in range(2000)]
    assert decays == sorted(decays) and decays[0] == 0.1 and decays[-1] == 0.99


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_pictures_and_keeps_gradients(name: str) -> None:
    torch.manual_seed(0)
    images = (torch.rand(6, 3, 64, 64) * 2 - 1).requires_grad_()
    out: Tensor = diff_augment(images, [name])
    assert out.shape == images.shape and not torch.equal(out, images)
    out.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert torch.equal(diff_augment(images, [name], probability=0.0), images)
    assert torch.equal(diff_augment(images, []), images)


def test_translation_moves_whole_pictures_and_cutout_removes_a_quarter() -> None:
    torch.manual_seed(0)
    images = torch.ones(64, 3, 64, 64)
    cut = diff_augment(images, ["cutout"])
    removed = (cut[:, 0] == 0).float().mean((1, 2))
    assert removed.max() <= 0.25 and removed.max() > 0.2 and removed.min() > 0
    moved = diff_augment(images, ["translation"])
    assert ((moved == 0) | (moved == 1)).all() and moved.mean() > 0.75
