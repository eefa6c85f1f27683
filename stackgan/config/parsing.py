"""Build dataclasses from plain values: checks types and ranges, and suggests the nearest key for an unknown one."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["ABOVE_0", "FROM_0", "FROM_1", "SHARE", "Range", "build", "check", "check_fields", "nearest", "parse"]


def check(condition: bool, key: str, found: object, wanted: str) -> None:
    """Raise ``ValueError`` naming the key, the value found and the valid values, unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{key} is {found!r}: it must be {wanted}")


@dataclass(frozen=True)
class Range:
    """Range of a number: a condition, and its description for errors."""

    holds: Callable[[float], bool]
    wanted: str


ABOVE_0 = Range(lambda value: value > 0, "above 0")
FROM_0 = Range(lambda value: value >= 0, "0 or more")
FROM_1 = Range(lambda value: value >= 1, "1 or more")
SHARE = Range(lambda value: 0 <= value <= 1, "between 0 and 1")


def check_fields(section: object, title: str, allowed: Range, *names: str) -> None:
    """:func:`check` for numbers of a section of the configuration, named ``title.name``."""
    for name in names:
        value = getattr(section, name)
        check(allowed.holds(value), f"{title}.{name}", value, allowed.wanted)


def nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"


def parse(key: str, text: str, kind: type) -> object:
    """The value of an override ``key=text`` as ``kind``; raises ``ValueError`` naming the key."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{key} is {text!r}: it must be true or false")
        return text.lower() == "true"
    if kind is str:
        return text
    try:
        value = kind(text)
        if not _is_usual(value):
            raise ValueError
    except ValueError:
        wanted = "a whole number of at most 63 bits" if kind is int else "a finite number"
        raise ValueError(f"{key} is {text[:40]!r}: it must be {wanted}") from None
    return value


def _is_usual(value: float) -> bool:
    """Whether a float is finite, and an integer fits 64 bits."""
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


_T = TypeVar("_T")


def build(cls: type[_T], values: object, prefix: str, where: str) -> _T:
    """Build an instance of the dataclass from plain values; checks every key and type, absent keys take defaults.

    Fields are dataclasses, plain types, ``X | None``, ``tuple[X, ...]`` (a list in JSON) or ``Mapping[str, X]``.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {prefix or 'the configuration'} is {type(values).__name__}, not a table of keys")
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if name not in hints:
            known = [f"{prefix}.{hint}" if prefix else hint for hint in hints]
            raise ValueError(f"{where}: unknown config key {key!r}{nearest(key, known)}")
        arguments[name] = _value(hints[name], value, key, where)
    for entry in dataclasses.fields(typing.cast(Any, cls)):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.name not in arguments:
            raise ValueError(f"{where}: {f'{prefix}.' if prefix else ''}{entry.name} is missing")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _value(kind: Any, value: object, key: str, where: str) -> object:
    """One value of the type ``kind``, checked."""
    kinds = typing.get_args(kind)
    if type(None) in kinds:  # X | None
        return None if value is None else _value(kinds[0], value, key, where)
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type[Any], kind), value, key, where)
    holder = {tuple: list, Mapping: dict}.get(typing.get_origin(kind) or kind, kind)
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(value, int | float) and not _is_usual(value):
        raise ValueError(f"{where}: {key} is {value}: it must be a finite number, if whole of at most 63 bits")
    if type(value) is not holder:
        raise ValueError(f"{where}: {key} is {value!r}: it must be of type {holder.__name__}")
    if isinstance(value, list):
        return tuple(_value(kinds[0], part, f"{key}[{i}]", where) for i, part in enumerate(value))
    if isinstance(value, dict):
        return {name: _value(kinds[1], part, f"{key}.{name}", where) for name, part in value.items()}
    return value
