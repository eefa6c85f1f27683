"""Studies: exact divergences, computation of the digit likelihoods, short runs of every study."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stackgan.latent.distributions import DiagonalGaussian, Distribution, kl_discrete
from stackgan.study import STUDIES, study
from stackgan.study.figures import optional, write_numbers
from stackgan.study.flow_2d import FAMILIES, SHAPES, draw_shape
from stackgan.study.flow_digits import (
    Behind,
    Logit,
    Standardise,
    bits_per_dim,
    dequantise,
    discrete_bound,
    likelihood,
)
from stackgan.study.kl import (
    COINS,
    coin_log_joint,
    elbo,
    fit_gaussian,
    fit_posterior,
    identity_error,
    tooth_counts,
    variance_term,
)
from stackgan.study.kl import run as run_kl
from stackgan.study.vae_digits import (
    Autoencoder,
    Digits,
    discretised_logistic,
    kernel_distance,
    load_digits,
    nearest_distance,
    split,
)


def finite(value: Any) -> bool:
    """Whether every number in nested containers is finite."""
    if isinstance(value, dict):
        return all(finite(inner) for inner in value.values())
    if isinstance(value, list):
        return all(finite(inner) for inner in value)
    return not isinstance(value, float) or math.isfinite(value)


def check_outputs(out: Path, numbers: dict[str, Any], figures: set[str]) -> None:
    assert {file.name for file in out.iterdir()} == {*(f"{name}.png" for name in figures), "numbers.json"}
    for name in figures:
        assert (out / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads((out / "numbers.json").read_text("utf-8")) == numbers and finite(numbers)


# --- kl -----------------------------------------------------------------------------------------------------


def test_tooth_counts_diverge_as_computed_explicitly() -> None:
    teeth = tooth_counts()
    assert all(abs(float(p.sum()) - 1) < 1e-12 for p in teeth.values())
    assert round(float(kl_discrete(teeth["counted"], teeth["uniform"])), 5) == 0.13668
    assert round(float(kl_discrete(teeth["counted"], teeth["binomial"])), 5) == 0.42735


def test_variance_term_is_a_gaussians_kl() -> None:
    std = torch.tensor([[0.1], [1.0], [2.5]], dtype=torch.float64)
    expected = DiagonalGaussian(torch.zeros_like(std), 2 * std.log()).kl()
    torch.testing.assert_close(variance_term(std)[:, 0], expected, rtol=0, atol=1e-12)
    assert float(variance_term(torch.ones(()))) == 0


def test_forward_covers_and_reverse_seeks() -> None:
    """Forward KL matches the mixture's moments; reverse KL converges to the nearest mode."""
    mean, std, _ = fit_gaussian("forward", 0.5, steps=300)
    assert mean == pytest.approx(0.6 * -2.5 + 0.4 * 2.5, abs=1e-3)
    second_moment = 0.6 * (0.6**2 + 2.5**2) + 0.4 * (0.8**2 + 2.5**2)
    assert std == pytest.approx(math.sqrt(second_moment - 0.5**2), abs=1e-3)
    left, right = fit_gaussian("reverse", -1.0, steps=300), fit_gaussian("reverse", 1.0, steps=300)
    assert left[:2] == pytest.approx((-2.5, 0.6), abs=0.05)
    assert right[:2] == pytest.approx((2.5, 0.8), abs=0.05)
    assert left[2] == pytest.approx(-math.log(0.6), abs=0.01)  # q covers the mode of weight 0.6
    with pytest.raises(ValueError, match="forward or reverse"):
        fit_gaussian("sideways", 0.0)


@pytest.mark.parametrize(("heads", "tosses"), [(0, 0), (9, 24), (3391, 10_000), (10_000, 10_000)])
def test_evidence_is_elbo_and_divergence(heads: int, tosses: int) -> None:
    generator = torch.Generator().manual_seed(heads)
    q = (4 * torch.randn(500, 3, generator=generator, dtype=torch.float64)).log_softmax(1)
    assert identity_error(q, coin_log_joint(heads, tosses)).max() < 1e-9


def test_coin_evidence_is_the_sum_over_coins() -> None:
    chance = [p**9 * (1 - p) ** 15 / 3 for p in COINS]
    joint = coin_log_joint(9, 24)
    assert float(torch.logsumexp(joint, 0)) == pytest.approx(math.log(sum(chance)), abs=1e-12)
    assert joint.softmax(0).tolist() == pytest.approx([p / sum(chance) for p in chance], abs=1e-12)


@pytest.mark.parametrize(("heads", "tosses"), [(9, 24), (3391, 10_000)])
def test_fitted_q_is_the_posterior(heads: int, tosses: int) -> None:
    joint = coin_log_joint(heads, tosses)
    q, path = fit_posterior(joint, steps=300)
    assert (q - joint.softmax(0)).abs().max() < 1e-9
    assert all(later >= earlier - 1e-9 for earlier, later in zip(path, path[1:], strict=False))
    assert max(path) <= float(torch.logsumexp(joint, 0)) + 1e-9  # at most the evidence
    assert float(elbo(joint.log_softmax(0), joint)) == pytest.approx(float(torch.logsumexp(joint, 0)), abs=1e-9)


