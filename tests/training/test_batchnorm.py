"""BatchNorm recalibration of the EMA generator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.painted import prepare_painted
from stackgan.config import preset
from stackgan.io.run_state import load_state
from stackgan.model import StackGAN
from stackgan.training.batchnorm import recalibrate_batchnorm
from stackgan.training.loop import train

TINY = [
    "generator.width=4", "discriminator.width=4", "text.code_dim=8", "latent.dim=8", "tree.stages=1",
]  # fmt: skip


def _model(keys: Sequence[str] = ("text.dim=6",), name: str = "modern") -> StackGAN:
    torch.manual_seed(3)
    return StackGAN(preset(name, [*TINY, *keys])).eval()


def _buffers(model: StackGAN) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}


@pytest.mark.parametrize("name", ["modern", "legacy"])
def test_statistics_are_those_of_the_images_that_it_generates(name: str) -> None:
    model, embeddings = _model(name=name), np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    recalibrate_batchnorm(model, embeddings, 4096, 64)
    generator = model.generator
    with torch.no_grad():  # inputs of the first normalisation, for other samples
        q = model.condition(torch.from_numpy(embeddings).repeat(80, 1))
        start = torch.cat((q.sample(noise=torch.randn_like(q.mu)), torch.randn(4000, 8)), 1)
        h = generator.stages[0].linear(start)
    if name == "legacy":
        norm, mean, variance = generator.stages[0].norm, h.mean(0), h.var(0)
    else:
        maps = h.view(4000, -1, 16)
        norm, mean, variance = generator.stages[0].blocks[0].norm1.norm, maps.mean((0, 2)), maps.var((0, 2))
    spread = variance.sqrt().mean()
    assert (norm.running_mean - mean).abs().max() < 0.1 * spread
    assert (norm.running_var / variance - 1).abs().max() < 0.15


def test_it_draws_the_same_each_time_and_leaves_everything_else_as_it_was() -> None:
    model, embeddings = _model(), np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    before = torch.get_rng_state()
    recalibrate_batchnorm(model, embeddings, 64, 16)
    once = _buffers(model)
    recalibrate_batchnorm(model, embeddings, 60, 16)  # rounded up
    assert all(torch.equal(once[name], buffer) for name, buffer in _buffers(model).items())
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(weights[name], value) for name, value in model.named_parameters())
    assert not any(part.training for part in model.modules())
    assert {part.momentum for part in model.modules() if isinstance(part, nn.BatchNorm2d)} == {0.1}


def test_unconditional_models_have_statistics_too() -> None:
    model = _model(["text.encoder=none"])
    before = _buffers(model)
    recalibrate_batchnorm(model, None, 32, 8)
    changed = [name for name, buffer in _buffers(model).items() if not torch.equal(before[name], buffer)]
    assert changed == list(before)


def test_training_saves_the_average_with_statistics_of_its_own_and_continues_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(model: StackGAN, embeddings: None, count: int, batch_size: int) -> None:
        measured.append(count)
        recalibrate_batchnorm(model, embeddings, count, batch_size)

    monkeypatch.setattr("stackgan.training.periodic_outputs.recalibrate_batchnorm", measure)
    data = tmp_path / "painted"
    prepare_painted(data, count=24, seed=1, test_count=4, workers=1)
    keys = [*TINY, "text.encoder=none", "train.images=12", "optim.batch_size=4", "optim.precision=fp32"]
    plain, stood = (tmp_path / name for name in ("plain", "stood"))
    train(data, plain, preset("modern", [*keys, "optim.standing=0"]), device="cpu")
    train(data, stood, preset("modern", [*keys, "optim.standing=64", "train.save_minutes=0.0000001"]), device="cpu")
    assert measured == [64] * 3  # once per save; the last one is also the end of the run
    one, two = load_state(plain / "state.pt"), load_state(stood / "state.pt")
    assert all(torch.equal(value, two["model"][name]) for name, value in one["model"].items())
    differ = {name for name, value in one["average"].items() if not torch.equal(value, two["average"][name])}
    assert differ and all("running" in name or "num_batches" in name for name in differ)
    model = StackGAN(preset("modern", keys))
    model.load_state_dict(one["average"])
    recalibrate_batchnorm(model.eval(), None, 64, 4)
    for name, value in model.state_dict().items():  # training uses another memory format
        torch.testing.assert_close(value, two["average"][name], atol=1e-5, rtol=1e-4)
