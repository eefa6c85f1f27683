"""Completion scripts: what a real bash completes, and that other shells get a script."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stackgan.cli.completion import SHELLS
from stackgan.cli.main import main

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p stackgan | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" stackgan "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from contextlib import redirect_stdout

    file = tmp_path_factory.mktemp("completion") / "stackgan.bash"
    with file.open("w") as stream, redirect_stdout(stream):
        assert main(["completion", "bash"]) == 0
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["gen"], ["generate"]),
        (["ev"], ["evaluate"]),
        (["prepare", "pa"], ["painted"]),
        (["batch", "--trunc"], ["--truncation"]),
        (["train", "--preset", "qu"], ["quickstart"]),
        (["train", "optim.lr_g"], ["optim.lr_generator="]),
        (["config", "mod"], ["modern"]),
        (["config", "modern", "--format", "y"], ["yaml"]),
        (["generate", "--checkpoint", "pain"], ["painted-64"]),
    ],
    ids=" ".join,
)
def test_bash_completes(script: Path, words: list[str], wanted: list[str]) -> None:
    command = ["bash", "--norc", "-c", ASK, "bash", str(script), "stackgan", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == wanted, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "stackgan" in text and "evaluate" in text and "optim.lr_generator" in text
