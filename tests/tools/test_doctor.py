"""``stackgan doctor`` with and without optional packages and files."""

from pathlib import Path

import pytest

import stackgan.tools.doctor
from stackgan.cli.main import main
from stackgan.tools.doctor import examine
from tests.tiny import save_tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


def test_a_sound_machine(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--checkpoint", str(checkpoint)]) == 0
    said = capsys.readouterr().out
    assert f"{checkpoint}: quickstart, 64, 128 px" in said
    for name in ("torch", "processor", "allocator", "oneDNN", "C++ compiler", "optional: gradio"):
        assert name in said


def test_a_missing_checkpoint_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--checkpoint", str(tmp_path / "nowhere")]) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = [i for i, text in enumerate(lines) if text.startswith("✗")]
    assert "no checkpoint found" in lines[line]
    assert "--checkpoint" in lines[line + 1]


def test_what_can_be_done_without_is_no_failure(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stackgan.tools.doctor, "keep_pages", lambda: False)
    monkeypatch.setattr(stackgan.tools.doctor, "onednn_works", lambda dtype: False)
    monkeypatch.setattr(stackgan.tools.doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(stackgan.tools.doctor, "cpp_compiler", lambda: None)
    findings = {finding.name: finding for finding in examine(checkpoint)}
    assert not any(finding.good is False for finding in findings.values())
    assert "returned to the system" in findings["allocator"].found
    assert "plain convolutions" in findings["oneDNN"].found
    assert findings["optional: zuko"].advice == 'pip install "stackgan[study]"'
    assert "not available" in findings["C++ compiler"].found
