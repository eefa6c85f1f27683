"""``stackgan app``: rejected arguments and their messages."""

import inspect
import shutil
import socket
from pathlib import Path

import pytest

from stackgan.app.server import serve
from stackgan.cli.app import add_arguments, main
from stackgan.cli.parser import Parser
from tests.app.browser import free_port
from tests.tiny import save_tiny_checkpoint


def _refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("app.py: ") and err.count("\n") == 1
    return err


def test_refuses_a_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = _refusal(capsys, "--checkpoint", str(tmp_path / "none"), "--port", str(free_port()))
    assert str(tmp_path / "none") in err


def test_refuses_a_checkpoint_without_text_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    shutil.rmtree(folder / "text")
    err = _refusal(capsys, "--checkpoint", str(folder), "--port", str(free_port()))
    assert str(folder) in err and "text encoder" in err


def test_refuses_an_address_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        err = _refusal(capsys, "--port", port)
    assert port in err and "--port" in err
    assert "1 to 65535" in _refusal(capsys, "--port", "70000")
    assert "no.such.host.invalid" in _refusal(capsys, "--host", "no.such.host.invalid")


def test_help_names_the_defaults_of_the_server() -> None:
    parser = Parser(prog="app.py")
    add_arguments(parser)
    defaults = {name: parameter.default for name, parameter in inspect.signature(serve).parameters.items()}
    for name in ("host", "port"):
        assert f"(default: {defaults[name]})" in parser.format_help()
