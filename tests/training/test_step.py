"""The training step compared with plain references in float64; its options; number of operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch._dynamo.utils
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from stackgan.config import Config, DiscriminatorConfig, preset
from stackgan.data.sampler import Batch
from stackgan.model import StackGAN
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.fast_ops import FOLD_FROM, BatchNormByGroup, conv_few_places, conv_upsampled, conv_with_code
from stackgan.networks.layers import FusedNorm, MinibatchStd, spread
from stackgan.networks.recompute import set_checkpointing
from stackgan.runtime.compiler import cpp_compiler
from stackgan.tools.convert import _discriminator_modules, _generator_modules
from stackgan.training.state import Run
from stackgan.training.step import train_step
from tests.benchmarks.harness import baseline
from tests.counting import allocated
from tests.plain import plain_images, plain_logits, plain_optimizers, plain_step

EQUAL = 1e-11  # of the largest entry, in float64; the order of summation depends on threads and instructions
NOUGHT = 1e-3  # fused blocks have biases before BatchNorm, whose gradients are zero up to rounding
COUNT, TEXT = 4, 6
SIZES = ["text.dim=6", "text.code_dim=4", "latent.dim=5", f"optim.batch_size={COUNT}"]
LEGACY = ["generator.width=16", "discriminator.width=4"]  # in G's step, the widest layers have few positions
MODERN = ["generator.width=4", "discriminator.width=2", "optim.precision=fp32", "loss.penalty_every=1"]


@pytest.fixture(autouse=True)
def double(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace float32 by float64, also where the program converts to float32."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))


def _config(name: str, *overrides: str) -> Config:
    return preset(name, [*(LEGACY if name == "legacy" else MODERN), *SIZES, *overrides])


def _batch(config: Config) -> Batch:
    generator = torch.Generator().manual_seed(5)
    size = config.tree.sizes[-1]

    def pictures() -> Tensor:
        return torch.randint(0, 256, (COUNT, size, size, 3), dtype=torch.uint8, generator=generator)

    def embeddings() -> Tensor:
        return torch.randn(COUNT, TEXT, generator=generator)

    photo = config.loss.mismatch == "photo"
    return Batch(
        pictures(), embeddings(), wrong=pictures() if photo else None, wrong_embedding=None if photo else embeddings()
    )


def _run(config: Config) -> Run:
    return Run.start(config, torch.device("cpu"))


def _step(run: Run, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(9)
    return train_step(run, batch)


def _parameters(run: Run) -> dict[str, nn.Parameter]:
    return dict([*run.model.named_parameters("model"), *run.discriminators.named_parameters("discriminators")])


def _gradients(run: Run) -> dict[str, Tensor]:
    """Gradients of the last step: of the discriminators, and of G with CA_NET."""
    return {name: _grad(parameter) for name, parameter in _parameters(run).items()}


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _recorder(network: nn.Module, into: dict[nn.Parameter, Tensor]) -> Callable[..., None]:
    """A hook that records the gradients before an optimiser uses them."""

    def record(*_: object) -> None:
        into.update({parameter: _grad(parameter).clone() for parameter in network.parameters()})

    return record


def _buffers(run: Run) -> dict[str, Tensor]:
    return dict([*run.model.named_buffers("model"), *run.discriminators.named_buffers("discriminators")])


def _assert_equal(
    found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = EQUAL, floor: float = 0.0
) -> None:
    """Equality up to ``tolerance`` of each tensor's largest entry, or of ``floor`` times that of all tensors."""
    assert found.keys() == wanted.keys()
    largest = {name: float(value.detach().abs().max()) for name, value in wanted.items()}
    least = max(floor * max(largest.values(), default=0.0), 1e-30)
    for name, value in wanted.items():
        error = float((found[name] - value).detach().abs().max()) / max(largest[name], least)
        assert error <= tolerance, f"{name}: {error:.1e}"


