"""Tests of every invertible map: exact inverses, exact log-determinants, densities that integrate to one."""

import math
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from stackgan.latent.flows import (
    FAMILIES,
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Flow,
    FlowFamily,
    Inverted,
    InvertibleLinear,
    MaskedAutoregressive,
    Permutation,
    Scaling,
    SplineCoupling,
    Squeeze,
    Step,
    flow,
    image_flow,
    mixing_shuffle,
    rational_quadratic_spline,
    reversal,
    shuffle,
)

CONTEXT = 3
VECTOR, IMAGE = (5,), (4, 4, 4)

MAPS: dict[str, tuple[tuple[int, ...], Callable[[int], Bijection]]] = {
    "additive": (VECTOR, lambda c: AdditiveCoupling(5, c, 16)),
    "affine": (VECTOR, lambda c: AffineCoupling(5, c, 16)),
    "spline": (VECTOR, lambda c: SplineCoupling(5, c, 16)),
    "scaling": (VECTOR, lambda c: Scaling(5)),
    "actnorm": (VECTOR, lambda c: ActNorm(5)),
    "linear": (VECTOR, lambda c: InvertibleLinear(5)),
    "reversal": (VECTOR, lambda c: reversal(5)),
    "shuffle": (VECTOR, lambda c: shuffle(5)),
    "masked": (VECTOR, lambda c: MaskedAutoregressive(5, c, 16)),
    "inverse-masked": (VECTOR, lambda c: Inverted(MaskedAutoregressive(5, c, 16))),
    "image-additive": (IMAGE, lambda c: AdditiveCoupling(4, c, 8, images=True)),
    "image-affine": (IMAGE, lambda c: AffineCoupling(4, c, 8, images=True)),
    "image-spline": (IMAGE, lambda c: SplineCoupling(4, c, 8, images=True)),
    "image-actnorm": (IMAGE, lambda c: ActNorm(4)),
    "image-linear": (IMAGE, lambda c: InvertibleLinear(4)),
    "image-scaling": (IMAGE, lambda c: Scaling(4)),
    "squeeze": (IMAGE, lambda c: Squeeze()),
    **{f"flow-{family}": (VECTOR, lambda c, f=family: flow(f, 5, c, steps=3, hidden=16)) for family in FAMILIES},
    **{
        f"image-flow-{family}": (IMAGE, lambda c, f=family: image_flow(f, (4, 4, 4), c, steps=2, hidden=8))
        for family, row in FAMILIES.items()
        if row.images
    },
}  # fmt: skip


def make(name: str, context: int = CONTEXT, dtype: torch.dtype = torch.float64) -> Bijection:
    """The map with weights away from the identity, as after training."""
    torch.manual_seed(0)
    made = MAPS[name][1](context).to(dtype).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=dtype))
    return made


def points(name: str, count: int = 8, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, *MAPS[name][0], generator=generator, dtype=torch.float64) * 2
    return x.to(dtype), torch.randn(count, CONTEXT, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_inverse_undoes_forward(name: str, dtype: torch.dtype, tolerance: float) -> None:
    f, (x, c) = make(name, dtype=dtype), points(name, dtype=dtype)
    u, log_det = f(x, c)
    back, other = f.inverse(u, c)
    assert back.shape == x.shape and log_det.shape == (len(x),) and u.numel() == x.numel()
    assert (back - x).abs().max() <= tolerance * x.abs().max().clamp_min(1)
    torch.testing.assert_close(log_det, -other, rtol=1e-4 if dtype == torch.float32 else 1e-8, atol=tolerance * 10)


@pytest.mark.parametrize("name", MAPS)
def test_log_determinant_is_the_jacobians(name: str) -> None:
    f, (x, c) = make(name), points(name, count=3)
    u, log_det = f(x, c)
    _, other = f.inverse(u, c)
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda v, r=row: f(v[None], c[r : r + 1])[0][0], x[row])
        expected = torch.linalg.slogdet(jacobian.reshape(x[row].numel(), -1))[1]
        assert abs(float((log_det[row] - expected).detach())) <= 1e-5
        jacobian = torch.autograd.functional.jacobian(lambda v, r=row: f.inverse(v[None], c[r : r + 1])[0][0], u[row])
        expected = torch.linalg.slogdet(jacobian.reshape(x[row].numel(), -1))[1]
        assert abs(float((other[row] - expected).detach())) <= 1e-5


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_finite_and_reach_every_parameter(name: str) -> None:
    f, (x, c) = make(name, dtype=torch.float32), points(name, dtype=torch.float32)
    x.requires_grad_()
    u, log_det = f(x, c)
    weights = torch.randn(u.shape, generator=torch.Generator().manual_seed(2))
    ((u * weights).sum() + log_det.sum()).backward()
    assert x.grad is not None and x.grad.isfinite().all()
    for key, parameter in f.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("size", [1e3, 1e6, 0.0])
