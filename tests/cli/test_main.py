"""The table of commands: every module has the interface, is imported alone, and takes its defaults from functions."""

import argparse
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from stackgan.cli.main import COMMANDS, command_parser, main
from stackgan.cli.parser import signature_defaults

ROOT = Path(__file__).resolve().parents[2]
SHARED = {"main", "options", "parser", "streams"}  # modules of stackgan/cli/ that are no command
HEAVY = {"torch", "torchvision", "transformers", "gradio"}

HELP = """
import contextlib, io, json, sys
from stackgan.cli.main import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    try:
        main([*sys.argv[1:], "--help"])
    except SystemExit as stop:
        assert stop.code == 0
print(json.dumps([shown.getvalue(), sorted(sys.modules)]))
"""


def test_the_table_names_every_module_of_the_folder_once() -> None:
    modules = [module for module, _ in COMMANDS.values()]
    files = {file.stem for file in (ROOT / "stackgan" / "cli").glob("*.py")} - {"__init__", *SHARED}
    assert sorted(modules) == sorted(f"stackgan.cli.{name}" for name in files)
    assert all(module == f"stackgan.cli.{name.replace('-', '_')}" for name, (module, _) in COMMANDS.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_keeps_the_protocol(command: str) -> None:
    module = import_module(COMMANDS[command][0])
    assert list(inspect.signature(module.add_arguments).parameters) == ["parser"]
    assert list(inspect.signature(module.run).parameters) == ["args"]
    assert inspect.signature(module.run).return_annotation == "int"
    summary = COMMANDS[command][1]
    assert summary and summary[0].islower() and not summary.endswith(".") and "\n" not in summary


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_no_other_command_and_no_torch(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, command], capture_output=True, text=True, cwd=ROOT, check=True)
    shown, names = json.loads(done.stdout)
    assert shown.startswith(f"usage: stackgan {command} ")
    assert HEAVY.isdisjoint(names)
    own = COMMANDS[command][0].rpartition(".")[2]
    assert {name.split(".")[2] for name in names if name.startswith("stackgan.cli.")} <= {own, *SHARED}


def test_the_help_of_all_imports_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, cwd=ROOT, check=True)
    shown, names = json.loads(done.stdout)
    assert all(f"\n    {command}" in shown for command in COMMANDS)
    assert {name.split(".")[2] for name in names if name.startswith("stackgan.cli.")} <= SHARED


def test_the_function_called_has_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Defaults are those of the function's signature, also in --help."""
    checked = 0
    for parser in _parsers():
        functions = [_function(name) for name in getattr(parser.formatter_class, "keywords", {}).get("functions", ())]
        for action in parser._actions:
            for function, parameters in functions:
                parameter = parameters.get(action.dest)
                if parameter is None or parameter.default in (inspect.Parameter.empty, None, ()):
                    continue
                assert action.default is argparse.SUPPRESS, f"{parser.prog}: {action.dest}"
                shown = signature_defaults(function).get(action.dest)
                if shown is not None:
                    assert shown == _typed(parameter.default, action), f"{parser.prog}: {action.dest}"
                    assert shown in parser.format_help()
                    checked += 1
    assert checked > 30


def _parsers() -> Iterator[argparse.ArgumentParser]:
    for name in COMMANDS:
        parser = command_parser(name)
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from action.choices.values()


def _function(name: str) -> tuple[str, dict[str, inspect.Parameter]]:
    module, _, function = name.partition(":")
    return name, dict(inspect.signature(getattr(import_module(module), function)).parameters)


def _typed(default: Any, action: argparse.Action) -> str:
    """A default value as command-line text."""
    if isinstance(default, range):
        return f"{default[0]}-{default[-1]}"
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if action.metavar == "MIB":
        return f"{default / 2**20:g}"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_what_is_not_given_is_not_passed_on() -> None:
    args = command_parser("batch").parse_args(["captions.txt", "--out", "out"])
    assert vars(args) == {
        "file": Path("captions.txt"),
        "out": Path("out"),
        "checkpoint": "birds-256",
    }


def test_a_command_is_one_module_and_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hello_command.py").write_text(
        'def add_arguments(parser):\n    parser.add_argument("name")\n\n\n'
        'def run(args):\n    print(f"hello {args.name}")\n    return 7\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "hello", ("hello_command", "say hello"))
    assert main(["hello", "bird"]) == 7
    assert capsys.readouterr().out == "hello bird\n"
    with pytest.raises(SystemExit):
        main(["helo"])
    assert "did you mean 'hello'?" in capsys.readouterr().err


SOURCE = """
from dataclasses import dataclass
from pathlib import Path

import nosuchpackage  # never imported


def call(a, b=2, *, c="x", d=None, e=True, f=Path("out"), g=range(8), h=(0, 0), i=4 * MIB, j=OTHER, k): ...


@dataclass
class Settings:
    count: int = 30_000
    device: str | None = None
    scale: float = 1.0
    name: str
"""


def test_defaults_are_read_without_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    call = {"b": "2", "c": "x", "f": "out", "g": "0-7", "h": "0,0", "i": "4"}
    assert signature_defaults("some_module:call") == call
    assert signature_defaults("some_module:Settings") == {"count": "30000", "scale": "1"}
    assert signature_defaults("some_module:nosuch") == {}
    assert "some_module" not in sys.modules
