"""Comparison of a state dict with a module by name and shape, and the kinds of differences."""

import torch
from torch import nn

from stackgan.io.weights import compare_weights


def test_a_state_dict_of_the_module_agrees_in_any_dtype() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    found = compare_weights(module, {name: tensor.half() for name, tensor in module.state_dict().items()})
    assert (found.missing, found.unexpected, found.reshaped, found.names) == ((), (), {}, [])


def test_differences_are_distinguished_and_listed_in_order() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    weights = {"0.weight": torch.zeros(3, 2), "1.weight": torch.zeros(2, 3), "z": torch.zeros(1), "b": torch.zeros(1)}
    found = compare_weights(module, weights)
    assert found.missing == ("0.bias", "1.bias") and found.unexpected == ("b", "z")
    assert found.reshaped == {"1.weight": ((2, 3), (1, 3))}
    assert found.names == ["0.bias", "1.bias", "1.weight", "b", "z"]


def test_one_part_of_a_larger_state_dict() -> None:
    parts = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 4)])
    weights = parts.state_dict()
    assert not compare_weights(parts[1], weights, prefix="1.").names
    assert compare_weights(parts[1], weights, prefix="0.").reshaped == {
        "weight": ((3, 2), (4, 2)),
        "bias": ((3,), (4,)),
    }
    assert compare_weights(parts[1], weights, prefix="2.").missing == ("weight", "bias")
