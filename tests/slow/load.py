"""Clients that use the page at once: answers a second, waiting times, memory of the server.

    python -m tests.slow.load --clients 1 10 50 --seconds 20          # /paint, four images of the default checkpoint
    python -m tests.slow.load --tiny --clients 8 --requests 5000      # does the memory stay flat?

Every client asks for its own caption and seeds, waits for the answer and asks again. Every answer must hold the
images of its request: their settings are read from the PNGs. With ``--leave`` every third request is left before its
answer, as by a visitor who closes the browser.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from stackgan.generation.image_settings import read_png
from tests.app.browser import free_port
from tests.tiny import save_tiny_checkpoint

COLOURS = ("red", "blue", "yellow", "brown", "white", "grey", "green", "orange")


class Load:
    """The answers to all clients of one server."""

    def __init__(self, url: str, count: int, leave: bool, folder: Path) -> None:
        self.url, self.count, self.leave, self.folder = url, count, leave, folder
        self.lock = threading.Lock()
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.left = 0

    def client(self, number: int, deadline: float, most: int) -> None:
        """One visitor: requests until the deadline, or ``most`` of them by all visitors."""
        draws = random.Random(number)
        session = f"load-{number}"  # one for all requests of a client, as gradio_client and the page do
        with httpx.Client(base_url=self.url, trust_env=False, timeout=600) as http:
            while time.monotonic() < deadline and len(self.seconds) + self.left < most:
                caption, seed = f"a {draws.choice(COLOURS)} bird number {number}", draws.randrange(10**6)
                start = time.monotonic()
                data = {"data": [caption, self.count, seed, None, None, 0, 0, ""], "session_hash": session}
                event = http.post("/gradio_api/call/paint", json=data).raise_for_status().json()["event_id"]
                if self.leave and draws.randrange(3) == 0:
                    with http.stream("GET", f"/gradio_api/call/paint/{event}"):
                        pass
                    with self.lock:
                        self.left += 1
                    continue
                answer = http.get(f"/gradio_api/call/paint/{event}").text
                self.check(http, answer, caption, seed)
                with self.lock:
                    self.seconds.append(time.monotonic() - start)

    def check(self, http: httpx.Client, answer: str, caption: str, seed: int) -> None:
        """The last image of the answer has the settings that were asked for."""
        if "event: complete" not in answer:
            self.errors.append(answer[:200])
            return
        files, _ = json.loads(answer.rpartition("data: ")[2])
        content = http.get(files[-1]["url"]).raise_for_status().content
        file = self.folder / f"{threading.get_ident()}.png"
        file.write_bytes(content)
        found = read_png(file)
        if (found.caption, found.seed) != (caption, seed + self.count - 1):
            self.errors.append(f"asked for {caption} {seed}, got {found}")

    def run(self, clients: int, seconds: float, most: int) -> str:
        """A line of the table."""
        deadline, start = time.monotonic() + seconds, time.monotonic()
        threads = [threading.Thread(target=self.client, args=(n, deadline, most)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, waits = time.monotonic() - start, np.array(self.seconds or [0.0])
        return (
            f"{clients:3d} clients: {len(self.seconds)} answers, {len(self.seconds) / took:.1f} a second, "
            f"p50 {np.median(waits):.2f} s, p95 {np.quantile(waits, 0.95):.2f} s, {self.left} left, "
            f"{len(self.errors)} errors"
        )


def memory(process: int) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="birds-64")
    parser.add_argument("--tiny", action="store_true", help="a checkpoint of the tests, for the server's own work")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--seconds", type=float, default=3600.0, help="of each number of clients")
    parser.add_argument("--requests", type=int, default=10**9, help="of each number of clients, at most")
    parser.add_argument("--count", type=int, default=4, help="images of a request")
    parser.add_argument("--leave", action="store_true")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        name = arguments.checkpoint
        if arguments.tiny:
            name = str(save_tiny_checkpoint(Path(folder) / "tiny", stages=1))
        port = free_port()
        command = [sys.executable, "app.py", "--checkpoint", name, "--port", str(port)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": folder}
        ) as page:
            assert page.stdout is not None
            print(page.stdout.readline().strip())
            for clients in arguments.clients:
                before = memory(page.pid)
                load = Load(f"http://127.0.0.1:{port}", arguments.count, arguments.leave, Path(folder))
                print(load.run(clients, arguments.seconds, arguments.requests), end=", ")
                print(f"memory {before:.0f} -> {memory(page.pid):.0f} MB", flush=True)
                for error in load.errors[:5]:
                    print(f"  {error}")
                failed += len(load.errors)
            page.terminate()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
