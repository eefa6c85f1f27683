"""Operations with undocumented operators are equal to their plain forms."""

import re
from pathlib import Path

import pytest
import torch

import stackgan
import stackgan.networks.fast_ops as fast_ops
from stackgan.networks.fast_ops import BatchNormByGroup, native_operators_work
from stackgan.networks.layers import FusedNorm


@pytest.fixture
def without_native_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fast_ops", "layers"):
        monkeypatch.setattr(f"stackgan.networks.{module}.native_operators_work", lambda: False)


def _trained(module: torch.nn.Module, x: torch.Tensor, *more: object) -> dict[str, torch.Tensor]:
    """Output, gradients and buffers of a training step."""
    leaf = x.clone().requires_grad_()
    y = module(leaf, *more)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    found = {"y": y.detach(), "x": leaf.grad} | dict(module.named_buffers())
    return found | {name: p.grad for name, p in module.named_parameters()}  # type: ignore[dict-item]


def _step(kind: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(6, 4, 5, 5).double()
    if kind == "fused":
        return _trained(FusedNorm(4, 3).double(), x, torch.randn(6, 3).double())
    return _trained(BatchNormByGroup(4).double(), x, 3)


@pytest.mark.parametrize("kind", ["fused", "groups"])
def test_the_plain_form_is_the_same_step(kind: str, request: pytest.FixtureRequest) -> None:
    assert native_operators_work()
    fast = _step(kind)
    request.getfixturevalue("without_native_operators")
    plain = _step(kind)
    assert fast.keys() == plain.keys()
    for name, tensor in fast.items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-10, atol=1e-12, msg=name)


def test_private_operators_are_used_only_with_fallbacks() -> None:
    """A file that uses undocumented parts of PyTorch checks for them, and a test of it runs without them."""
    root, private = (
        Path(stackgan.__file__).parent,
        re.compile(r"torch\.ops\.|torch\._|torch\.native_|\._(buffers|modules)\b"),
    )
    found = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        if private.search(file.read_text("utf-8").replace("torch.__version__", ""))
    }
    guarded = {"networks/fast_ops.py", "networks/fast_parts.py", "training/ema.py", "runtime/compiler.py"}
    assert found == guarded


def test_an_operator_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    native_operators_work.cache_clear()
    try:
        with monkeypatch.context() as patch:
            wrong = torch.native_batch_norm
            patch.setattr(torch, "native_batch_norm", lambda *a: (wrong(*a)[0] + 1, *wrong(*a)[1:]))
            assert not native_operators_work()
        native_operators_work.cache_clear()
        with monkeypatch.context() as patch:
            patch.delattr(torch, "native_batch_norm")
            assert not fast_ops.native_operators_work()
    finally:
        native_operators_work.cache_clear()
    assert native_operators_work()
