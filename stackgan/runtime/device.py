"""Choice of the device."""

from __future__ import annotations

import torch

__all__ = ["chosen_device", "default_device"]


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str | torch.device | None) -> torch.device:
    """The named device, or the default one for None; raises ``ValueError`` if it is not available."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is unknown: it must be cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device '{device}' is not available: PyTorch has {torch.cuda.device_count()} CUDA devices")
    return device
