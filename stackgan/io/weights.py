"""Reading of safetensors files, and comparison of a state dict with the module that it is loaded into."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["WeightMismatch", "compare_weights", "read_tensors", "sized_for"]

_SHAPED = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}  # functions whose arguments are a shape
_RANGES = {torch.arange, torch.linspace, torch.logspace, torch.randperm, torch.eye, torch.full}  # or contain sizes
_SPARE = 2**24  # elements beyond twice those of the weights: buffers that are not stored, and the overhead
_OVERHEAD = 2**13  # elements that fill the memory of a module's Python objects


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


@contextlib.contextmanager
def sized_for(tensors: Iterable[Tensor] | int, where: Path) -> Iterator[None]:
    """Context to build a module in whose weights are known: sizes that do not fit them are refused before allocation.

    A configuration can ask for any size in a few bytes; the memory of the module is at most about twice that of its
    weights.

    Args:
        tensors: the module's weights, or their number of elements.
        where: file that states the sizes, for the message.

    Raises:
        ValueError: the module would have more than twice the weights' elements, or it cannot be built.

    >>> with sized_for([torch.zeros(3)], Path("config.json")):
    ...     nn.Linear(10**6, 10**6)
    Traceback (most recent call last):
    ...
    ValueError: config.json: describes a model much larger than its weights, of 3 elements; ...
    """
    stored = tensors if isinstance(tensors, int) else sum(tensor.numel() for tensor in tensors)
    too_large = f"{where}: describes a model much larger than its weights, of {stored:,} elements; copy both again"
    try:
        with _ElementLimit(2 * stored + _SPARE, too_large):
            yield
    except (OverflowError, MemoryError, TypeError, RuntimeError) as error:  # sizes beyond 64 bits, for example
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{where}: a model of these sizes cannot be built ({reason})") from None


class _ElementLimit(TorchFunctionMode):
    """Raises ValueError before a tensor is created that brings the sum of their elements above ``limit``."""

    def __init__(self, limit: int, message: str) -> None:
        super().__init__()
        self.left, self.message = limit, message

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SHAPED or func in _RANGES:
            sizes = [size for size in _integers((args, kwargs.get("size", ()))) if size > 0]
            self.left -= max(_OVERHEAD, math.prod(sizes))
            if self.left < 0:
                raise ValueError(self.message)
        return func(*args, **kwargs)


def _integers(values: Any) -> Iterator[int]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _integers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield value


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
