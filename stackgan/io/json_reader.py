"""Strict JSON: the only reader of JSON and JSON-lines files, with a check of the types against a schema.

Refused, beyond what JSON refuses: NaN, Infinity and numbers too large for a float (1e400), integers beyond 64 bits,
a key that appears twice in one object, nesting deeper than ``MAX_DEPTH``, and strings with lone surrogates, which no
UTF-8 file can hold. A byte-order mark is skipped.

A schema is one of

- ``str``, ``int``, ``float`` (any number), ``bool``, ``None``, ``object`` (anything); a bool is no ``int``;
- :class:`Fields`, :class:`ListOf`, :class:`MapOf`, :class:`OneOf`.

>>> pair = Fields({"name": str, "seeds": ListOf(int)})
>>> parse_json('{"name": "a", "seeds": [1, 2]}', "job.json", pair)
{'name': 'a', 'seeds': [1, 2]}
>>> parse_json('{"name": "a", "seeds": [1, "2"]}', "job.json", pair)
Traceback (most recent call last):
ValueError: job.json: seeds[1] is '2', expected an integer
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "MAX_DEPTH",
    "NEW_LINE",
    "OBJECT",
    "Fields",
    "ListOf",
    "MapOf",
    "OneOf",
    "Schema",
    "check_json",
    "parse_json",
    "read_json",
    "read_json_lines",
    "round_trip",
    "split_lines",
]

MAX_DEPTH = 64  # nesting of lists and objects
NEW_LINE = re.compile(rb"\r\n|\r|\n")  # JSON strings contain neither, so that lines can be split before parsing
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_LONE = re.compile("[\ud800-\udfff]")
_INTEGERS = 2**64  # exclusive bound of absolute values


@dataclass(frozen=True)
class Fields:
    """An object with the keys ``required`` and perhaps ``optional``; with ``other`` any further keys."""

    required: Mapping[str, Schema] = field(default_factory=dict)
    optional: Mapping[str, Schema] = field(default_factory=dict)
    other: bool = True


@dataclass(frozen=True)
class ListOf:
    """A list, every item of which fits ``item``."""

    item: Schema


@dataclass(frozen=True)
class MapOf:
    """An object with any keys, every value of which fits ``value``."""

    value: Schema


class OneOf:
    """A value that fits one of ``schemas``; at most one of them may be a container."""

    def __init__(self, *schemas: Schema) -> None:
        self.schemas = schemas


Schema = type | None | Fields | ListOf | MapOf | OneOf

OBJECT = MapOf(object)
_WORDS: dict[Any, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    None: "null",
    object: "anything",
}


def read_json(file: Path, schema: Schema = OBJECT, *, advice: str = "") -> Any:
    """Read a JSON file and check it against ``schema``; by default any object is admitted.

    Args:
        advice: what to do about an invalid file, the end of the messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not strict JSON, or a value has another type; the message begins with the file and names the
            line or the key, what was found and what was expected.
    """
    return parse_json(_read(file, advice), str(file), schema, advice=advice)


def read_json_lines(file: Path, schema: Schema = OBJECT, *, advice: str = "") -> Iterator[tuple[int, Any]]:
    """Yield the number and the checked value of each line of a JSON-lines file that is not blank.

    Lines end with LF, CR LF or CR.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_json`; the message begins with file and line.
    """
    for number, line in enumerate(NEW_LINE.split(_read(file, advice)), 1):
        if line.strip():
            yield number, parse_json(line, f"{file}, line {number}", schema, advice=advice)


def split_lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    r"""The lines of a binary file without their ends, which are LF, CR LF or CR; read one after another.

    >>> list(split_lines([b"a\r\n", b"b\rc\n", b"\n", b"d"]))
    [b'a', b'b', b'c', b'', b'd']
    """
    for line in stream:
        yield from line.removesuffix(b"\n").removesuffix(b"\r").split(b"\r")


def parse_json(
    text: str | bytes, where: str, schema: Schema = OBJECT, *, advice: str = "", errors: str = "strict"
) -> Any:
    """Parse JSON and check it against ``schema``; ``where`` begins the messages and ``advice`` ends them.

    Args:
        text: JSON, as bytes in UTF-8.
        errors: treatment of bytes that are not UTF-8, as in ``bytes.decode``; with "surrogateescape", strings may
            contain escaped bytes.

    Raises:
        ValueError: it is not strict JSON, or a value has another type.
    """
    try:
        value = _parse(text, errors)
        _check(value, "", schema)
    except ValueError as error:
        raise _in_file(error, where, advice) from None
    return value


def check_json(value: object, where: str, schema: Schema, *, advice: str = "") -> None:
    """Check a parsed value as :func:`parse_json` does."""
    try:
        _check(value, "", schema)
    except ValueError as error:
        raise _in_file(error, where, advice) from None


def round_trip(value: object) -> Any:
    """The value as it is read back from a JSON file: tuples become lists, numeric keys strings."""
    return json.loads(json.dumps(value, allow_nan=False))


def _in_file(error: ValueError, where: str, advice: str) -> ValueError:
    return ValueError("".join((f"{where}: " if where else "", str(error), f"; {advice}" if advice else "")))


# --- types --------------------------------------------------------------------------------------------------


def _check(value: object, key: str, schema: Schema) -> None:
    if isinstance(schema, OneOf):
        _check_any(value, key, schema)
    elif isinstance(schema, Fields):
        _check_fields(value, key, schema)
    elif isinstance(schema, MapOf):
        if not isinstance(value, dict):
            _unexpected(value, key, schema)
        if schema.value is not object:
            for name, item in value.items():
                _check(item, f"{key}.{name}" if key else name, schema.value)
    elif isinstance(schema, ListOf):
        if not isinstance(value, list):
            _unexpected(value, key, schema)
        if schema.item is not object:
            for number, item in enumerate(value):
                _check(item, f"{key}[{number}]", schema.item)
    elif not _fits(value, schema):
        _unexpected(value, key, schema)


def _check_fields(value: object, key: str, schema: Fields) -> None:
    if not isinstance(value, dict):
        _unexpected(value, key, schema)
    for name in schema.required:
        if name not in value:
            place = f"{key}: " if key else ""
            raise ValueError(f"{place}key {name!r} is missing; expected {_described(schema.required[name])}")
    for name, item in value.items():
        known = schema.required if name in schema.required else schema.optional
        if name in known:
            _check(item, f"{key}.{name}" if key else name, known[name])
        elif not schema.other:
            names = ", ".join([*schema.required, *schema.optional])
            place = f"{key}: " if key else ""
            raise ValueError(f"{place}unknown key {name!r}; known are {names}")


def _check_any(value: object, key: str, schema: OneOf) -> None:
    container = (Fields, MapOf) if isinstance(value, dict) else ListOf if isinstance(value, list) else ()
    for one in schema.schemas:
        if isinstance(one, container):
            _check(value, key, one)
            return
        if not isinstance(one, Fields | MapOf | ListOf | OneOf) and _fits(value, one):
            return
    _unexpected(value, key, schema)


def _fits(value: object, kind: type | None) -> bool:
    if kind is object:
        return True
    if kind is None:
        return value is None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _unexpected(value: object, key: str, schema: Schema) -> NoReturn:
    place = f"{key} is" if key else "holds"
    raise ValueError(f"{place} {_shown(value)}, expected {_described(schema)}")


def _described(schema: Schema) -> str:
    if isinstance(schema, Fields):
        return f"an object with {', '.join(map(repr, schema.required))}" if schema.required else "an object"
    if isinstance(schema, MapOf):
        return "an object"
    if isinstance(schema, ListOf):
        return "a list"
    if isinstance(schema, OneOf):
        return " or ".join(_described(one) for one in schema.schemas)
    return _WORDS.get(schema, getattr(schema, "__name__", str(schema)))


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


# --- parsing ------------------------------------------------------------------------------------------------


def _parse(text: str | bytes, errors: str) -> Any:
    try:
        plain = text.decode("utf-8-sig", errors) if isinstance(text, bytes) else text.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = len(NEW_LINE.findall(error.object[: error.start])) + 1
        raise ValueError(
            f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from None
    plain = plain.rstrip(" \t\r\n")
    try:
        _check_depth(plain)
        value = json.loads(
            plain,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
        if errors == "strict" and ("\\u" in plain or _LONE.search(plain)):
            _check_strings(value)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if "\n" in plain else ""
        raise ValueError(f"not valid JSON: {place}column {error.colno}: {error.msg}") from None
    except RecursionError:  # near the interpreter's limit
        raise ValueError("not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    return value


def _read(file: Path, advice: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: missing" + (f"; {advice}" if advice else "")) from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None


def _check_depth(text: str) -> None:
    """Before parsing, as the parser calls itself for each level."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        mark = token[0]
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} lists and objects")
        elif mark in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"key {_shown(name)} appears twice in one object")
        result[name] = value
    return result


def _integer(digits: str) -> int:
    if len(digits) > 21 or abs(int(digits)) >= _INTEGERS:
        raise ValueError(f"the integer {_shorter(digits)} has more than 64 bits")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {_shorter(digits)} is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _shorter(digits: str) -> str:
    return digits if len(digits) <= 24 else digits[:23] + "…"


def _check_strings(value: object) -> None:
    if isinstance(value, str):
        lone = _LONE.search(value)
        if lone:
            raise ValueError(f"a string holds the lone surrogate \\u{ord(lone[0]):04x}, which is half of a character")
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
