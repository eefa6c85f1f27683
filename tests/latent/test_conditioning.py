"""CA_NET as published, and the standardisation of embeddings before it."""

import math

import torch

from stackgan.latent.conditioning import CANet, Standardise


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
    s.measure(e.numpy())
    out = s(e)
    assert out.mean(0).abs().max() < 1e-4
    assert math.isclose(float(out.square().mean()), 1.0, rel_tol=1e-3)
    assert float(out[:, 3].std() / out[:, 0].std()) > 3, "directions keep their proportions"
