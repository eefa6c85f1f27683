"""The argument parser of every command: errors in one line, defaults read from the functions that are called.

An option that is not given does not appear in the parsed namespace, so the default in the called function's signature
applies, and no default is written a second time. ``--help`` reads these defaults from the function's source without
importing its module: help never waits for torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import ast

__all__ = ["DefaultsFormatter", "Parser", "show_defaults", "signature_defaults", "unknown_choice"]


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, without the usage; leaves options that were not given out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"argument_default": argparse.SUPPRESS, **settings})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see --help\n")


def unknown_choice(name: str, known: Sequence[str]) -> str:
    """What is wrong with ``name``, with the nearest of the known names.

    >>> unknown_choice("genrate", ["generate", "batch"])
    "invalid choice: 'genrate' (did you mean 'generate'?)"
    >>> unknown_choice("paint", ["generate", "batch"])
    "invalid choice: 'paint' (choose from generate, batch)"
    """
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
    return f"invalid choice: {name!r} ({advice})"


def show_defaults(parser: argparse.ArgumentParser, *functions: str) -> None:
    """Let the help of ``parser`` end each option with its default in the signatures of ``functions``.

    Args:
        functions: ``module:name`` of a function or dataclass, where options are parameters under the same name
            (``dest``). Where several have different defaults, all are shown in this order.
    """
    parser.formatter_class = partial(DefaultsFormatter, functions=functions)


class DefaultsFormatter(argparse.HelpFormatter):
    """Adds ``(default: …)`` where a function's signature has a default that can be shown."""

    def __init__(self, prog: str, functions: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(prog, **settings)
        self.functions = functions

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default not in (argparse.SUPPRESS, None) or not action.help:
            return action.help
        found = [signature_defaults(function).get(action.dest) for function in self.functions]
        shown = " and ".join(dict.fromkeys(default for default in found if default))
        return f"{action.help} (default: {shown})" if shown else action.help


@cache
def signature_defaults(function: str) -> dict[str, str]:
    """Defaults of the parameters of ``module:name``, as text, read from the source without importing the module.

    ``name`` is a function or a dataclass. Left out are None, flags, empty sequences and names of constants, which
    mean nothing in a help text.

    >>> signature_defaults("stackgan.io.archive:pack")
    {'limit': '50'}
    >>> signature_defaults("stackgan.captions.file:Line")
    {}
    """
    import ast
    from importlib.abc import InspectLoader
    from importlib.util import find_spec

    module, _, name = function.partition(":")
    spec = find_spec(module)
    source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
    found: dict[str, ast.expr | None] = {}
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            places = [*node.args.posonlyargs, *node.args.args]
            last = zip(reversed(places), reversed(node.args.defaults), strict=False)  # the last ones have defaults
            named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            found = {arg.arg: value for arg, value in (*last, *named)}
        elif isinstance(node, ast.ClassDef) and node.name == name:
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            found = {line.target.id: line.value for line in fields if isinstance(line.target, ast.Name)}
    return {parameter: shown for parameter, value in found.items() if value and (shown := _shown(value))}


def _shown(value: ast.expr) -> str:
    """A default as one would type it on the command line."""
    import ast

    match value:
        case ast.Constant(value=None | bool()):
            return ""
        case ast.Constant(value=constant):
            return f"{constant:g}" if isinstance(constant, float) else str(constant)
        case ast.Tuple(elts=parts):
            return ",".join(map(_shown, parts))
        case ast.Call(func=ast.Name(id="Path"), args=[ast.Constant(value=str(path))]):
            return path
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(count))]):
            return f"0-{count - 1}"
        case ast.BinOp(left=ast.Constant(value=count), op=ast.Mult(), right=ast.Name()):
            return str(count)  # of a unit, such as 50 * MIB
    return ""
