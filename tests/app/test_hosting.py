"""Files for hosting the page: requirements.txt, the Dockerfile, the front matter of a Space.

The Dockerfile's commands run here on a copy of what it copies, without Docker.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.app.browser import free_port
from tests.serving import serving

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "stackgan" / "app"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WANTED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["app"]]


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", (APP / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def copied() -> list[str]:
    return [source for name, rest in instructions() if name == "COPY" for source in shlex.split(rest)[:-1]]


def test_requirements_are_those_of_the_package() -> None:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "--"))] == WANTED
    assert [line for line in lines if line.startswith("--")] == [
        "--extra-index-url https://download.pytorch.org/whl/cpu"
    ]


def test_the_front_matter_of_a_space_fits_the_package() -> None:
    front = yaml.safe_load((APP / "space.md").read_text("utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio" and front["license"] == PROJECT["license"].lower()
    assert (ROOT / front["app_file"]).is_file() and len(front["short_description"]) <= 60
    gradio = next(r for r in map(Requirement, WANTED) if r.name == "gradio")
    assert front["sdk_version"] in gradio.specifier
    assert f"{front['python_version']}.0" in SpecifierSet(PROJECT["requires-python"])
    assert version("gradio") in gradio.specifier


def test_the_dockerfile_copies_what_exists_and_runs_without_privileges() -> None:
    found = instructions()
    names = [name for name, _ in found]
    assert all((ROOT / source).exists() for source in copied())
    users = [rest for name, rest in found if name == "USER"]
    assert users == ["app"] and names.index("USER") < names.index("ENTRYPOINT")
    assert any(name == "RUN" and rest.startswith("useradd") and rest.endswith(" app") for name, rest in found)
    assert dict(found)["EXPOSE"] == "7860" and "GRADIO_SERVER_PORT=7860" in dict(found)["ENV"]
    base = re.fullmatch(r"python:(\d+\.\d+)-slim", dict(found)["FROM"])
    assert base and f"{base[1]}.0" in SpecifierSet(PROJECT["requires-python"])
    ignored = (APP / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())


def test_the_commands_of_the_dockerfile_serve_the_page(tmp_path: Path) -> None:
    """Its entry point runs on what it copies, in its environment; its health check fails, then passes."""
    for source in copied():
        if source == "checkpoints":
            shutil.copytree(ROOT / source / "painted-64", tmp_path / source / "painted-64")
        else:
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, tmp_path / source)
    found, port = dict(instructions()), free_port()
    settings = dict(word.split("=", 1) for word in shlex.split(found["ENV"]))
    environment = {k: v for k, v in os.environ.items() if k not in ("SYSTEM", "PYTHONPATH")} | settings
    environment |= {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    entry = json.loads(found["ENTRYPOINT"])
    check = json.loads(found["HEALTHCHECK"].partition(" CMD ")[2])
    assert entry[0] == check[0] == "python"
    health = [sys.executable, *check[1:]]
    quiet = {"env": environment, "capture_output": True}
    assert subprocess.run(health, **quiet).returncode != 0  # type: ignore[call-overload]
    command = [sys.executable, *entry[1:]]
    with serving(command, stop=signal.SIGTERM, cwd=tmp_path, env=environment) as printed:  # as docker stop does
        assert printed.readline() == f"Page at http://0.0.0.0:{port} (Ctrl-C stops)\n"
        assert subprocess.run(health, **quiet).returncode == 0  # type: ignore[call-overload]


def test_a_space_gets_the_same_files() -> None:
    page = (APP / "README.md").read_text("utf-8")
    words = shlex.split(next(line for line in page.splitlines() if line.startswith("hf upload USER/birds . .")))
    included = [word for option, word in zip(words, words[1:], strict=False) if option == "--include"]
    assert {pattern.partition("/")[0] for pattern in included} == set(copied())
    assert [pattern for pattern in included if pattern.startswith("checkpoints")] == ["checkpoints/painted-64/*"]
