"""``stackgan app``: rejected arguments and their messages."""

import inspect
import shutil
import socket
import sys
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
    text = " ".join(parser.format_help().split())
    assert "(default: GRADIO_SERVER_NAME, else 127.0.0.1, or 0.0.0.0 in a Hugging Face Space)" in text
    assert "(default: GRADIO_SERVER_PORT, else 7860)" in text


def test_every_option_is_an_argument_of_the_server() -> None:
    parser = Parser(prog="app.py")
    add_arguments(parser)
    given = "--checkpoint c --host h --port 1 --device cpu --share --auth a:b --auth-file f --root-path /p --mcp"
    assert vars(parser.parse_args(given.split())).keys() == inspect.signature(serve).parameters.keys()


def test_refuses_users_without_showing_a_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = ("--port", str(free_port()))
    for wrong in ("secret", ":secret", "  :secret"):
        err = _refusal(capsys, *port, "--auth", wrong)
        assert "--auth: it must be USER:PASSWORD" in err and "secret" not in err
    assert "--auth: it must be USER:PASSWORD" in _refusal(capsys, *port, "--auth", "ann:")
    users = tmp_path / "users.txt"
    assert f"--auth-file {users}: no such file" in _refusal(capsys, *port, "--auth-file", str(users))
    for text, line in (("ann:secret\nsecret\n", 2), ("\n:secret", 2), ("ann:a\nbob:b\nann:secret", 3)):
        users.write_text(text)
        err = _refusal(capsys, *port, "--auth-file", str(users))
        assert f"--auth-file {users}, line {line}: " in err and "secret" not in err
    users.write_text("\n \n")
    assert "no users" in _refusal(capsys, *port, "--auth-file", str(users))
    users.write_bytes(b"\xff\xfe\xff")
    assert "not UTF-8" in _refusal(capsys, *port, "--auth-file", str(users))
    assert str(tmp_path) in _refusal(capsys, *port, "--auth-file", str(tmp_path))
    assert "one of the two" in _refusal(capsys, *port, "--auth", "a:b", "--auth-file", str(users))


def test_refuses_a_root_path_and_a_port_that_cannot_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--root-path birds: it must start with /" in _refusal(
        capsys, "--port", str(free_port()), "--root-path", "birds"
    )
    monkeypatch.setenv("GRADIO_SERVER_PORT", "80x")
    assert "GRADIO_SERVER_PORT is '80x': ports are from 1 to 65535" in _refusal(capsys)


def test_refuses_a_public_link_of_a_space(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    assert "without --share" in _refusal(capsys, "--port", str(free_port()), "--share")


def test_mcp_without_its_package(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert 'pip install "stackgan[app,mcp]"' in _refusal(capsys, "--port", str(free_port()), "--mcp")
