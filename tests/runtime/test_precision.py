"""Mixed precision is used where the hardware has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stackgan.runtime import precision
from stackgan.runtime.precision import bf16_autocast, bf16_is_fast

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _measured_anew() -> None:
    precision._cpu_has_bf16.cache_clear()


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx2 fma", False), ("avx2 avx512f avx512bw", False), ("avx512_bf16 avx2", True), ("fphp bf16 i8mm", True)],
)
def test_the_flags_of_a_processor_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "Path", lambda _: file)
    assert bf16_is_fast(CPU) is fast and bf16_is_fast(torch.device("cuda"))
    with bf16_autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if fast else torch.float32)
    precision._cpu_has_bf16.cache_clear()
