"""Compiled by PyTorch to C++: the generator of both blocks with two stages, and the training step.

``python -m pytest tests/slow/compiled.py``, two to four minutes.
"""

import pytest
import torch

from tests.networks.test_fast_generator import BLOCKS, check_compiled, made
from tests.training.test_step import check_compiled_step, double

__all__ = ["double"]  # a fixture


@pytest.mark.parametrize("block", BLOCKS)
def test_compiled_form_of_two_stages_is_the_module(block: str) -> None:
    torch.set_default_dtype(torch.float32)
    check_compiled(made(block, 2, dtype=torch.float32))


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_is_the_plain_one() -> None:
    check_compiled_step()
