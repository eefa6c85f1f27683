"""Optional packages: what runs without them, errors that name the extra, the table of extras in pyproject.toml."""

import json
import re
import socket
import sys
import tomllib
from pathlib import Path

import pytest

from stackgan.cli.main import main
from stackgan.networks.frozen_features import load_frozen_features
from tests.test_layout import OPTIONAL
from tests.tiny import TINY

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DISTRIBUTION = {  # of modules, where it has another name
    "huggingface_hub": "huggingface-hub",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "imageio_ffmpeg": "imageio[ffmpeg]",
    "sklearn": "scikit-learn",
    "torch_fidelity": "torch-fidelity",
    "torch.utils.tensorboard": "tensorboard",
}


def _without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_training_without_tensorboard_logs_to_json_and_reports_what_is_missing(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without(monkeypatch, "tensorboard", "torch.utils.tensorboard")
    run = tmp_path / "run"
    command = ["train", "--data", str(few_birds), "--run", str(run), "--preset", "quickstart", "--device", "cpu"]
    assert main([*command, *TINY, "train.images=16"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "tensorboard" in line]
    assert len(lines) == 1 and 'pip install "stackgan[train]"' in lines[0]
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert logged[-2]["step"] == 4 and "g/kl" in logged[-2] and "eval/diversity" in logged[-1]
    assert not (run / "tensorboard").exists() and (run / "checkpoint" / "config.json").is_file()


def test_the_page_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _without(monkeypatch, "gradio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert main(["app", "--port", str(port)]) == 2
    assert capsys.readouterr().err == 'stackgan: the page needs the package gradio: pip install "stackgan[app]"\n'


def test_classifiers_and_clip_without_torchvision(
    monkeypatch: pytest.MonkeyPatch, few_birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _without(monkeypatch, "torchvision")
    with pytest.raises(ValueError, match=r'needs the package torchvision: pip install "stackgan\[features\]"'):
        load_frozen_features("resnet18")
    command = ["evaluate", "--checkpoint", "painted-64", "--data", str(few_birds), "--out", str(tmp_path / "report")]
    assert main([*command, "--num", "12", "--clip", "some/clip"]) == 2
    assert 'torchvision: pip install "stackgan[eval]"' in capsys.readouterr().err


def test_every_optional_package_belongs_to_an_extra_and_every_extra_in_an_error_exists() -> None:
    base = " ".join(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    listed = " ".join(requirement for requirements in extras.values() for requirement in requirements)
    for module in OPTIONAL:
        name = DISTRIBUTION.get(module, module)
        assert (name in base) if module == "huggingface_hub" else (name in listed and name not in base), module
    code = (file for folder in ("stackgan", "data_prep") for file in (ROOT / folder).rglob("*.py"))
    texts = [file.read_text("utf-8") for file in (*code, ROOT / "README.md")]
    named = {
        name
        for text in texts
        for found in re.findall(r"(?:stackgan|\.)\[([a-z,]+)\]", text)
        for name in found.split(",")
    }
    assert named == extras.keys()
