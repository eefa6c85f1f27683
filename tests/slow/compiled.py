"""The compiled generator of both blocks with two stages: ``python -m pytest tests/slow/compiled.py``, two minutes."""

import pytest
import torch

from tests.networks.test_fast_generator import BLOCKS, check_compiled, made


@pytest.mark.parametrize("block", BLOCKS)
def test_compiled_form_of_two_stages_is_the_module(block: str) -> None:
    check_compiled(made(block, 2, dtype=torch.float32))
