"""All keys of a configuration with their types, values and meanings, as text or as YAML.

The meanings are those in the docstrings of the sections (:mod:`stackgan.config.sections`), their only source.

>>> next(config_keys(Config())).meaning
'number of resolutions, 64 px and doubled at each further stage.'
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

from stackgan.config.root import Config

__all__ = ["ConfigKey", "as_text", "as_yaml", "config_keys"]

WIDTH = 118
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", re.MULTILINE)
_MARKUP = re.compile(r"``|:\w+:`([^`]*)`")


@dataclass(frozen=True)
class ConfigKey:
    """A key ``section.name``, the name of its type, its value, and what it means."""

    name: str
    kind: str
    value: object
    meaning: str


def config_keys(config: Config) -> Iterator[ConfigKey]:
    """Yield the keys of all sections of ``config`` in order."""
    for section in fields(config):
        values = getattr(config, section.name)
        if is_dataclass(values):
            cls = type(values)
            kinds, meanings = typing.get_type_hints(cls), _meanings(cls)
            for entry in fields(values):
                value, name = getattr(values, entry.name), entry.name
                yield ConfigKey(f"{section.name}.{name}", kinds[name].__name__, value, meanings.get(name, ""))


def _meanings(cls: type) -> dict[str, str]:
    """Name -> meaning, from the part ``Attributes:`` of a docstring; none under ``python -OO``."""
    _, _, text = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for names, meaning in _ENTRY.findall(text):
        plain = _MARKUP.sub(lambda match: match[1] or "", " ".join(meaning.split()))
        found |= dict.fromkeys(names.split(", "), plain)
    return found


def as_text(config: Config) -> str:
    """A line ``section.key  type = value`` for each key, and its meaning below."""
    lines = [f"preset {config.preset}"]
    for key in config_keys(config):
        lines.append(f"\n{key.name}  {key.kind} = {json.dumps(key.value)}")
        lines += textwrap.wrap(key.meaning, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def as_yaml(config: Config) -> str:
    """The configuration as YAML, with types and meanings as comments; ``stackgan train --config`` reads it."""
    lines, current = [f"preset: {json.dumps(config.preset)}"], ""
    for key in config_keys(config):
        section, _, name = key.name.partition(".")
        if section != current:
            lines += ["", f"{section}:"]
            current = section
        lines += textwrap.wrap(f"{key.kind}: {key.meaning}", WIDTH, initial_indent="  # ", subsequent_indent="  #   ")
        lines.append(f"  {name}: {json.dumps(key.value)}")
    return "\n".join(lines) + "\n"
