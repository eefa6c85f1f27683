"""Where images are the same to the bit in any batch: it depends on oneDNN, which PyTorch contains."""

import pytest
import torch

__all__ = ["need_exact_batches"]


def need_exact_batches() -> None:
    """Skip a test on other processors and versions than those measured; the page compares on its machine."""
    version = tuple(map(int, torch.__version__.partition("+")[0].split(".")[:2]))
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or version < (2, 14):
        pytest.skip("measured with AVX2 and PyTorch 2.14; elsewhere up to rounding")
