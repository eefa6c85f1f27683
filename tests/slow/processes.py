"""Memory of a process and its children, sampled from /proc, for the checks of this folder (Linux only)."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Memory", "stackgan", "watch"]

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 0.1  # seconds between two samples


@dataclass
class Memory:
    """Peak memory of a process in MB: resident, and the part of it that is no file's page cache.

    ``resident`` (VmRSS) counts pages of mapped files, which the system takes back when it needs them; ``own``
    (RssAnon) does not.
    """

    resident: float = 0.0
    own: float = 0.0

    def sample(self, pid: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            sizes = {name: int(rest.split()[0]) / 1000 for name, _, rest in (line.partition(":") for line in lines)
                     if name in ("VmRSS", "RssAnon")}  # fmt: skip
            self.resident = max(self.resident, sizes.get("VmRSS", 0.0))
            self.own = max(self.own, sizes.get("RssAnon", 0.0))

    def __str__(self) -> str:
        return f"{self.resident:,.0f} MB resident, {self.own:,.0f} MB without mapped files"


def stackgan(*arguments: object, log: Path) -> "subprocess.Popen[bytes]":
    """Start ``python -m stackgan …`` at low priority; its output is appended to ``log``."""
    command = ["nice", "-n", "10", sys.executable, "-m", "stackgan", *map(str, arguments)]
    with log.open("ab") as stream:
        return subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)


@contextlib.contextmanager
def _sampled(process: "subprocess.Popen[bytes]", memory: Memory):  # type: ignore[no-untyped-def]
    done = threading.Event()

    def work() -> None:
        while not done.wait(INTERVAL):
            memory.sample(process.pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def watch(arguments: Sequence[object], log: Path) -> tuple[Memory, float]:
    """Run a command to its end; returns peak memory and seconds.

    Raises:
        RuntimeError: exit code other than 0; the message ends with the last lines of the output.
    """
    memory, start = Memory(), time.perf_counter()
    process = stackgan(*arguments, log=log)
    with _sampled(process, memory):
        code = process.wait()
    if code:
        raise RuntimeError(f"exit code {code} of {arguments}:\n{log.read_text(errors='replace')[-2000:]}")
    return memory, time.perf_counter() - start
