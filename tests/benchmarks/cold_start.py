"""Time from the start of a command to its PNG, and from the start of the app to its first images.

    python -m tests.benchmarks.cold_start [--rounds 7]

Every start is a separate process, with files in the page cache, in alternation: Python alone, ``import torch`` (a
lower bound for any program that uses it), ``stackgan --help``, and ``stackgan generate`` of one image. The app is
``app.py`` as users start it; images are requested from its server as the page does, and read completely.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.benchmarks.harness import print_table, print_versions

ROOT = Path(__file__).resolve().parents[2]
LISTED = """
import json, sys
from stackgan.cli.main import main
main(sys.argv[1:])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print_versions()
    with tempfile.TemporaryDirectory() as folder:
        generate = ["generate", "a small red bird", "--seeds", "0", "--out", folder]
        commands = {
            "python": ["-c", "pass"],
            "import torch": ["-c", "import torch"],
            "stackgan --help": ["-m", "stackgan", "--help"],
            "stackgan generate": ["-m", "stackgan", *generate],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(args.rounds + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
                if turn:  # the first one fills the page cache
                    seconds[name].append(time.perf_counter() - began)
        rows = [[name, *_spread(values)] for name, values in seconds.items()]
        beyond = [a - b for a, b in zip(seconds["stackgan generate"], seconds["import torch"], strict=True)]
        rows.append(["generate beyond import torch", *_spread(beyond)])
        print_table("Seconds from start to end", ("", "median", "quartiles"), rows)
        done = subprocess.run(
            [sys.executable, "-c", LISTED, *generate], cwd=ROOT, check=True, capture_output=True, text=True
        )
        print("\nimported by generate: " + ", ".join(json.loads(done.stdout.splitlines()[-1])))
    print_table("The app, birds-64, its default four images", ("", "ms"), _app(args.rounds))


def _spread(values: list[float]) -> tuple[str, str]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f}", f"{low:.2f} to {high:.2f}"


def _app(starts: int) -> list[list[str]]:
    """Medians over several starts: until the app prints its address, until its first images, and for the tenth."""
    ready, first, tenth = [], [], []
    for _ in range(max(3, starts // 2)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        began = time.perf_counter()
        command = [sys.executable, "app.py", "--port", str(port)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as app:
            assert app.stdout is not None
            app.stdout.readline()
            ready.append(time.perf_counter() - began)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
                taken = [_press_paint(client, seed) for seed in range(10)]
            first.append(taken[0])
            tenth.append(taken[-1])
            app.terminate()
    rows = {"started and warm": ready, "first images": first, "tenth images": tenth}
    return [[name, f"{statistics.median(values) * 1e3:.0f}"] for name, values in rows.items()]


def _press_paint(client: httpx.Client, seed: int) -> float:
    """Seconds from the request to the last byte of the last image."""
    began = time.perf_counter()
    asked = client.post("/gradio_api/call/paint", json={"data": ["a small red bird", 4, seed, 1.0, True]})
    answer = client.get(f"/gradio_api/call/paint/{asked.json()['event_id']}").text
    pictures = set(re.findall(r'"path": "([^"]+\.png)"', answer))
    assert len(pictures) == 4, answer
    for picture in pictures:
        client.get(f"/gradio_api/file={picture}").raise_for_status()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
