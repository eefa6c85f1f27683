"""A tree grown stage by stage: frozen stages, training on crops, discriminators of the initialisation source."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from stackgan.config import Config, preset
from stackgan.data.sampler import Batch
from stackgan.model import check_choices
from stackgan.training.batchnorm import recalibrate_batchnorm
from stackgan.training.state import RandomState, Run
from stackgan.training.step import train_step
from stackgan.training.warm_start import InitialisationSource

SMALL = ["generator.width=8", "discriminator.width=4", "optim.batch_size=4"]
SMALL += ["text.dim=6", "text.code_dim=4", "latent.dim=5"]
GROWN = ["tree.stages=2", "generator.image_skip=true", "optim.lower_rate=0", "discriminator.patch=64"]


def _config(*keys: str) -> Config:
    return preset("modern", [*SMALL, "train.log_steps=1", "optim.precision=fp32", *keys])


def _batch(config: Config) -> Batch:
    torch.manual_seed(1)
    size = config.tree.sizes[-1]
    real = torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8)
    return Batch(real, torch.randn(4, 6), wrong_embedding=torch.randn(4, 6))


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("keys", [[], ["loss.coarse=0.5"], ["loss.colour=1.0"], ["discriminator.patch=0"]])
def test_frozen_stages_stay_and_the_finest_learns(keys: list[str]) -> None:
    config = _config(*GROWN, *keys)
    run = Run.start(config, torch.device("cpu"))
    before, discriminators = _weights(run.model), _weights(run.discriminators)
    scalars = train_step(run, _batch(config))
    assert all(bool(torch.isfinite(value)) for value in scalars.values())
    finest = ("generator.stages.1.", "generator.heads.1.")
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith(finest), name
    moved = {
        name.split(".")[0] for name, tensor in run.discriminators.state_dict().items()
        if not torch.equal(tensor, discriminators[name])
    }  # fmt: skip
    assert moved == ({"0", "1"} if "loss.coarse=0.5" in keys else {"1"})
    assert set(run.optimizers) == {"generator", "discriminator128"} | (
        {"discriminator64"} if "loss.coarse=0.5" in keys else set()
    )


def test_slow_stages_learn_by_their_share_of_the_rate() -> None:
    config = _config("tree.stages=2", "optim.lower_rate=0.25")
    run = Run.start(config, torch.device("cpu"))
    run.set_learning_rates()
    low, high = (group["lr"] for group in run.optimizers["generator"].param_groups)
    assert low == pytest.approx(0.25 * high) and high == pytest.approx(config.optim.lr_generator)
    before = _weights(run.model)
    train_step(run, _batch(config))
    name = "generator.stages.0.linear.weight"
    assert not torch.equal(run.model.state_dict()[name], before[name])


def test_a_crop_costs_about_what_the_first_stage_does() -> None:
    config = _config(*GROWN)
    shapes = []
    run = Run.start(config, torch.device("cpu"))
    run.features = [lambda x, n=1, f=f: (shapes.append(tuple(x.shape[2:])), f(x, n))[1] for f in run.features]
    train_step(run, _batch(config))
    assert set(shapes) == {(64, 64)}


def test_recalibration_keeps_frozen_stages() -> None:
    config = _config(*GROWN)
    run = Run.start(config, torch.device("cpu"))
    before = _weights(run.ema)
    recalibrate_batchnorm(run.ema, torch.randn(8, 6).numpy(), 8, 4)
    changed = {name for name, tensor in run.ema.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith(("generator.stages.1.", "generator.heads.1.")) for name in changed)


def test_a_new_stage_begins_with_the_discriminator_below() -> None:
    low = Run.start(_config(), torch.device("cpu"))
    start = InitialisationSource(
        Path("low"), low.config, low.ema.state_dict(), low.discriminators.state_dict(), None, {}
    )
    run = Run.start(_config(*GROWN, "train.seed=5"), torch.device("cpu"))
    assert run.start_from(start) == ["discriminator128 (from 64 px)", "generator"]
    for net in run.nets:
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, low.nets[0].state_dict()[name])
    whole = Run.start(_config(*GROWN, "discriminator.patch=0"), torch.device("cpu"))
    assert whole.start_from(start) == ["discriminator128", "generator"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["optim.lower_rate=0"], "tree.stages=1"),
        (["loss.coarse=1"], "optim.lower_rate=0"),
        (["tree.stages=3", "discriminator.patch=64"], "grow the tree"),
        (["discriminator.patch=100"], "power of two"),
        ([*GROWN, "loss.diversity=1"], "loss.diversity"),
        ([*GROWN, "latent.z=vae"], "latent.z"),
        (["optim.cuda_graphs=true", "latent.c=flow"], "optim.cuda_graphs"),
        (["optim.cuda_graphs=true", "latent.z=vae"], "optim.cuda_graphs"),
    ],
)
def test_keys_that_do_not_go_together(keys: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_choices(_config(*keys))


def test_recorded_steps_need_a_gpu() -> None:
    with pytest.raises(ValueError, match="NVIDIA GPU"):
        Run.start(_config("optim.cuda_graphs=true"), torch.device("cpu"))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network as a folder, for discriminator.features."""
    folder = tmp_path_factory.mktemp("features")
    save_file(models.get_model("mobilenet_v2", weights=None).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "mobilenet_v2"}')
    return folder


