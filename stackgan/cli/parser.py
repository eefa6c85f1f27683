"""Argument parser of all commands: one-line errors, and defaults from the signatures of the called functions.

Options that are not given are not in the parsed namespace, so that the defaults in the called function's signature
apply, and defaults are not duplicated. ``--help`` reads them from the function's source without importing its module,
and thus without importing torch.
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
    """Reports invalid arguments in one line, without the usage; omits options that were not given."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"argument_default": argparse.SUPPRESS, **settings})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see --help\n")


def unknown_choice(name: str, known: Sequence[str]) -> str:
    """Message about an unknown ``name``, with the nearest of the known names.

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
    """Show each option's default in the signatures of ``functions`` in the help of ``parser``.

    Args:
        functions: ``module:name`` of functions or dataclasses with parameters of the same name as the options
            (``dest``). If several have different defaults, all are shown in this order.
    """
    parser.formatter_class = partial(DefaultsFormatter, functions=functions)


class DefaultsFormatter(argparse.HelpFormatter):
    """Adds ``(default: …)`` if a function's signature has a printable default."""

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

    ``name`` is a function or a dataclass. None, flags, empty sequences and names of constants are omitted, as they
    are not informative in a help text.

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
            last = zip(reversed(places), reversed(node.args.defaults), strict=False)  # defaults of the last ones
            named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            found = {arg.arg: value for arg, value in (*last, *named)}
        elif isinstance(node, ast.ClassDef) and node.name == name:
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            found = {line.target.id: line.value for line in fields if isinstance(line.target, ast.Name)}
    return {parameter: shown for parameter, value in found.items() if value and (shown := _shown(value))}


def _shown(value: ast.expr) -> str:
    """A default as on the command line."""
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
            return str(count)  # number of units, such as 50 * MIB
    return ""
