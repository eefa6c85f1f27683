"""Build dataclasses from plain values: checks types and ranges, and suggests the nearest key for an unknown one."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["build", "check", "nearest", "parse"]


def check(condition: bool, key: str, found: object, wanted: str) -> None:
    """Raise ``ValueError`` naming the key, the value found and the valid values, unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{key} is {found!r}: it must be {wanted}")


def nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"


def parse(key: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{key} is {text!r}: it must be true or false")
        return text.lower() == "true"
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"{key} is {text!r}: it must be {wanted}") from None


_T = TypeVar("_T")


def build(cls: type[_T], values: object, prefix: str, where: str) -> _T:
    """Build an instance of the dataclass from plain values; checks every key and type, absent keys take defaults."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {prefix or 'the configuration'} is {type(values).__name__}, not a table of keys")
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if name not in hints:
            known = [f"{prefix}.{hint}" if prefix else hint for hint in hints]
            raise ValueError(f"{where}: unknown config key {key!r}{nearest(key, known)}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            arguments[name] = build(typing.cast(type[Any], kind), value, key, where)
            continue
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"{where}: {key} is {value!r}: it must be of type {kind.__name__}")
        arguments[name] = value
    return cls(**arguments)
