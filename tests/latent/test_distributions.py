"""Closed forms against torch.distributions, Monte Carlo and finite differences."""

import math

import pytest
import torch
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from stackgan.latent.distributions import (
    DiagonalGaussian,
    FullGaussian,
    kl_discrete,
    kl_gaussians,
    standard_normal,
)
from stackgan.latent.flows import flow
from tests.latent.divergences import entropy, kl_full_gaussians, kl_monte_carlo

TEETH = torch.tensor([0.02, 0.03, 0.05, 0.14, 0.16, 0.15, 0.12, 0.08, 0.10, 0.08, 0.07], dtype=torch.float64)


def _full(dim: int, seed: int, rows: int | None = None) -> FullGaussian:
    generator = torch.Generator().manual_seed(seed)
    shape = (dim,) if rows is None else (rows, dim)
    factor = torch.randn(*shape, dim, generator=generator, dtype=torch.float64).tril(-1)
    factor = factor + torch.diag_embed(torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5)
    return FullGaussian(torch.randn(shape, generator=generator, dtype=torch.float64), factor)


def _diagonal(rows: int, dim: int, seed: int) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mu, logvar = torch.randn(2, rows, dim, generator=generator, dtype=torch.float64)
    return DiagonalGaussian(mu, logvar)


def test_tooth_counts() -> None:
    """The worked example: KL of the histogram to a uniform distribution and to a binomial."""
    uniform = torch.full_like(TEETH, 1 / 11)
    binomial = torch.tensor([math.comb(10, k) * 0.544**k * 0.456 ** (10 - k) for k in range(11)]).double()
    assert float(kl_discrete(TEETH, uniform)) == pytest.approx(0.13668, abs=5e-6)
    assert float(kl_discrete(TEETH, binomial)) == pytest.approx(0.42735, abs=5e-6)
    assert float(kl_discrete(binomial, TEETH)) != pytest.approx(0.42735, abs=1e-2)  # the directions differ
    expected = kl_divergence(Categorical(probs=TEETH), Categorical(probs=binomial))
    torch.testing.assert_close(kl_discrete(TEETH, binomial), expected)


def test_discrete_edges() -> None:
    p, q = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
    assert float(kl_discrete(p, q)) == pytest.approx(math.log(2))
    assert float(kl_discrete(q, p)) == math.inf
    batch = kl_discrete(torch.stack((p, q)), q)
    assert batch.shape == (2,) and float(batch[1]) == 0
    for bad in (torch.tensor([0.5, 0.6]), torch.tensor([-0.5, 1.5])):
        with pytest.raises(ValueError, match="not a distribution"):
            kl_discrete(bad, q)


def test_one_dimensional_gaussians() -> None:
    mu, logvar, other_mu, other_logvar = torch.randn(4, 50, dtype=torch.float64)
    theirs = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(other_mu, (other_logvar / 2).exp()))
    torch.testing.assert_close(kl_gaussians(mu, logvar, other_mu, other_logvar), theirs)
    assert not torch.allclose(theirs, kl_gaussians(other_mu, other_logvar, mu, logvar))


def test_diagonal_gaussians_and_the_split() -> None:
    p, q = _diagonal(6, 5, 0), _diagonal(6, 5, 1)
    theirs = kl_divergence(Normal(p.mu, p.std), Normal(q.mu, q.std))
    torch.testing.assert_close(p.kl(q), theirs.sum(1))
    torch.testing.assert_close(p.kl_per_dimension(q), theirs)
    torch.testing.assert_close(p.kl(standard_normal(p.mu, 5)), p.kl())
    mean, variance = 0.5 * p.mu.square().sum(1), 0.5 * (p.logvar.exp() - p.logvar - 1).sum(1)
    torch.testing.assert_close(mean + variance, p.kl())
    torch.testing.assert_close(entropy(p), Normal(p.mu, p.std).entropy().sum(1))


def test_full_gaussians() -> None:
    p, q = _full(4, 0), _full(4, 1)
    theirs = [MultivariateNormal(g.mean, scale_tril=g.factor) for g in (p, q)]
    torch.testing.assert_close(kl_full_gaussians(p, q), kl_divergence(*theirs))
    x = torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(x), theirs[0].log_prob(x))
    torch.testing.assert_close(entropy(p), theirs[0].entropy())
    batched, other = _full(4, 2, rows=3), _full(4, 3, rows=3)
    expected = kl_divergence(
        MultivariateNormal(batched.mean, scale_tril=batched.factor),
        MultivariateNormal(other.mean, scale_tril=other.factor),
    )
    torch.testing.assert_close(kl_full_gaussians(batched, other), expected)
    # A diagonal one is a full one.
    d = _diagonal(1, 4, 5)
    as_full = FullGaussian(d.mu[0], torch.diag(d.std[0]))
    torch.testing.assert_close(
        kl_full_gaussians(as_full, FullGaussian(torch.zeros(4).double(), torch.eye(4).double())), d.kl()[0]
    )


