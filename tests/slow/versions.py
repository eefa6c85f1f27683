"""Answers a second of another version of the page's server and of this one, to the same clients, in alternation.

    git worktree add ../before 51c40b9
    python -m tests.slow.versions --before ../before --checkpoint painted-64 --clients 1 50

Both servers run; each client asks for its own caption and seeds, waits for the answer, and asks again. The other
version answers ``/paint`` (its arguments are read from its API), this one ``/paint``, ``/image`` and ``/live``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.app.browser import free_port
from tests.serving import serving
from tests.slow.load import COLOURS, Connection

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def serving_version(root: Path, checkpoint: str) -> Iterator[str]:
    """A server of the checkout ``root``; yields its address."""
    port = free_port()
    command = [sys.executable, "app.py", "--checkpoint", str(root / "checkpoints" / checkpoint), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with serving(command, cwd=root, env=environment) as printed:
        printed.readline()
        yield f"http://127.0.0.1:{port}"


class Clients:
    """Clients of one route of a server."""

    def __init__(self, url: str, route: str, count: int) -> None:
        self.url, self.route, self.count = url, route, count
        with Connection(url) as server:
            info = json.loads(server.get("/gradio_api/info"))["named_endpoints"]["/paint"]
        self.parameters = info["parameters"]

    def run(self, clients: int, seconds: float) -> tuple[float, float]:
        """Answers a second, and the median of the waiting times."""
        waits: list[float] = []
        start = time.monotonic()
        threads = [
            threading.Thread(target=self._client, args=(number, start + seconds, waits)) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(waits) / (time.monotonic() - start), statistics.median(waits)

    def _client(self, number: int, deadline: float, waits: list[float]) -> None:
        draws = random.Random(number)
        with Connection(self.url) as server:
            while time.monotonic() < deadline:
                caption = f"a {draws.choice(COLOURS)} bird number {number}"
                fields = {"caption": caption, "seed": draws.randrange(10**6 - 16), "truncation": 1}
                start = time.monotonic()
                if self.route == "/image":
                    server.get(f"/image?{urlencode(fields)}")
                elif self.route == "/live":
                    json.loads(server.post("/live", urlencode(fields | {"count": self.count})))["images"]
                else:
                    self._paint(server, fields | {"count": self.count, "keep": True}, f"{id(self):x}-{number}")
                waits.append(time.monotonic() - start)

    def _paint(self, server: Connection, fields: dict[str, Any], session: str) -> None:
        """Of this version the answer has files, which are fetched; another may answer with the images themselves."""
        path = "/gradio_api/call/paint"
        data = [fields.get(each["parameter_name"], each["parameter_default"]) for each in self.parameters]
        event = json.loads(server.post(path, {"data": data, "session_hash": session}))["event_id"]
        answer = server.get(f"{path}/{event}").decode()
        assert "event: complete" in answer, answer[:300]
        files = json.loads(answer.rpartition("data: ")[2])[0]
        for file in files if isinstance(files, list) else []:
            server.get(urlsplit(file["url"]).path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the other version")
    parser.add_argument("--checkpoint", default="painted-64", help="name, in the folder checkpoints of both")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--count", type=int, default=1, help="images of a request; those of /image are always one")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each number of clients")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    before = arguments.before.resolve()
    with serving_version(before, arguments.checkpoint) as other, serving_version(ROOT, arguments.checkpoint) as this:
        loads = {"before": Clients(other, "/paint", arguments.count)}
        loads |= {route: Clients(this, route, arguments.count) for route in ("/paint", "/image", "/live")}
        for load in loads.values():
            load.run(2, 1)  # the first answers take longer
        for clients in arguments.clients:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in loads}
            for _ in range(arguments.rounds):
                for name, load in loads.items():
                    found[name].append(load.run(clients, arguments.seconds))
            first = statistics.median(rate for rate, _ in found["before"])
            for name, figures in found.items():
                rate, wait = (statistics.median(values) for values in zip(*figures, strict=True))
                rates = ", ".join(f"{each:.1f}" for each, _ in figures)
                print(f"{clients:3d} clients, {name:7s} {rate:6.1f} a second ({rates}), ", end="")
                print(f"{rate / first:.2f} ×, p50 {wait:.2f} s", flush=True)


if __name__ == "__main__":
    main()
