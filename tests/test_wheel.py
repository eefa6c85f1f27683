"""The wheel in an empty folder: the command, the page's files, the page over HTTP."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.tiny import save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "stackgan" / "app" / "static"
SERVE = """
import sys
import stackgan.app.server
print(stackgan.app.server.__file__, flush=True)
stackgan.app.server.serve(sys.argv[1], port=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this tree, and nothing else, is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("stackgan", "data_prep"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "dist"), str(source))
    (wheel,) = (source / "dist").glob("stackgan-*.whl")
    _pip("install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    return target


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _environment(installed: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}


def _python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=_environment(installed), capture_output=True, text=True)


def test_the_command_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = _python(installed, tmp_path, "-m", "stackgan", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: stackgan")
    place = _python(installed, tmp_path, "-c", "import stackgan; print(stackgan.__file__)")
    assert Path(place.stdout.strip()).is_relative_to(installed)


def test_the_pages_files_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    names = sorted(file.name for file in STATIC.iterdir())
    assert names and {Path(name).suffix for name in names} == {".css", ".js", ".handlebars"}
    script = "import sys; from stackgan.app.static_files import read_static; print(read_static(sys.argv[1]), end='')"
    for name in names:
        done = _python(installed, tmp_path, "-X", "utf8", "-c", script, name)
        assert done.stdout == (STATIC / name).read_text("utf-8"), done.stderr


def test_without_a_checkpoint_the_page_reports_what_to_give(installed: Path, tmp_path: Path) -> None:
    script = "import sys; from stackgan.cli.app import main; sys.exit(main([]))"
    done = _python(installed, tmp_path, "-c", script)
    assert done.returncode == 2 and done.stdout == ""
    assert "--checkpoint is missing" in done.stderr and done.stderr.count("\n") == 1


def test_the_page_answers_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "checkpoint", stages=1)
    folder = tmp_path / "empty"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(checkpoint), str(port)],
        cwd=folder,
        env=_environment(installed),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert Path(process.stdout.readline().strip()).is_relative_to(installed)
        url = f"http://127.0.0.1:{port}"
        assert process.stdout.readline() == f"Page at {url} (Ctrl-C stops)\n"
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            page = client.get("/").raise_for_status().text
            assert "Text to image" in page
            config = client.get("/config").raise_for_status().json()
        gallery = next(part for part in config["components"] if part["props"].get("elem_id") == "gallery")
        assert gallery["props"]["html_template"] == (STATIC / "gallery.handlebars").read_text("utf-8")
        assert config["css"] == (STATIC / "page.css").read_text("utf-8")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert list(folder.iterdir()) == []