def test_natural_gradient_is_the_gradient_by_q() -> None:
    """∂ELBO/∂logits = q · (slope − E_q slope), slope = log p(x, k) − log q(k)."""
    joint = coin_log_joint(9, 24)
    logits = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    elbo(logits.log_softmax(0), joint).backward()
    q = logits.detach().softmax(0)
    slope = joint - q.log()
    torch.testing.assert_close(logits.grad, q * (slope - (q * slope).sum()))


def test_kl_study(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    numbers = run_kl(tmp_path / "kl", steps=300)
    check_outputs(tmp_path / "kl", numbers, {"teeth", "variance_term", "forward_reverse", "coins"})
    for name, found in numbers["coins"].items():
        if name.startswith("after"):
            assert found["largest_identity_error"] < 1e-9 and found["difference_of_q"] < 1e-9


# --- digits -------------------------------------------------------------------------------------------------


class Uniform:
    """p(y) = 1 on the unit cube."""

    def log_prob(self, x: Tensor) -> Tensor:
        assert (x >= 0).all() and (x < 1).all()
        return torch.zeros(len(x))


def test_dequantised_uniform_density_is_uniform_over_levels() -> None:
    digits = Digits(torch.randint(17, (6, 8, 8), generator=torch.Generator().manual_seed(0)), torch.zeros(6), 17)
    values = likelihood(Uniform(), digits, seed=0, draws=3)  # type: ignore[arg-type]
    torch.testing.assert_close(values, torch.full((6,), -64 * math.log(17)))
    assert bits_per_dim(-64 * math.log(17), 64) == pytest.approx(math.log2(17))


def test_dequantisation_stays_in_its_level() -> None:
    levels = torch.arange(17.0).repeat(100, 1)
    y = dequantise(levels, 17, torch.Generator().manual_seed(0))
    assert torch.equal((y * 17).floor(), levels) and y.min() >= 0 and y.max() < 1
    assert ((y * 17 - levels).mean() - 0.5).abs() < 0.05


def test_bound_is_the_probability_of_piecewise_constant_densities() -> None:
    """For a density that is constant within levels, the bound is tight: log p(y) − log 17 = log P(k)."""
    chance = torch.rand(17, generator=torch.Generator().manual_seed(0))
    chance = chance / chance.sum()
    level = torch.tensor(5)
    density = (chance[level] * 17).log()
    torch.testing.assert_close(discrete_bound(density, 1, 17), chance[level].log())


def test_logit_and_standardisation_account_for_their_slopes() -> None:
    y = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for part in (
        Logit(),
        Standardise(torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 1.0, 2.0]).double()),
    ):
        u, log_det = part(y)
        back, other = part.inverse(u)
        torch.testing.assert_close(back, y)
        torch.testing.assert_close(other, -log_det)
        jacobian = torch.autograd.functional.jacobian(lambda v, f=part: f(v[None])[0][0], y[0])
        torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian)[1])


def test_density_behind_a_logit_integrates_to_one() -> None:
    from stackgan.latent.distributions import FullGaussian

    base = FullGaussian(torch.tensor([-1.0]).double(), torch.tensor([[1.5]]).double())
    density = Behind(Logit(0.0), base)
    y = (torch.arange(20_000).double() + 0.5)[:, None] / 20_000
    assert float(density.log_prob(y).exp().mean()) == pytest.approx(1, abs=1e-6)


def test_discretised_logistic_sums_to_one() -> None:
    k = torch.arange(17.0)[:, None].double()
    mean, scale = (
        torch.tensor([-30.0, 0.2, 8.0, 16.0, 40.0]).double(),
        torch.tensor([3.0, 0.05, 1.0, 5.0, 0.1]).double(),
    )
    log_probability = discretised_logistic(k.expand(17, 5), mean.expand(17, 5), scale.expand(17, 5), 17)
    assert log_probability.isfinite().all()
    torch.testing.assert_close(log_probability.exp().sum(0), torch.ones(5).double())


def test_objectives_are_log_probabilities() -> None:
    model = Autoencoder(64, 17, 2, variational=True, hidden=8)
    x = torch.randint(17, (4, 64)).float()
    with torch.no_grad():
        assert model.objective(x).shape == (4,) and (model.objective(x) < 0).all()
        assert (Autoencoder(64, 17, 2, variational=False, hidden=8).objective(x) < 0).all()


def test_distances_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(200, 4, generator=generator), torch.randn(200, 4, generator=generator)
    assert nearest_distance(one, one) == pytest.approx(0, abs=1e-3)
    assert abs(kernel_distance(one, two)) < 0.01 < kernel_distance(one + 1, two)


