"""Clients that use the page at once: answers a second, waiting times, memory of the server.

    python -m tests.slow.load --clients 1 10 50 --seconds 20          # /paint, four images of the default checkpoint
    python -m tests.slow.load --route image --clients 1 10 50 --seconds 20    # /image, one image a request
    python -m tests.slow.load --route live --clients 1 10 50 --count 1    # what the page asks while a visitor types
    python -m tests.slow.load --tiny --clients 8 --requests 5000      # does the memory stay flat?
    python -m tests.slow.load --route mixed --leave --clients 100 --seconds 120 --count 1   # all endpoints

Every client asks for its own caption and seeds, waits for the answer and asks again. Every answer must hold the
images of its request: their settings are read from the PNGs. With ``--leave`` every third request is left before its
answer, as by a visitor who closes the browser. With ``--route mixed`` half of the requests go to the page itself and
to the other endpoints (:data:`KINDS`), one in twelve is wrong and must be answered in words.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from stackgan.generation.image_settings import read_png
from tests.app.browser import free_port
from tests.tiny import save_tiny_checkpoint

# Requests of --route mixed: endpoint or path, share, arguments for a caption and a seed, what the answer must hold.
KINDS: dict[str, tuple[float, Callable[[str, int], list[Any]] | None, str]] = {
    "paint": (0.3, None, ".png"),
    "image": (0.1, None, ".png"),
    "live": (0.1, None, "png"),
    "understand": (0.12, lambda caption, seed: [caption], "kl"),
    "/": (0.1, None, "<html"),
    "paint, wrong": (0.08, lambda caption, seed: [" ", 1, seed, None, None, 0, 0, ""], "caption"),
    "sample": (0.08, lambda caption, seed: [2, seed, 0.8], ".png"),
    "grid": (0.05, lambda caption, seed: [caption, f"{seed}-{seed + 2}", "0.8", "Seeds", "Variety"], ".png"),
    "batch": (0.04, lambda caption, seed: [None, f"{caption}\n{caption} too", 1, seed, 0.8, 64], ".zip"),
    "walk": (0.03, lambda caption, seed: [caption, seed, caption + " too", seed + 1, 8, 1, ".gif"], ".gif"),
}
COLOURS = ("red", "blue", "yellow", "brown", "white", "grey", "green", "orange")


class Connection(contextlib.AbstractContextManager["Connection"]):
    """A kept connection of the standard library, which costs a client a fifth of the time of httpx's."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def get(self, path: str) -> bytes:
        return self._answer("GET", path)

    def post(self, path: str, data: object) -> bytes:
        """Post ``data`` as JSON, text as a form."""
        if isinstance(data, str):
            return self._answer("POST", path, data)
        return self._answer("POST", path, json.dumps(data), {"Content-Type": "application/json"})

    def leave(self, path: str, form: str | None = None) -> None:
        """Ask, and close the connection before the answer."""
        self.connection.request("GET" if form is None else "POST", path, form)
        if form is None:
            self.connection.getresponse()
        self.connection.close()

    def _answer(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:200]!r}")
        return content


