"""Reading of safetensors files, and comparison of a state dict with the module that it is loaded into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["WeightMismatch", "compare_weights", "read_tensors"]


def read_tensors(file: Path, *, advice: str = "copy it again") -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; ``advice`` ends the messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no safetensors file, or damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; {advice}")
    try:
        return load_file(file)
    except Exception as error:  # the library raises several types for damaged headers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: damaged, or not a safetensors file ({reason}); {advice}") from None


@dataclass(frozen=True)
class WeightMismatch:
    """Differences between the names and shapes of a state dict and those of a module; empty where they agree.

    Attributes:
        missing: names that the module has and the state dict has not, in the module's order.
        unexpected: names that the state dict has and the module has not, sorted.
        reshaped: by name, in the module's order: shape in the state dict, shape in the module.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def names(self) -> list[str]:
        """All names that differ, sorted."""
        return sorted([*self.missing, *self.unexpected, *self.reshaped])


def compare_weights(module: nn.Module, weights: Mapping[str, Tensor], prefix: str = "") -> WeightMismatch:
    """Compare ``weights`` with ``module.state_dict()`` by name and shape; dtypes may differ.

    Args:
        prefix: compare only the weights whose names begin with it, without it.

    >>> import torch
    >>> found = compare_weights(nn.Linear(2, 3), {"weight": torch.zeros(3, 1), "scale": torch.ones(3)})
    >>> found.missing, found.unexpected, found.reshaped
    (('bias',), ('scale',), {'weight': ((3, 1), (3, 2))})
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {
        name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in weights.items() if name.startswith(prefix)
    }
    return WeightMismatch(
        missing=tuple(name for name in wanted if name not in found),
        unexpected=tuple(sorted(found.keys() - wanted.keys())),
        reshaped={
            name: (found[name], shape) for name, shape in wanted.items() if name in found and found[name] != shape
        },
    )