def test_split_is_disjoint_and_seeded() -> None:
    digits = Digits(torch.arange(100).view(100, 1, 1), torch.arange(100), 100)
    parts, again = split(digits, 3), split(digits, 3)
    assert [len(part.images) for part in parts] == [70, 10, 20]
    assert torch.equal(torch.cat([part.labels for part in parts]).sort().values, torch.arange(100))
    assert all(torch.equal(a.images, b.images) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0].labels, split(digits, 4)[0].labels)


def test_mnist_files_are_read_and_checked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        load_digits(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2)) + bytes((1, 2, 3, 255)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 2, 7, 4)))
    digits = load_digits(tmp_path)
    assert digits.images.tolist() == [[[1, 2]], [[3, 255]]] and digits.labels.tolist() == [7, 4]
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not an idx file"):
        load_digits(tmp_path)


def test_short_vae_study(tmp_path: Path) -> None:
    for package in ("matplotlib", "sklearn"):
        pytest.importorskip(package)
    from stackgan.study.vae_digits import run

    numbers = run(tmp_path, steps=4)
    check_outputs(tmp_path, numbers, {"reconstructions", "samples", "latent"})
    assert sum(numbers["digits"].values()) == 1797
    found = numbers["vae_16d"]
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"], abs=1e-2)
    assert found["elbo"] < found["log_likelihood"] < 0


def test_short_flow_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two draws of dequantisation noise at most, and three ridges to choose from."""
    for package in ("matplotlib", "sklearn"):
        pytest.importorskip(package)
    import stackgan.study.flow_digits as module

    def quick(density: Distribution, digits: Digits, seed: int, draws: int = 2) -> Tensor:
        return likelihood(density, digits, seed, min(draws, 2))

    monkeypatch.setattr(module, "likelihood", quick)
    monkeypatch.setattr(module, "DRAWS", 2)
    monkeypatch.setattr(module, "RIDGES", (0.0, 1e-4, 3e-3))
    numbers = module.run(tmp_path, steps=2)
    check_outputs(tmp_path, numbers, {"likelihoods", "samples"})
    assert set(numbers["models"]) == {"gaussian", "gaussian_logit", *module.SETTINGS}
    for found in numbers["models"].values():
        assert found["bits_per_dim"] == pytest.approx(-found["nats"] / 64 / math.log(2))
    assert -140 < numbers["models"]["gaussian"]["nats"] < -120


# --- the plane ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_standardised_and_seeded(name: str) -> None:
    shape, again = draw_shape(name, 5, 2000, 500), draw_shape(name, 5, 2000, 500)
    assert shape.training.shape == (2000, 2) and shape.held_out.shape == (500, 2)
    torch.testing.assert_close(shape.training.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(shape.training.std(0), torch.ones(2), rtol=0, atol=1e-5)
    assert torch.equal(shape.held_out, again.held_out)


def test_short_plane_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a process for each core: two families, as each process imports the program."""
    pytest.importorskip("matplotlib")
    import stackgan.study.flow_2d as module

    chosen = {name: FAMILIES[name] for name in ("nice", "nsf")}
    monkeypatch.setattr(module, "FAMILIES", chosen)
    monkeypatch.setattr(module, "SHAPES", {"moons": SHAPES["moons"]})
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    numbers = module.run(tmp_path, steps=3)
    check_outputs(tmp_path, numbers, {"densities", "samples"})
    assert set(numbers["held_out_nats"]["moons"]) == {"gaussian", *chosen} and numbers["zuko"] is None


def test_comparison_with_zuko(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All families, in this process, on few points."""
    for package in ("matplotlib", "zuko"):
        pytest.importorskip(package)
    import stackgan.study.flow_2d as module

    monkeypatch.setattr(module, "SHAPES", {"rings": SHAPES["rings"]})
    monkeypatch.setattr(module, "draw_shape", partial(draw_shape, training=2000, held_out=2000))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    numbers = module.run(tmp_path, steps=3)
    check_outputs(tmp_path, numbers, {"densities", "samples", "zuko"})
    assert set(numbers["held_out_nats"]["rings"]) == {"gaussian", *FAMILIES}
    assert set(numbers["zuko"]["rings"]) == set(numbers["zuko_parameters"]) == {"realnvp", "maf", "nsf"}


# --- all ----------------------------------------------------------------------------------------------------


def test_unknown_study_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="unknown study 'flows': choose from kl, vae-digits, flow-digits, flow-2d, latents"
    ):
        study("flows", tmp_path)
    assert set(STUDIES) == {"kl", "vae-digits", "flow-digits", "flow-2d", "latents", "recipe"}


def test_missing_package_names_the_extra() -> None:
    with pytest.raises(ValueError, match=r'pip install "stackgan\[study\]"'):
        optional("sklearn_that_nobody_has.datasets")


def test_numbers_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_numbers(tmp_path, {"nats": math.nan})
    assert not list(tmp_path.iterdir())