# --- plain references ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides", [(), ("tree.stages=2", "optim.channels_last=true")], ids=["NCHW", "channels-last"]
)
def test_a_legacy_step_is_the_plain_one(overrides: tuple[str, ...]) -> None:
    """Gradients of all parameters, running statistics and updated discriminators equal the published ones."""
    config = _config("legacy", *overrides)
    batch = _batch(config)
    run, plain = _run(config), _run(config)
    optimizers = plain_optimizers(plain)
    moved_by: dict[nn.Parameter, Tensor] = {}  # G's step adds to the discriminators' .grad later
    for optimizer, network in zip(optimizers, (plain.model, *plain.nets), strict=True):
        optimizer.register_step_pre_hook(_recorder(network, moved_by))
    torch.manual_seed(9)
    plain_step(plain, batch, optimizers)
    _step(run, batch)
    _assert_equal(_gradients(run), {name: moved_by[parameter] for name, parameter in _parameters(plain).items()})
    _assert_equal(_buffers(run), _buffers(plain))
    # Adam divides near-zero gradients by their magnitude, which amplifies rounding
    _assert_equal(dict(run.ema.named_parameters()), dict(plain.ema.named_parameters()), 1e-8)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # the baseline reads its losses
def test_a_legacy_step_is_the_shared_baseline_s(shared: Path) -> None:
    """The same for the baseline, an independent program with the published names and losses of probabilities."""
    reference = baseline()
    assert reference is not None
    config = _config("legacy")
    batch, run = _batch(config), _run(config)
    width, code = config.generator.width, config.text.code_dim
    theirs = reference.Generator(width, code, config.latent.dim, TEXT, config.tree.stages)
    rivals = [reference.Discriminator(size, config.discriminator.width, code) for size in config.tree.sizes]
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for module, (our, _) in _generator_modules(config.tree.stages, config.generator.residuals).items():
        pairs.append((theirs.get_submodule(module), run.model.get_submodule(our)))
    for stage, rival in enumerate(rivals):
        for module, (our, _) in _discriminator_modules(stage).items():
            pairs.append((rival.get_submodule(module), run.nets[stage].get_submodule(our)))
    for their_module, our_module in pairs:
        their_module.load_state_dict(our_module.state_dict())

    assert batch.wrong is not None and batch.embedding is not None
    finest = [images.permute(0, 3, 1, 2).double().contiguous() / 127.5 - 1 for images in (batch.real, batch.wrong)]
    real, wrong = ([F.avg_pool2d(x, x.shape[2] // size) for size in config.tree.sizes] for x in finest)
    torch.manual_seed(9)
    noise, z = torch.randn(COUNT, code), torch.randn(COUNT, config.latent.dim)
    with pytest.MonkeyPatch.context() as patch:  # the baseline samples z first and CA_NET's noise second
        draws = iter((z, noise))
        patch.setattr(torch, "randn", lambda *_, **__: next(draws))
        patch.setattr(torch, "randn_like", lambda _: next(draws))
        average = [parameter.detach().clone() for parameter in theirs.parameters()]
        optimizers = reference.make_optimizers(theirs, rivals)
        moved_by: dict[nn.Parameter, Tensor] = {}  # G's step adds to the discriminators' .grad later
        for optimizer, network in zip(optimizers, (theirs, *rivals), strict=True):
            optimizer.register_step_pre_hook(_recorder(network, moved_by))
        losses = reference.train_step(
            theirs, rivals, optimizers, real, wrong, batch.embedding, average, config.latent.dim
        )
    scalars = _step(run, batch)
    for their_module, our_module in pairs:
        their_named = dict(their_module.named_parameters())
        ours = {name: _grad(parameter) for name, parameter in our_module.named_parameters()}
        _assert_equal(ours, {name: moved_by[parameter] for name, parameter in their_named.items()})
        _assert_equal(dict(our_module.named_buffers()), dict(their_module.named_buffers()))
    assert abs(float(sum(scalars[f"d{s}/loss"] for s in config.tree.sizes)) - losses["d"]) < 1e-10
    assert abs(float(sum(scalars[f"g{s}/loss"] for s in config.tree.sizes)) - losses["g"]) < 1e-10
    assert abs(float(scalars["g/kl"]) - losses["kl"]) < 1e-12


# --- the parts ----------------------------------------------------------------------------------------------


def _with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The result, its gradients under a fixed weighting, and a second derivative."""
    y = function(*inputs)
    weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
    gradients = torch.autograd.grad((weights * y * y).sum(), inputs, create_graph=True)
    twice = torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), inputs)
    return (y, *gradients, *twice)


def _assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=EQUAL * float(theirs.detach().abs().max()))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sides", [(1, 1), (1, 5), (6, 1), (2, 2), (2, 3), (3, 5), (4, 4), (7, 7)], ids=str)
def test_a_code_without_planes_is_the_code_with_planes(sides: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5 + 3, 4, 3, 1, 1, bias=bias)
    code, h = torch.randn(2, 5, requires_grad=True), torch.randn(2, 3, *sides, requires_grad=True)
    inputs = (code, h, *conv.parameters())
    found = _with_gradients(lambda c, x, *_: conv_with_code(conv, c, x), *inputs)
    _assert_same(found, _with_gradients(lambda c, x, *_: conv(torch.cat((spread(c, x), x), 1)), *inputs))


@pytest.mark.parametrize("sides", [(4, 5), (FOLD_FROM, FOLD_FROM), (FOLD_FROM, FOLD_FROM + 3)], ids=str)
def test_folded_upsampling_is_upsampling(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, 1, 1)
    inputs = (torch.randn(2, 3, *sides, requires_grad=True), *conv.parameters())
    found = _with_gradients(lambda x, *_: conv_upsampled(conv, x), *inputs)
    plain = _with_gradients(lambda x, *_: conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), *inputs)
    _assert_same(found, plain)


@pytest.mark.parametrize(("kernel", "stride", "sides"), [(4, 2, (8, 8)), (3, 1, (4, 4)), (4, 2, (6, 4))], ids=str)
def test_few_places_are_a_matrix_product(kernel: int, stride: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 40, kernel, stride, 1)
    inputs = (torch.randn(2, 3, *sides, requires_grad=True), *conv.parameters())
    with CountedCalls("conv2d") as convolutions:
        found = _with_gradients(lambda x, *_: conv_few_places(conv, x), *inputs)
    assert convolutions.count == 0
    _assert_same(found, _with_gradients(lambda x, *_: conv(x), *inputs))


@pytest.mark.parametrize("groups", [2, 3])
def test_grouped_statistics_are_those_of_calls_in_turn(groups: int) -> None:
    torch.manual_seed(0)
    together, in_turn = BatchNormByGroup(5), nn.BatchNorm2d(5)
    nn.init.normal_(together.weight)
    in_turn.load_state_dict(together.state_dict())
    x = torch.randn(4, groups, 5, 3, 2, requires_grad=True)
    found = _with_gradients(lambda x, *_: together(x.flatten(0, 1), groups).view(x.shape), x, *together.parameters())
    plain = _with_gradients(
        lambda x, *_: torch.stack([in_turn(group) for group in x.unbind(1)], 1), x, *in_turn.parameters()
    )
    _assert_same(found, plain)
    _assert_equal(dict(together.named_buffers()), dict(in_turn.named_buffers()))
    together.eval()
    torch.testing.assert_close(together(x[:, 0], 1), in_turn.eval()(x[:, 0]))


def _plain_fused_norm(norm: FusedNorm, x: Tensor, s: Tensor) -> Tensor:
    gain, shift = norm.affine(s)[:, :, None, None].chunk(2, dim=1)
    return F.leaky_relu((1 + gain) * norm.norm(x) + shift, 0.2)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("sides", [(1, 1), (4, 4), (5, 3)], ids=str)
def test_a_fused_norm_s_gradient_is_that_of_its_parts(sides: tuple[int, int], order: torch.memory_format) -> None:
    torch.manual_seed(0)
    together, apart = FusedNorm(6, 5), FusedNorm(6, 5)
    nn.init.normal_(together.affine.weight)
    apart.load_state_dict(together.state_dict())
    x = torch.randn(4, 6, *sides).contiguous(memory_format=order).requires_grad_()
    s = torch.randn(4, 5, requires_grad=True)
    for _ in range(2):  # running statistics are updated
        y, wanted = together(x, s), _plain_fused_norm(apart, x, s)
        weights = torch.randn_like(wanted)
        found = torch.autograd.grad((weights * y * y).sum(), (x, s, *together.parameters()))
        plain = torch.autograd.grad((weights * wanted * wanted).sum(), (x, s, *apart.parameters()))
        _assert_same((y, *found), (wanted, *plain))
    _assert_equal(dict(together.named_buffers()), dict(apart.named_buffers()))
    with torch.no_grad():  # for BatchNorm recalibration: a cumulative mean
        together.norm.momentum = apart.norm.momentum = None
        torch.testing.assert_close(together(x, s), _plain_fused_norm(apart, x, s))
    torch.testing.assert_close(together.eval()(x, s), _plain_fused_norm(apart.eval(), x, s))


def test_a_fused_norm_refuses_to_be_differentiated_twice() -> None:
    x = torch.randn(4, 6, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(FusedNorm(6, 5)(x, torch.randn(4, 5)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_the_joint_convolution_in_two_parts_is_one_over_features_and_planes() -> None:
    torch.manual_seed(0)
    net = Discriminator(DiscriminatorConfig(width=4), 64, TEXT)
    h, e = torch.randn(3, 32, 4, 4, requires_grad=True), torch.randn(3, TEXT, requires_grad=True)

    def plain(h: Tensor, e: Tensor, *_: Tensor) -> Tensor:
        t = net.embed(e)
        of_text = net.joint_text.weight.view(32, 3, 3, 32).permute(0, 3, 1, 2)
        joint = F.conv2d(
            torch.cat((spread(t, h), h), 1), torch.cat((of_text, net.joint.weight), 1), net.joint.bias, padding=1
        )
        projection = (t * h.mean((2, 3))).sum(1) / 32**0.5
        return net.logit(F.leaky_relu(joint, 0.2)).flatten() + projection

    inputs = (h, e, net.joint.weight, net.joint_text.weight, net.embed.weight)
    _assert_same(_with_gradients(lambda h, e, *_: net.conditional(h, e), *inputs), _with_gradients(plain, *inputs))
    torch.testing.assert_close(net.conditional(h, e, net.joint_maps(h)), plain(h, e))


def test_minibatch_std_is_that_of_four_neighbours_and_batches_stay_apart() -> None:
    torch.manual_seed(0)
    layer = MinibatchStd(3)
    nn.init.normal_(layer.weight)
    x, other = torch.randn(8, 3, 2, 2), torch.randn(8, 3, 2, 2)
    for four in (slice(0, 4), slice(4, 8)):
        std = x[four].std(0, correction=0).mean()
        torch.testing.assert_close(layer(x)[four], x[four] + std * layer.weight[:, None, None], rtol=1e-6, atol=0)
    both = torch.cat((x[:6], other[:6]))  # 6 is not divisible by 4: each batch as a whole
    torch.testing.assert_close(layer(both, 2), torch.cat((layer(x[:6]), layer(other[:6]))))
    assert not torch.allclose(layer(both), layer(both, 2))
    alike = x[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(layer(alike), alike, rtol=0, atol=1e-3)
    y = x[:4].clone().requires_grad_()
    (slope,) = torch.autograd.grad(layer(y).sum(), y, create_graph=True)
    slope.square().sum().backward()
    assert y.grad is not None and torch.isfinite(y.grad).all() and bool(y.grad.any())


# --- options that leave the step as it is -------------------------------------------------------------------

VARIANTS = {
    "legacy": ("legacy", "tree.stages=2"),
    "legacy, two stages, channels-last": ("legacy", "tree.stages=2", "optim.channels_last=true"),
    "modern": ("modern", "tree.stages=2", "loss.colour=1.0", "loss.diversity=1.0"),
    "modern, bce, wrong photos": ("modern", "loss.mismatch=photo", "loss.adversarial=bce", "loss.penalty_power=6"),
    "posterior": ("modern", "latent.z=vae", "latent.width=4", "latent.hidden=8", "latent.warm_up=0"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_checkpointing_leaves_the_step_as_it_is(variant: str) -> None:
    """Gradients are equal, and recomputation does not update running statistics again."""
    name, *overrides = VARIANTS[variant]
    config = _config(name, *overrides)
    batch, plain = _batch(config), _run(config)
    saving = _run(_config(name, *overrides, "optim.checkpointing=true"))
    for _ in range(2):
        scalars = _step(plain, batch)
        _assert_equal(_step(saving, batch), scalars, 1e-10)
    _assert_equal(_gradients(saving), _gradients(plain), floor=0.0 if name == "legacy" else NOUGHT)
    _assert_equal(_buffers(saving), _buffers(plain))


def test_checkpointing_keeps_less() -> None:
    """Bytes of feature maps that are stored for the backward pass."""

    def kept(*overrides: str) -> int:
        model = StackGAN(_config("legacy", "tree.stages=2", *overrides))
        set_checkpointing(model, "optim.checkpointing=true" in overrides)
        seen: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            images = model.generator(torch.randn(2, 5), torch.randn(2, 4))
        assert images[0].requires_grad
        return sum(seen.values())

    assert kept("optim.checkpointing=true") < 0.4 * kept()


@pytest.mark.parametrize("variant", ["modern", "modern, bce, wrong photos", "posterior"])
@pytest.mark.parametrize("policy", ["", "brightness,translation,cutout"])
def test_accumulation_leaves_the_step_as_it_is_without_batch_normalised_discriminators(
    variant: str, policy: str
) -> None:
    # contrastive negatives and minibatch statistics are those of the part, so both differ
    compares = ("discriminator.match=0", "discriminator.minibatch_std=false")
    name, *overrides = (*VARIANTS[variant], f"augment.policy={policy}", *compares)
    config = _config(name, *overrides)
    batch, plain = _batch(config), _run(config)
    scalars = _step(plain, batch)
    in_parts = _run(_config(name, *overrides, "optim.accumulate=2"))
    _assert_equal(_step(in_parts, batch), scalars, 1e-10)
    _assert_equal(_gradients(in_parts), _gradients(plain), floor=NOUGHT)
    _assert_equal(_buffers(in_parts), _buffers(plain))


def test_accumulation_under_batch_norm_is_the_mean_over_parts_with_statistics_of_their_own() -> None:
    """The only difference: a discriminator normalises each part separately, G the whole batch."""
    config, accumulate = _config("legacy", "tree.stages=1"), 2
    batch, in_parts = _batch(config), _run(_config("legacy", "tree.stages=1", f"optim.accumulate={accumulate}"))
    _step(in_parts, batch)
    reference = _run(config)
    torch.manual_seed(9)
    assert batch.embedding is not None and batch.wrong is not None
    q = reference.model.condition(batch.embedding)
    c = q.sample()
    fake = plain_images(reference.model.generator, torch.randn(COUNT, 5), c)[0]
    real, wrong = (x.permute(0, 3, 1, 2).double().contiguous() / 127.5 - 1 for x in (batch.real, batch.wrong))
    net, code = reference.nets[0], q.mu.detach()

    def loss(images: Tensor, code: Tensor, conditional: bool, plain: bool) -> Tensor:
        pairs = zip(plain_logits(net, images, code), (conditional, plain), strict=True)
        return torch.stack([F.binary_cross_entropy_with_logits(x, torch.full_like(x, t)) for x, t in pairs]).sum()

    for part in (slice(0, 2), slice(2, 4)):
        total = loss(real[part], code[part], True, True) + loss(wrong[part], code[part], False, True)
        ((total + loss(fake[part].detach(), code[part], False, False)) / accumulate).backward()
    wanted = {f"discriminators.0.{name}": _grad(p).clone() for name, p in net.named_parameters()}
    reference.optimizers["discriminator64"].step()
    judged = torch.stack([loss(fake[part], q.mu[part], True, True) for part in (slice(0, 2), slice(2, 4))]).mean()
    (judged + config.loss.kl * q.kl().mean() / q.mu.shape[1]).backward()
    wanted |= {f"model.{name}": _grad(p) for name, p in reference.model.named_parameters()}
    _assert_equal(_gradients(in_parts), wanted)
    _assert_equal(_buffers(in_parts), _buffers(reference))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.accumulate=3"], r"optim\.accumulate is 3: it must be a divisor of optim\.batch_size \(4\)"),
        (["optim.accumulate=4"], "leaves 2 or more"),
        (["optim.accumulate=0"], r"optim\.accumulate is 0"),
        (["optim.precision=fp16"], "fp32, tf32 or bf16"),
        (["optim.compile=true", "optim.checkpointing=true"], r"optim\.compile is True"),
    ],
)
def test_options_that_cannot_be_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _config("legacy", *overrides)


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ValueError, match=r"no C\+\+ compiler was found .*optim\.compile=false$"):
        _run(_config("legacy", "optim.compile=true"))


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_step_traced_for_the_compiler_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs, gradients and updates of buffers; to C++, in a minute and a half: ``tests/slow/compiled.py``."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    began = torch._dynamo.utils.counters["frames"]["ok"]
    check_compiled_step()
    assert torch._dynamo.utils.counters["frames"]["ok"] > began


def check_compiled_step() -> None:
    overrides = ("tree.stages=1", "generator.residuals=1")
    config = _config("legacy", *overrides)
    batch, plain, compiled = _batch(config), _run(config), _run(_config("legacy", *overrides, "optim.compile=true"))
    _step(plain, batch)
    _step(compiled, batch)
    _assert_equal(_gradients(compiled), _gradients(plain), 1e-10)
    _assert_equal(_buffers(compiled), _buffers(plain))
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys(), "checkpoints know nothing of it"


# --- work, counted ------------------------------------------------------------------------------------------


class CountedCalls(TorchFunctionMode):
    """Counts the calls of a function of torch in the context."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.count = name, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += getattr(function, "__name__", "") == self.name
        return function(*args, **(kwargs or {}))


def _multiply_adds(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2


def test_a_step_does_a_sixth_less_than_the_plain_one() -> None:
    """Counted multiply-adds, for the published ratio of code and widths."""
    overrides = ["text.code_dim=16", "generator.width=8", "discriminator.width=8"]
    config = _config("legacy", *overrides)
    batch, run, plain = _batch(config), _run(config), _run(config)
    optimizers = plain_optimizers(plain)
    ours, theirs = (
        _multiply_adds(lambda: train_step(run, batch)),
        _multiply_adds(lambda: plain_step(plain, batch, optimizers)),
    )
    assert ours < 0.84 * theirs, (ours, theirs)


def test_a_step_allocates_less_than_the_plain_one() -> None:
    overrides = ["text.code_dim=16", "generator.width=8", "discriminator.width=8"]
    config = _config("legacy", "tree.stages=2", *overrides)
    batch, run, plain = _batch(config), _run(config), _run(config)
    optimizers = plain_optimizers(plain)
    train_step(run, batch)  # the optimisers' state is created in the first step
    plain_step(plain, batch, optimizers)
    ours, theirs = allocated(lambda: train_step(run, batch)), allocated(lambda: plain_step(plain, batch, optimizers))
    assert ours[0] < 0.8 * theirs[0]
    assert ours[1] < theirs[1]


def test_real_wrong_and_fake_share_a_pass_and_fakes_are_painted_once() -> None:
    config = _config("legacy")
    run, batch = _run(config), _batch(config)
    passes: list[tuple[str, int]] = []
    for stage, net in enumerate(run.nets):
        net.trunk.register_forward_hook(lambda *call, stage=stage: passes.append((f"d{stage}", len(call[1][0]))))
    run.model.generator.register_forward_hook(lambda *call: passes.append(("g", len(call[1][0]))))
    run.model.ca_net.register_forward_hook(lambda *call: passes.append(("ca_net", len(call[1][0]))))
    _step(run, batch)
    trunks = [(f"d{stage}", count) for count in (3 * COUNT, COUNT) for stage in range(3)]
    assert passes == [("ca_net", COUNT), ("g", COUNT), *trunks]


def test_a_step_reads_nothing_back() -> None:
    """Scalars stay on the device until they are logged: a step converts no tensor to a number, bool or list."""
    for name in ("legacy", "modern"):
        config = _config(name)
        run, batch = _run(config), _batch(config)
        with NoReading():
            scalars = _step(run, batch)
        assert scalars and all(isinstance(value, Tensor) and not value.requires_grad for value in scalars.values())


class NoReading(TorchFunctionMode):
    """Raises if a tensor is converted to Python numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = getattr(function, "__name__", "")
        assert name not in ("item", "tolist", "__float__", "__bool__", "__int__", "numpy"), f"{name} in a step"
        return function(*args, **(kwargs or {}))