def test_extreme_inputs_stay_finite(name: str, size: float) -> None:
    f, (x, c) = make(name, dtype=torch.float32), points(name, dtype=torch.float32)
    for direction in (f.forward, f.inverse):
        given = x * size if direction == f.forward else (f(x, c)[0] * size).detach()
        out, log_det = direction(given.requires_grad_(), c)
        assert out.isfinite().all() and log_det.isfinite().all()
        (out.sum() + log_det.sum()).backward()
        assert given.grad is not None and given.grad.isfinite().all()


@pytest.mark.parametrize("name", MAPS)
def test_save_and_load_give_the_same_map(name: str) -> None:
    f, (x, c) = make(name, dtype=torch.float32), points(name, dtype=torch.float32)
    torch.manual_seed(99)
    other = MAPS[name][1](CONTEXT).eval()
    other.load_state_dict(load(save({key: tensor.contiguous() for key, tensor in f.state_dict().items()})))
    assert torch.equal(f(x, c)[0], other(x, c)[0]) and torch.equal(f(x, c)[1], other(x, c)[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("context", [0, CONTEXT])
def test_density_of_a_plane_integrates_to_one(family: str, context: int) -> None:
    torch.manual_seed(3)
    f = flow(family, 2, context, steps=3, hidden=16).double().eval()
    with torch.no_grad():
        for parameter in f.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, dtype=torch.float64))
        c = torch.randn(1, context, dtype=torch.float64) if context else None
        reach = float(f.given(c, 1).flow.inverse(6 * torch.randn(4000, 2).double(), _rows(c, 4000))[0].abs().max())
        side = torch.linspace(-reach, reach, 601, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        density = f.given(_rows(c, len(grid)), len(grid)).log_prob(grid).exp()
    assert abs(float(density.sum()) * (2 * reach / 600) ** 2 - 1) < 0.01


def _rows(c: Tensor | None, count: int) -> Tensor | None:
    return c.expand(count, -1) if c is not None else None


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_depend_on_the_seed_and_carry_gradients(family: str) -> None:
    f, (_, c) = make(f"flow-{family}", dtype=torch.float32), points(f"flow-{family}", dtype=torch.float32)
    p = f.given(c)
    one, two, three = (p.sample(torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two) and not torch.equal(one, three) and one.shape == (8, 5)
    assert one.requires_grad and p.log_prob(one).shape == (8,)
    torch.testing.assert_close(p.sample(noise=p.to_noise(one)), one, rtol=1e-4, atol=1e-4)
    assert torch.equal(p.mode, p.sample(noise=torch.zeros(8, 5)))
    # A row depends only on its own context and noise.
    noise = torch.randn(8, 5, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(f.given(c[2:3]).sample(noise=noise[2:3]), p.sample(noise=noise)[2:3])


@pytest.mark.parametrize("family", FAMILIES)
def test_context_matters_and_is_optional(family: str) -> None:
    f, (x, c) = make(f"flow-{family}"), points(f"flow-{family}")
    assert not torch.allclose(f(x, c)[0], f(x, -c)[0])
    plain = make(f"flow-{family}", context=0)
    assert plain(x)[0].shape == x.shape and plain.given(count=3).sample().shape == (3, 5)


def test_autoregressive_order() -> None:
    """Output i of a MADE depends on inputs before i only; the first depends on the context only."""
    f, (x, c) = make("masked"), points("masked", count=1)
    jacobian = torch.autograd.functional.jacobian(lambda v: f(v[None], c)[0][0], x[0])
    assert torch.equal(jacobian.triu(1), torch.zeros(5, 5, dtype=jacobian.dtype))
    assert (jacobian.tril(-1).abs().sum(1)[1:] > 0).all()


def test_maf_and_iaf_mirror_each_other() -> None:
    torch.manual_seed(0)
    maf = MaskedAutoregressive(4, 0, 8).double()
    x = torch.randn(3, 4).double()
    for ours, theirs in zip(Inverted(maf)(x), maf.inverse(x), strict=True):
        assert torch.equal(ours, theirs)


def test_scaling_is_a_trained_prior_variance() -> None:
    """log p(x) of a scaling layer under N(0, I) is that of N(0, exp(−2s)) without one (NICE, section 3.3)."""
    scaling = Scaling(4).double()
    scaling.log_scale.data = torch.tensor([0.5, -1.0, 0.0, 2.0]).double()
    x = torch.randn(6, 4).double()
    expected = torch.distributions.Normal(0.0, (-scaling.log_scale).exp()).log_prob(x).sum(1)
    torch.testing.assert_close(Flow([scaling], 4).given(count=6).log_prob(x), expected)


def test_scaling_trains_to_the_data_variance() -> None:
    """Maximum likelihood of a scaling layer gives the same variances as fitting those of the prior."""
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([0.3, 1.0, 4.0])
    f = Flow([Scaling(3).double()], 3)
    optimizer = torch.optim.LBFGS(f.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -f.given(count=500).log_prob(x).mean()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    fitted = (-next(f.parameters())).exp().square()
    torch.testing.assert_close(fitted, x.square().mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 4, 7, 64])
def test_couplings_in_a_row_map_other_channels(channels: int) -> None:
    """A permutation that kept the unchanged half in place would make the next coupling useless."""
    kept = channels // 2
    for step in range(20):
        order = mixing_shuffle(channels, step).order
        assert sorted(order.tolist()) == list(range(channels))
        assert 2 * int((order[:kept] < kept).sum()) <= kept


def test_actnorm_starts_from_its_first_training_batch() -> None:
    for shape in ((64, 3), (16, 3, 4, 4)):
        layer = ActNorm(3).train()
        x = torch.randn(shape) * 3 + 5
        u, _ = layer(x)
        assert u.transpose(0, 1).flatten(1).mean(1).abs().max() < 1e-5
        torch.testing.assert_close(u.transpose(0, 1).flatten(1).std(1), torch.ones(3), rtol=1e-4, atol=1e-4)
        before = layer.shift.clone()
        layer(x + 7)
        assert torch.equal(layer.shift, before)  # once only
    fresh = ActNorm(3).eval()
    fresh(torch.randn(8, 3) + 5)
    assert not fresh.initialised


def test_splines_are_monotone_and_meet_the_identity_at_their_bounds() -> None:
    parameters = torch.randn(1, 23, generator=torch.Generator().manual_seed(0)).double() * 3
    x = torch.linspace(-7, 7, 1001).double()
    y, log_slope = rational_quadratic_spline(x, parameters.expand(1001, -1))
    assert (y.diff() > 0).all() and torch.equal(y[x.abs() >= 5], x[x.abs() >= 5])
    slope = torch.gradient(y, spacing=(x,))[0]
    middle = x.abs() < 4.9
    assert ((log_slope.exp() - slope).abs()[middle] / slope[middle]).median() < 0.01
    same, zero = rational_quadratic_spline(x, torch.zeros(1001, 23).double())
    torch.testing.assert_close(same, x)
    torch.testing.assert_close(zero, torch.zeros_like(x), rtol=0, atol=1e-9)


def test_a_new_flow_is_close_to_its_base() -> None:
    """Untrained flows of all families are close to a standard normal, so that training begins stably."""
    x = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0))
    for family in FAMILIES:
        torch.manual_seed(0)
        p = flow(family, 6, 2).eval().given(torch.zeros(2000, 2))
        expected = -0.5 * (x.square().sum(1) + 6 * math.log(2 * math.pi))
        torch.testing.assert_close(p.log_prob(x), expected, rtol=1e-4, atol=1e-3)


def test_a_trained_flow_learns_what_a_gaussian_cannot() -> None:
    """Two moons: a short fit has a much higher likelihood than the best Gaussian."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(512, generator=generator) * 2 * math.pi
    ring = torch.stack((angle.cos(), angle.sin()), 1) * 2 + 0.1 * torch.randn(512, 2, generator=generator)
    gaussian = torch.distributions.MultivariateNormal(ring.mean(0), ring.T.cov()).log_prob(ring).mean()
    for family in ("realnvp", "glow", "maf", "nsf"):
        torch.manual_seed(1)
        f = flow(family, 2, steps=6, hidden=32).train()
        optimizer = torch.optim.Adam(f.parameters(), 5e-3)
        for _ in range(60):
            optimizer.zero_grad()
            loss = -f.given(count=512).log_prob(ring).mean()
            loss.backward()
            optimizer.step()
        assert -loss > gaussian + 0.3, family


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: flow("real", 2), "unknown flow family 'real'"),
        (lambda: flow("nice", 1), "dim is 1"),
        (lambda: flow("nice", 4, steps=0), "steps is 0"),
        (lambda: image_flow("maf", (1, 8, 8)), "no image flow"),
        (lambda: image_flow("glow", (1, 6, 8), levels=2), "cannot be squeezed"),
        (lambda: AffineCoupling(1), "2 channels"),
        (lambda: Permutation([0, 2]), "not a permutation"),
        (lambda: flow("nice", 4).given(), "pass count"),
    ],
)
def test_bad_arguments_are_named(make_it: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it()


PARAMETERS = {
    "nice": "maps.0.net.net.0.bias maps.0.net.net.0.weight maps.0.net.net.2.bias maps.0.net.net.2.weight "
    "maps.0.net.net.4.bias maps.0.net.net.4.weight maps.1.back maps.1.order maps.2.log_scale",
    "realnvp": "maps.0.net.net.0.bias maps.0.net.net.0.weight maps.0.net.net.2.bias maps.0.net.net.2.weight "
    "maps.0.net.net.4.bias maps.0.net.net.4.weight maps.1.back maps.1.order maps.2.log_scale",
    "glow": "maps.0.initialised maps.0.log_scale maps.0.shift maps.1.log_scale maps.1.lower maps.1.permutation "
    "maps.1.signs maps.1.upper maps.2.net.net.0.bias maps.2.net.net.0.weight maps.2.net.net.2.bias "
    "maps.2.net.net.2.weight maps.2.net.net.4.bias maps.2.net.net.4.weight",
    "maf": "maps.0.initialised maps.0.log_scale maps.0.shift maps.1.context.weight maps.1.first.bias "
    "maps.1.first.mask maps.1.first.weight maps.1.last.bias maps.1.last.mask maps.1.last.weight maps.1.second.bias "
    "maps.1.second.mask maps.1.second.weight maps.2.back maps.2.order",
    "iaf": "maps.0.initialised maps.0.log_scale maps.0.shift maps.1.inner.context.weight maps.1.inner.first.bias "
    "maps.1.inner.first.mask maps.1.inner.first.weight maps.1.inner.last.bias maps.1.inner.last.mask "
    "maps.1.inner.last.weight maps.1.inner.second.bias maps.1.inner.second.mask maps.1.inner.second.weight "
    "maps.2.back maps.2.order",
    "nsf": "maps.0.initialised maps.0.log_scale maps.0.shift maps.1.log_scale maps.1.lower maps.1.permutation "
    "maps.1.signs maps.1.upper maps.2.net.net.0.bias maps.2.net.net.0.weight maps.2.net.net.2.bias "
    "maps.2.net.net.2.weight maps.2.net.net.4.bias maps.2.net.net.4.weight",
}


@pytest.mark.parametrize("family", PARAMETERS)
def test_parameter_names_are_those_of_saved_checkpoints(family: str) -> None:
    """Renamed attributes would make checkpoints with a flow prior unreadable."""
    assert sorted(flow(family, 4, 2, steps=1, hidden=8).state_dict()) == PARAMETERS[family].split()


def test_a_family_is_one_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is sufficient to build flows of vectors and images, and to list the family in messages."""

    def step(s: Step) -> list[Bijection]:
        return [AffineCoupling(s.channels, s.context, s.hidden, images=s.images), shuffle(s.channels)]

    monkeypatch.setitem(FAMILIES, "test", FlowFamily("Test", step, scaled=True))
    x, c = torch.randn(4, 5), torch.randn(4, CONTEXT)
    vectors = flow("test", 5, CONTEXT, steps=2)
    assert vectors.given(c).sample().shape == x.shape and isinstance(vectors.maps[-1], Scaling)
    assert image_flow("test", (2, 4, 4), CONTEXT).given(c).sample().shape == (4, 2, 4, 4)
    with pytest.raises(ValueError, match=r"unknown flow family 'nosuch': choose from .*, test$"):
        flow("nosuch", 5)