@pytest.mark.parametrize("keys", [[], ["loss.adversarial=relativistic"], ["loss.mismatch=photo"]])
def test_heads_on_frozen_features_learn_and_teach_the_generator(features: Path, keys: list[str]) -> None:
    config = _config(*GROWN, f"discriminator.features={features}", "discriminator.features_weight=0.5", *keys)
    run, batch = Run.start(config, torch.device("cpu")), _batch(config)
    if config.loss.mismatch == "photo":
        batch = replace(batch, wrong=batch.real.flip(0), wrong_embedding=None)
    assert run.frozen is not None and run.heads is not None
    frozen, mixing = _weights(run.frozen), _weights(run.heads.across_scales)
    heads = _weights(run.heads.logits)
    scalars = train_step(run, batch)
    assert all(bool(torch.isfinite(value)) for value in scalars.values())
    assert {"features/loss", "features/real", "features/wrong", "features/fake", "g/features"} <= set(scalars)
    assert all(torch.equal(frozen[name], tensor) for name, tensor in run.frozen.state_dict().items())
    assert all(torch.equal(mixing[name], tensor) for name, tensor in run.heads.across_scales.state_dict().items())
    assert any(not torch.equal(heads[name], tensor) for name, tensor in run.heads.logits.state_dict().items())
    assert all(parameter.requires_grad for parameter in run.heads.trained_parameters())

    one, other = (
        Run.start(_config(*GROWN, f"discriminator.features={features}", *keys, weight), torch.device("cpu"))
        for weight in ("discriminator.features_weight=0", "discriminator.features_weight=100")
    )
    for each in (one, other):
        train_step(each, batch)
    a, b = ([p.grad for p in each.model.generator.finest_parameters()] for each in (one, other))
    assert any(x is not None and y is not None and not torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_heads_on_frozen_features_are_resumed(features: Path, tmp_path: Path) -> None:
    config = _config(*GROWN, f"discriminator.features={features}")
    batch = _batch(config)
    whole = Run.start(config, torch.device("cpu"))
    train_step(whole, batch)
    saved = copy.deepcopy(whole.state(RandomState.now(whole.device)))
    resumed = Run.start(config, torch.device("cpu"))
    resumed.restore(saved, tmp_path / "state.pt")
    for run in (whole, resumed):
        torch.manual_seed(3)
        train_step(run, batch)
    assert whole.heads is not None and resumed.heads is not None
    for name, tensor in whole.heads.state_dict().items():
        assert torch.equal(tensor, resumed.heads.state_dict()[name]), name
