"""The training step against plain references of the same mathematics, in float64; its options; its work, counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.config import Config, preset
from stackgan.convert import _discriminator_modules, _generator_modules
from stackgan.data import Batch
from stackgan.train import Run, train_step
from tests.benchmarks.harness import baseline
from tests.plain import plain_images, plain_optimizers, plain_step

EQUAL = 1e-12  # of the largest entry, in float64
COUNT, TEXT = 4, 6
SIZES = ["text.dim=6", "text.code_dim=4", "latent.dim=5", f"optim.batch_size={COUNT}"]
LEGACY = ["generator.width=16", "discriminator.width=2"]
MODERN = ["generator.width=4", "discriminator.width=2", "optim.precision=fp32", "loss.penalty_every=1"]


@pytest.fixture(autouse=True)
def double(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """float64 throughout: what the program computes "in float32" is computed in float64 here."""
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
    """Of the last step: the discriminators', and G's with CA_NET's."""
    return {name: _grad(parameter) for name, parameter in _parameters(run).items()}


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _recorder(network: nn.Module, into: dict[nn.Parameter, Tensor]) -> Callable[..., None]:
    """A hook that keeps the gradients an optimiser is about to use."""

    def record(*_: object) -> None:
        into.update({parameter: _grad(parameter).clone() for parameter in network.parameters()})

    return record


def _buffers(run: Run) -> dict[str, Tensor]:
    return dict([*run.model.named_buffers("model"), *run.discriminators.named_buffers("discriminators")])


def _assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = EQUAL) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        error = float((found[name] - value).detach().abs().max() / value.detach().abs().max().clamp(min=1e-30))
        assert error <= tolerance, f"{name}: {error:.1e}"


# --- plain references ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [(), ("optim.channels_last=true",)], ids=["NCHW", "channels-last"])
def test_a_legacy_step_is_the_plain_one(overrides: tuple[str, ...]) -> None:
    """Gradients of every parameter, running statistics and moved discriminators are those of the published step."""
    config = _config("legacy", *overrides)
    batch = _batch(config)
    run, plain = _run(config), _run(config)
    optimizers = plain_optimizers(plain)
    moved_by: dict[nn.Parameter, Tensor] = {}  # G's step leaves more in the discriminators' .grad later
    for optimizer, network in zip(optimizers, (plain.model, *plain.nets), strict=True):
        optimizer.register_step_pre_hook(_recorder(network, moved_by))
    torch.manual_seed(9)
    plain_step(plain, batch, optimizers)
    _step(run, batch)
    _assert_equal(_gradients(run), {name: moved_by[parameter] for name, parameter in _parameters(plain).items()})
    _assert_equal(_buffers(run), _buffers(plain))
    _assert_equal(dict(run.average.named_parameters()), dict(plain.average.named_parameters()))


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # the yardstick reads its losses
def test_a_legacy_step_is_the_shared_baseline_s(shared: Path) -> None:
    """The same against the yardstick, a program of its own with the published names and losses of probabilities."""
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
    with pytest.MonkeyPatch.context() as patch:  # the yardstick draws z first and CA_NET's noise second
        draws = iter((z, noise))
        patch.setattr(torch, "randn", lambda *_, **__: next(draws))
        patch.setattr(torch, "randn_like", lambda _: next(draws))
        average = [parameter.detach().clone() for parameter in theirs.parameters()]
        optimizers = reference.make_optimizers(theirs, rivals)
        moved_by: dict[nn.Parameter, Tensor] = {}  # G's step leaves more in the discriminators' .grad later
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
