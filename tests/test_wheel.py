"""The wheel in an empty folder: its files, the command with the bundled checkpoint, the page over HTTP."""

import os
import shutil
import socket
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.serving import serving

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "stackgan" / "app" / "static"
SERVE = """
import sys
import stackgan.app.server
print(stackgan.app.server.__file__, flush=True)
from stackgan.cli.main import main
sys.exit(main(["app", "--port", sys.argv[1]]))
"""
NAMES = """
from stackgan.io.checkpoint_names import bundled_checkpoints, default_checkpoint
print(default_checkpoint(), *bundled_checkpoints())
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files of this tree that a build reads."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("stackgan", "data_prep", "checkpoints"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel of this tree."""
    folder = tmp_path_factory.mktemp("installed")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(source))
    (wheel,) = (folder / "dist").glob("stackgan-*.whl")
    return _install(folder / "venv", str(wheel))


def _install(environment: Path, *what: str) -> Path:
    """Create a virtual environment with the packages of this one, and install into it."""
    venv.create(environment, symlinks=True)
    others = _site_packages(environment) / "others.pth"  # after the environment's own packages
    others.write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    _pip("--python", str(environment / "bin" / "python"), "install", "--no-deps", "--no-build-isolation", *what)
    return environment


def _site_packages(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python*/site-packages")
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


def _run(environment: Path, folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in ``folder``."""
    command = [str(environment / "bin" / program), *arguments]
    return subprocess.run(command, cwd=folder, env=_settings(), capture_output=True, text=True)


def test_the_command_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    for program in (("stackgan",), ("python", "-m", "stackgan")):
        done = _run(installed, tmp_path, *program, "--help")
        assert done.returncode == 0 and done.stdout.startswith("usage: stackgan")
    place = _run(installed, tmp_path, "python", "-c", "import stackgan; print(stackgan.__file__)")
    assert Path(place.stdout.strip()).is_relative_to(installed)


def test_the_pages_files_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    names = sorted(file.name for file in STATIC.iterdir())
    assert names and {Path(name).suffix for name in names} == {".css", ".js", ".handlebars"}
    script = "import sys; from stackgan.app.static_files import read_static; print(read_static(sys.argv[1]), end='')"
    for name in names:
        done = _run(installed, tmp_path, "python", "-X", "utf8", "-c", script, name)
        assert done.stdout == (STATIC / name).read_text("utf-8"), done.stderr


def test_the_wheel_has_every_package_and_one_checkpoint(installed: Path) -> None:
    def files(folder: Path, pattern: str) -> set[Path]:
        return {file.relative_to(folder) for file in folder.rglob(pattern) if file.is_file()}

    packages = _site_packages(installed)
    for package in ("stackgan", "data_prep"):
        assert files(packages / package, "*.py") == files(ROOT / package, "*.py"), "packages in pyproject.toml"
    assert files(packages / "stackgan" / "tools" / "web", "*") == files(ROOT / "stackgan" / "tools" / "web", "*")
    bundled = packages / "stackgan" / "bundled"
    assert files(bundled / "painted-64", "*") == files(ROOT / "checkpoints" / "painted-64", "*")
    assert [entry.name for entry in bundled.iterdir()] == ["painted-64"], "the others are for research only"
    (wheel,) = installed.parent.glob("dist/*.whl")
    assert wheel.stat().st_size < 16 * 2**20
    assert not list((ROOT / "stackgan").rglob("*.safetensors")), "one copy in the repository"


def test_it_generates_at_once_with_the_bundled_checkpoint(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "stackgan", "generate", "a red bird", "--seeds", "0-1", "--device", "cpu")
    assert done.returncode == 0 and done.stdout == "2 images in out\n", done.stderr
    sizes = [Image.open(file).size for file in sorted((tmp_path / "out").iterdir())]
    assert sizes == [(64, 64)] * 2
    names = _run(installed, tmp_path, "python", "-c", NAMES)
    assert names.stdout.split() == ["painted-64", "painted-64"], names.stderr
    doctor = _run(installed, tmp_path, "stackgan", "doctor")
    assert doctor.returncode == 0 and "bundled/painted-64: quickstart, 64 px" in doctor.stdout, doctor.stdout


def test_what_is_only_in_a_clone_is_an_error_that_lists_what_is_here(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "stackgan", "sample", "--checkpoint", "birds-256")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        "birds-256: no checkpoint found: no such folder, no bundled checkpoint of this name (painted-64)"
        in done.stderr
    )


def test_an_editable_installation_has_the_checkpoints_of_the_clone(source: Path, tmp_path: Path) -> None:
    environment = _install(tmp_path / "venv", "--editable", str(source))
    (tmp_path / "empty").mkdir()
    names = _run(environment, tmp_path / "empty", "python", "-c", NAMES)
    assert names.stdout.split() == ["birds-256", "birds-256", "birds-64", "painted-64"], names.stderr


def test_the_page_answers_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(installed / "bin" / "python"), "-c", SERVE, str(port)]
    with serving(command, cwd=folder, env=_settings()) as printed:
        assert Path(printed.readline().strip()).is_relative_to(installed)
        url = f"http://127.0.0.1:{port}"
        assert printed.readline() == f"Page at {url} (Ctrl-C stops)\n"
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            page = client.get("/").raise_for_status().text
            assert "Text to image" in page
            config = client.get("/config").raise_for_status().json()
        gallery = next(part for part in config["components"] if part["props"].get("elem_id") == "gallery")
        assert gallery["props"]["html_template"] == (STATIC / "gallery.handlebars").read_text("utf-8")
        assert config["css"] == (STATIC / "page.css").read_text("utf-8")
    assert list(folder.iterdir()) == []
