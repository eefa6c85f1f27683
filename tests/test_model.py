"""Generator, discriminators, conditioning: shapes, gradients, equations, published sizes."""

import pytest
import torch
from torch import nn

from stackgan.config import DiscriminatorConfig, GeneratorConfig, preset
from stackgan.model import StackGAN, build_discriminators
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.generator import Generator

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
