"""Imports at start-up, counted; tests/benchmarks/cold_start.py measures the time."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import CAPTIONS, save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
NEVER = ("transformers", "gradio", "torchvision", "matplotlib", "tensorboard", "huggingface_hub", "sklearn", "scipy")
PAINTING = ("torch", "tokenizers", "safetensors")  # needed for generation only

BESIDE = ("pandas", "pyarrow")  # Gradio's statistics of its queue, computed in a thread after an answer

RUN = """
import json, sys
from stackgan.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported(*arguments: str) -> set[str]:
    """The packages that a command of the program has imported when it ends."""
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    code, names = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["generate", "--help"], ["train", "--help"]])
def test_help_imports_nothing_that_generates(arguments: list[str]) -> None:
    assert imported(*arguments).isdisjoint({*NEVER, *PAINTING})


def test_generate_imports_only_what_it_needs(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "checkpoint")
    out = tmp_path / "out"
    names = imported("generate", CAPTIONS[0], "--seeds", "0", "--checkpoint", str(checkpoint), "--out", str(out))
    assert len(list(out.glob("*.png"))) == 1
    assert names.isdisjoint(NEVER)
    assert names.issuperset(PAINTING)


APP = """
import json, os, sys
import httpx

from stackgan.app import painting
from stackgan.app.page import build
from stackgan.app.server import warm_up
from stackgan.pipeline import StackGANPipeline

def visit(folder, port):
    page = build(pipe := StackGANPipeline.from_pretrained(folder))
    page.launch(server_name="127.0.0.1", server_port=int(port), quiet=True, prevent_thread_lock=True, ssr_mode=False)
    painted, real = [], painting.generate
    def recorded(pipe, request):
        painted.append([request.caption, request.count, request.seed, request.truncation])
        return real(pipe, request)
    painting.generate = recorded
    warm_up(page, pipe)
    warm = set(sys.modules)
    with httpx.Client(base_url=page.local_url, trust_env=False, timeout=60) as client:
        data = {"data": ["a red bird" if pipe.conditional else "", 2, 5, 1.0, None, 0, 0, ""]}
        asked = client.post("/gradio_api/call/paint", json=data).json()
        answer = client.get("/gradio_api/call/paint/" + asked["event_id"]).text
    print(json.dumps([painted, sorted(set(sys.modules) - warm), "event: complete" in answer]), flush=True)
    page.close(verbose=False)

for folder, port in zip(sys.argv[1::2], sys.argv[2::2]):
    if os.fork() == 0:
        visit(folder, port)
        os._exit(0)
    os.wait()
"""


def test_the_first_visitors_image_imports_nothing_more(tmp_path: Path) -> None:
    """With text and without, each page in a process of its own, forked from one that has imported the program."""
    arguments = []
    for name in ("text", "none"):
        arguments.append(str(save_tiny_checkpoint(tmp_path / name, stages=1, text=name == "text")))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            arguments.append(str(probe.getsockname()[1]))
    command = [sys.executable, "-c", APP, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for (painted, fresh, complete), (first, second) in zip(
        answers, [(CAPTIONS[0], "a red bird"), ("", "")], strict=True
    ):
        assert painted == [[first, 2, 0, 1.0], [second, 2, 5, 1.0]]
        assert [name for name in fresh if not name.startswith(("encodings", "_", *BESIDE))] == []
        assert complete
