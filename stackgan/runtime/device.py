"""Choice of the device."""

from __future__ import annotations

import torch

__all__ = ["chosen_device", "default_device"]

ACCELERATORS = ("cuda", "mps", "xpu")  # supported device types besides cpu


def default_device() -> torch.device:
    """An NVIDIA or AMD GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str | torch.device | None) -> torch.device:
    """The named device, or the default one for None.

    Raises:
        ValueError: the device type is not supported, or PyTorch finds no such device on this machine.
    """
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", *ACCELERATORS):
        raise ValueError(f"device '{name}' is unknown: it must be cpu, cuda or cuda:N, mps, or xpu")
    count = 1 if device.type == "cpu" else device_count(device.type)
    if (device.index or 0) >= count:
        raise ValueError(
            f"device '{device}' is not available: PyTorch {torch.__version__} finds {count} {device.type} devices; "
            "use cpu"
        )
    return device


def device_count(kind: str) -> int:
    """Number of devices of an accelerator type; 0 if PyTorch was built without support for it."""
    backend = getattr(torch, kind, None)
    if kind == "mps":  # torch.mps.device_count exists in builds without it too
        return int(torch.backends.mps.is_available())
    return int(backend.device_count()) if backend is not None and backend.is_available() else 0
