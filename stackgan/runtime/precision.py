"""Whether bfloat16 arithmetic is worthwhile on a device."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

__all__ = ["bf16_autocast", "bf16_is_fast"]

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # in /proc/cpuinfo; the last one of ARM


def bf16_is_fast(device: torch.device) -> bool:
    """Whether ``device`` has bfloat16 instructions: accelerators do; CPUs with AVX-512 BF16, AMX or ARM's BF16.

    Other CPUs emulate them: on one with AVX2 alone a convolution takes 6 times as long forwards and 13 times as long
    backwards as in float32.
    """
    return device.type != "cpu" or _cpu_has_bf16()


def bf16_autocast(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 if ``wanted`` and :func:`bf16_is_fast`; otherwise everything stays float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and bf16_is_fast(device))


@cache
def _cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        return not CPU_FLAGS.isdisjoint(cpuinfo.read_text("utf-8", errors="replace").split())
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # Windows and macOS
    return bool(probe is not None and probe())
