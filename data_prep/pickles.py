"""Safe reading of the pickles that are distributed with CUB.

Unpickling can execute arbitrary code. This reader only admits the few classes that NumPy arrays need, replaces them
by inert stand-ins, rejects all others, and builds the arrays from their bytes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_pickle"]

_DEPTH = 16  # maximum nesting of lists; deeper or recursive pickles are rejected


def read_pickle(file: Path) -> Any:
    """Read a pickle of lists, tuples, dicts, strings, bytes, numbers and NumPy arrays.

    Python-2 pickles are read as Latin-1. NumPy scalars are returned as Python numbers.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has other contents, or is damaged; no code in it was executed.
    """
    try:
        with file.open("rb") as stream:
            return _plain(_Unpickler(stream, encoding="latin1").load(), {}, 0)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file") from None
    except Exception as error:  # damaged pickles raise many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: not a pickle of lists, strings, numbers and arrays: {reason}") from None


class _Type:
    """Stand-in for a NumPy dtype: kind and size, then the byte order."""

    def __init__(self, spec: str, align: object = False, copy: object = False) -> None:
        if not isinstance(spec, str) or np.dtype(spec).kind not in "biufSU":
            raise pickle.UnpicklingError(f"arrays of type {spec!r} are not admitted")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] in ("<", ">", "="):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stand-in for an array; its bytes are interpreted here, not by NumPy's unpickling."""

    def __init__(self, *shape_and_type: object) -> None:
        self.value: np.ndarray = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.value = _from_bytes(data, kind, shape, "F" if fortran else "C")


def _from_bytes(data: object, kind: object, shape: Any, order: Any) -> np.ndarray:
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(kind, _Type) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("an array without plain bytes")
    return np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _frombuffer(data: object, kind: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.value = _from_bytes(data, kind, shape, order)
    return array


def _scalar(kind: object, data: object) -> object:
    return _from_bytes(data, kind, (), "C").item()


def _latin1(text: str, encoding: str) -> bytes:
    """In old protocols, Python 3 represents bytes as a call of `_codecs.encode`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not admitted")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler: a few bytes make the one in C allocate a table of many gigabytes."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which is not admitted")
        admitted = _ADMITTED[module, name]
        return lambda *args: admitted(*args)  # a new object, as a pickle may set attributes of it


def _plain(value: Any, seen: dict[int, Any], depth: int) -> Any:
    """`value` with stand-ins replaced by arrays; raises for a type that is not admitted."""
    if type(value) in (str, bytes, int, float, bool):
        return value
    if id(value) in seen:  # shared parts are converted once, which bounds the work for a small file
        return seen[id(value)]
    if depth > _DEPTH:
        raise pickle.UnpicklingError(f"nested deeper than {_DEPTH}")
    result: Any
    if type(value) is _Array:
        result = value.value
    elif type(value) in (list, tuple):
        result = type(value)(_plain(item, seen, depth + 1) for item in value)
    elif type(value) is dict:
        result = {_plain(key, seen, depth + 1): _plain(item, seen, depth + 1) for key, item in value.items()}
    else:
        raise pickle.UnpicklingError(f"a {type(value).__name__} is not admitted")
    seen[id(value)] = result
    return result
