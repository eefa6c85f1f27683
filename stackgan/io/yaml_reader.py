"""Strict reader of YAML files: mappings, lists and the scalars of JSON.

Plain scalars are read as in YAML's JSON schema (YAML 1.2, section 10.2): ``true``, ``false``, ``null`` and decimal
numbers; everything else, ``no`` included, is a string. Tags, anchors and aliases, repeated keys, several documents,
and numbers that are not finite are errors. Only events of the parser are used, so that no object is constructed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["read_yaml"]

MAX_DEPTH = 16
MAX_BYTES = 1 << 20
_INTEGER = re.compile(r"[-+]?[0-9]{1,21}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def read_yaml(file: Path) -> Any:
    """Parse a YAML file.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not such a file; the message begins with file and line.
    """
    import yaml

    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file") from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{file}: larger than {MAX_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
        return _Reader(file, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text (byte 0x{content[error.start]:02x})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
        raise ValueError(f"{file}{place}: not valid YAML: {problem}") from None


class _Reader:
    """Builds plain values from the events of a parser."""

    def __init__(self, file: Path, events: Iterator[Any]) -> None:
        self.file, self.events = file, events

    def document(self) -> Any:
        value, documents = None, 0
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document: write one")
                value = self._value(next(self.events), 0)
        return value

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            raise self._error(event, "anchors and aliases are not read: write the value itself")
        if event.tag is not None:
            raise self._error(event, f"the tag {event.tag!r} is not read: write the value without it")
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if kind == "ScalarEvent":
            return self._scalar(event)
        return self._list(depth) if kind == "SequenceStartEvent" else self._table(depth)

    def _list(self, depth: int) -> list[Any]:
        found = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            found.append(self._value(event, depth + 1))
        return found

    def _table(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            key = self._value(event, depth + 1) if type(event).__name__ != "ScalarEvent" else event.value
            if not isinstance(key, str) or getattr(event, "anchor", None) or event.tag is not None:
                raise self._error(event, "a key must be plain text")
            if key in found:
                raise self._error(event, f"key {key!r} appears twice")
            found[key] = self._value(next(self.events), depth + 1)
        return found

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if event.style is not None:  # quoted, or a block
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and not math.isfinite(float(text))):
            raise self._error(event, f"{text[:40]} is not a finite number")
        return float(text) if _FLOAT.fullmatch(text) else text

    def _error(self, event: Any, message: str) -> ValueError:
        return ValueError(f"{self.file}:{event.start_mark.line + 1}: {message}")