class Load:
    """The answers to all clients of one server."""

    def __init__(self, url: str, count: int, leave: bool, route: str, folder: Path) -> None:
        self.url, self.count, self.leave, self.route, self.folder = url, count, leave, route, folder
        self.lock = threading.Lock()
        self.seconds: list[float] = []
        self.by_kind: dict[str, list[float]] = {}
        self.by_client: Counter[int] = Counter()
        self.errors: list[str] = []
        with Connection(url) as server:
            info = json.loads(server.get("/gradio_api/info"))["named_endpoints"]
        self.kinds = [
            kind for kind in KINDS if kind in ("/", "image", "live") or f"/{kind.partition(',')[0]}" in info
        ]
        self.left = 0

    def client(self, number: int, deadline: float, most: int) -> None:
        """One visitor: requests until the deadline, or ``most`` of them by all visitors."""
        draws = random.Random(number)
        visit = 0  # one session for all requests of a visit, as gradio_client and the page have
        with Connection(self.url) as server:
            while time.monotonic() < deadline and len(self.seconds) + self.left < most:
                caption, seed = f"a {draws.choice(COLOURS)} bird number {number}", draws.randrange(10**6)
                shares = [KINDS[kind][0] for kind in self.kinds]
                kind = draws.choices(self.kinds, shares)[0] if self.route == "mixed" else self.route
                start = time.monotonic()
                if kind == "/":
                    self.check_other(kind, server.get(kind).decode())
                elif kind == "image":
                    content = server.get(f"/image?{urlencode({'caption': caption, 'seed': seed})}")
                    self.check_image(content, caption, seed)
                elif kind == "live":
                    fields = {"caption": caption, "seed": seed, "count": self.count}
                    if self.leave and draws.randrange(3) == 0:
                        server.leave("/live", urlencode(fields))
                        with self.lock:
                            self.left += 1
                        continue
                    value = json.loads(server.post("/live", urlencode(fields)))
                    content = base64.b64decode(value["images"][-1]["final"]["file"]["url"].partition(",")[2])
                    self.check_image(content, caption, seed + self.count - 1)
                else:
                    arguments = KINDS[kind][1]
                    values = [caption, self.count, seed, None, None, 0, 0, ""]
                    path = f"/gradio_api/call/{kind.partition(',')[0]}"
                    data = {"data": arguments(caption, seed) if arguments else values}
                    data |= {"session_hash": f"{id(self):x}-{number}-{visit}"}
                    event = json.loads(server.post(path, data))["event_id"]
                    if self.leave and draws.randrange(3) == 0:
                        server.leave(f"{path}/{event}")
                        with self.lock:
                            self.left += 1
                        visit += 1
                        continue
                    answer = server.get(f"{path}/{event}").decode()
                    if kind == "paint":
                        self.check(server, answer, caption, seed)
                    else:
                        self.check_other(kind, answer)
                with self.lock:
                    took = time.monotonic() - start
                    self.seconds.append(took)
                    self.by_kind.setdefault(kind, []).append(took)
                    self.by_client[number] += 1

    def check_other(self, kind: str, answer: str) -> None:
        """The answer holds what its kind must; that to a wrong request is an error in words."""
        wrong, held = "wrong" in kind, KINDS[kind][2]
        ended = kind.startswith("/") or ("event: error" if wrong else "event: complete") in answer
        if not ended or held not in answer or '"error": null' in answer:
            self.errors.append(f"{kind}: {answer[:300]}")

    def check(self, server: Connection, answer: str, caption: str, seed: int) -> None:
        """The last image of the answer has the settings that were asked for."""
        if "event: complete" not in answer:
            self.errors.append(answer[:200])
            return
        files, _ = json.loads(answer.rpartition("data: ")[2])
        self.check_image(server.get(urlsplit(files[-1]["url"]).path), caption, seed + self.count - 1)

    def check_image(self, content: bytes, caption: str, seed: int) -> None:
        """The PNG has the settings that were asked for."""
        file = self.folder / f"{threading.get_ident()}.png"
        file.write_bytes(content)
        found = read_png(file)
        if (found.caption, found.seed) != (caption, seed):
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
            f"{len(self.errors)} errors, {min(self.by_client.values(), default=0)} to "
            f"{max(self.by_client.values(), default=0)} answers a client"
        )

    def of_kinds(self) -> list[str]:
        """A line for each kind of request."""
        found = ((kind, np.array(waits)) for kind, waits in sorted(self.by_kind.items()))
        return [
            f"  {kind:13s} {len(waits):5d}, p50 {np.median(waits):.2f} s, p95 {np.quantile(waits, 0.95):.2f} s"
            for kind, waits in found
        ]


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
    parser.add_argument("--leave", action="store_true", help="a third of the requests are left before their answer")
    parser.add_argument(
        "--route", choices=["paint", "image", "live", "mixed"], default="paint", help="mixed: all of them"
    )
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
                url, given = f"http://127.0.0.1:{port}", (arguments.count, arguments.leave, arguments.route)
                load = Load(url, *given, Path(folder))
                print(load.run(clients, arguments.seconds, arguments.requests), end=", ")
                print(f"memory {before:.0f} -> {memory(page.pid):.0f} MB", flush=True)
                for line in load.of_kinds() if arguments.route == "mixed" else []:
                    print(line)
                for error in load.errors[:5]:
                    print(f"  {error}")
                failed += len(load.errors)
            page.terminate()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
