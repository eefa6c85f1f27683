"""Devices by name: unknown and unavailable ones are refused with one sentence."""

import pytest
import torch

from stackgan.runtime import device as devices
from stackgan.runtime.device import chosen_device, default_device


def test_the_cpu_is_always_available() -> None:
    assert chosen_device("cpu") == torch.device("cpu") == chosen_device(torch.device("cpu"))
    assert chosen_device(None) == default_device()


@pytest.mark.parametrize(
    "name", ["abacus", "", "meta", "cuda:x", "cpu:cpu", "hpu", "privateuseone", "CUDA", "cuda:-1"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is unknown: it must be cpu, cuda or cuda:N, mps, or xpu"):
        chosen_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "mps:0", "xpu", "xpu:3"])
def test_unavailable_devices_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "device_count", lambda kind: 0)
    with pytest.raises(
        ValueError, match=f"device '{name}' is not available: PyTorch .* finds 0 {name[:3]}.* devices; use cpu"
    ):
        chosen_device(name)


def test_available_devices_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "device_count", lambda kind: 2)
    assert [str(chosen_device(name)) for name in ("mps", "xpu:1", "cuda:1")] == ["mps", "xpu:1", "cuda:1"]
    with pytest.raises(ValueError, match="finds 2 cuda devices"):
        chosen_device("cuda:2")


def test_devices_are_counted_without_an_error() -> None:
    counts = {kind: devices.device_count(kind) for kind in devices.ACCELERATORS}
    assert counts["cuda"] == torch.cuda.device_count() and all(count >= 0 for count in counts.values())