def test_fitting_a_full_gaussian() -> None:
    truth = _full(3, 4)
    x = truth.sample(noise=torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)).double())
    fitted = FullGaussian.fit(x)
    assert float(kl_full_gaussians(truth, fitted)) < 1e-3
    flat = torch.cat((x, x[:, :1]), 1)
    with pytest.raises(ValueError, match="singular"):
        FullGaussian.fit(flat)
    assert FullGaussian.fit(flat, ridge=1e-3).log_prob(flat[:2]).isfinite().all()


def test_monte_carlo_agrees_with_closed_forms() -> None:
    p, q = _diagonal(4, 3, 0), _diagonal(4, 3, 1)
    value, error = kl_monte_carlo(p, q, 4000, torch.Generator().manual_seed(0))
    assert ((value - p.kl(q)).abs() < 4 * error).all() and (error > 0).all()
    full, other = _full(3, 0), _full(3, 1)
    value, error = kl_monte_carlo(full, other, 4000, torch.Generator().manual_seed(0))
    assert abs(value - kl_full_gaussians(full, other)) < 4 * error
    again, _ = kl_monte_carlo(full, other, 4000, torch.Generator().manual_seed(0))
    assert torch.equal(value, again)
    with pytest.raises(ValueError, match="count is 1"):
        kl_monte_carlo(p, q, 1)


def test_monte_carlo_takes_flows() -> None:
    """KL between a flow that is N(0, I) and a Gaussian is the Gaussian's closed form."""
    torch.manual_seed(0)
    copies, q = 1000, _diagonal(2, 3, 7)
    base = flow("realnvp", 3).double().given(count=2 * copies)  # a new one is its base
    many = DiagonalGaussian(q.mu.repeat(copies, 1), q.logvar.repeat(copies, 1))
    with torch.no_grad():
        value, error = kl_monte_carlo(base, many, 4000, torch.Generator().manual_seed(0), copies=copies)
        back, back_error = kl_monte_carlo(many, base, 4000, torch.Generator().manual_seed(0), copies=copies)
    assert value.shape == back.shape == (2,)
    assert ((value - standard_normal(q.mu, 3).kl(q)).abs() < 4 * error).all()
    assert ((back - q.kl()).abs() < 4 * back_error).all()


def test_gradients_through_a_sample() -> None:
    """∂ f(mu + σ ε) against finite differences, in mu and in log σ²."""
    mu, logvar = torch.randn(2, 3, 4, dtype=torch.float64)
    noise = torch.randn(3, 4, dtype=torch.float64)

    def value(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        return DiagonalGaussian(mu, logvar).sample(noise=noise).sin().sum()

    assert torch.autograd.gradcheck(value, (mu.requires_grad_(), logvar.requires_grad_()))


def test_reparameterised_gradients_are_those_of_the_expectation() -> None:
    """E[z²] = mu² + σ²: mean of sampled gradients is 2 mu and σ²."""
    mu = torch.tensor([[0.7, -1.2]], dtype=torch.float64, requires_grad=True)
    logvar = torch.tensor([[0.3, -0.5]], dtype=torch.float64, requires_grad=True)
    z = DiagonalGaussian(mu.expand(100_000, -1), logvar.expand(100_000, -1)).sample(torch.Generator().manual_seed(0))
    z.square().mean(0).sum().backward()
    assert mu.grad is not None and logvar.grad is not None
    torch.testing.assert_close(mu.grad, 2 * mu.detach(), rtol=0.02, atol=0.02)
    torch.testing.assert_close(logvar.grad, logvar.detach().exp(), rtol=0.02, atol=0.02)


def test_entropy_is_minus_the_expected_log_density() -> None:
    for p in (_diagonal(1, 3, 0), _full(3, 1)):
        noise = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0)).double()
        x = p.sample(noise=noise)
        assert float((-p.log_prob(x).mean() - entropy(p).mean()).abs()) < 0.03


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
