"""Trainings in processes of their own, which are killed by SIGKILL at a chosen time or call.

A server process imports the program once and forks a process for each training, so that a kill costs no import:

    with TrainingServer() as server:
        server.train(data, run, "quickstart", ["train.images=40"], Kill(seconds=1.5))
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tests.job_server import JobServer

__all__ = ["KILLED", "Kill", "TrainingServer", "differences", "log_lines"]

KILLED = -signal.SIGKILL
# What a run does to files: renames and waits for the disk, log lines, the content of a state.
CALLS = ("os:replace", "os:fsync", "os:write", "stackgan.io.run_state:_Hashed.write")
VARY = {"seconds", "images_per_second"}  # keys of log lines that depend on the clock


@dataclass(frozen=True)
class Kill:
    """When a training is killed.

    Attributes:
        seconds: after its start.
        call, number: before this call (``module:function``), counted from 1; or after it.
    """

    seconds: float = math.inf
    call: str = ""
    number: int = 0
    after: bool = False


class TrainingServer(JobServer):
    """Starts trainings one after the other; each call returns the exit code of its process, negative for a signal."""

    module = "tests.killing"

    def train(
        self, data: Path, run: Path, preset: str, overrides: Sequence[str], kill: Kill | None = None, **more: Any
    ) -> int:
        """Train as ``stackgan train`` does; what it prints is appended to RUN.txt, the file beside the run folder.

        Args:
            more: ``limit``, the largest file in bytes that the process may write.
        """
        job = {"data": str(data), "run": str(run), "preset": preset, "overrides": list(overrides), **more}
        job["kill"] = asdict(kill or Kill())
        answer = self.ask(job)
        self.calls: dict[str, int] = answer["calls"]  # of a process that ended by itself
        self.seconds: float = answer["seconds"]
        return int(answer["code"])


def differences(one: Path, two: Path) -> list[str]:
    """Names of what differs between the states and logs of two runs, apart from times."""
    from stackgan.io.run_state import load_state

    states = []
    for run in (one, two):
        state = _flat(load_state(run / "state.pt"))
        states.append({name: value for name, value in state.items() if not name.startswith("progress/")})
        progress = load_state(run / "state.pt")["progress"]
        states[-1] |= {f"progress/{key}": progress[key] for key in ("step", "images", "rollbacks")}
    found = [name for name in states[0].keys() | states[1].keys() if not _equal(*(s.get(name) for s in states))]
    lines = [[line for line in log_lines(run) if not _is_evaluation(line)] for run in (one, two)]
    return sorted(found) + (["log.jsonl"] if lines[0] != lines[1] else [])


def log_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in VARY} for line in lines]


def _is_evaluation(line: dict[str, Any]) -> bool:
    return any(name.startswith("eval/") for name in line)


def _flat(value: object, name: str = "") -> dict[str, object]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in items for k, v in _flat(part, f"{name}/{key}" if name else str(key)).items()}
    return {name: value}


def _equal(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    return one == two


# --- the server -----------------------------------------------------------------------------------------------


def _serve() -> None:
    # before the forks; the first optimiser of a process imports torch._dynamo, which takes seconds
    for name in ("stackgan.cli.train", "stackgan.training.loop", "torch._dynamo"):
        import_module(name)
    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard  # noqa: F401
    for line in sys.stdin:
        job = json.loads(line)
        report = Path(f"{job['run']}.calls")
        report.unlink(missing_ok=True)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(job, report)
        code = _wait(child, job["kill"]["seconds"])
        calls = json.loads(report.read_text()) if report.is_file() else {}
        print(json.dumps({"code": code, "calls": calls, "seconds": time.monotonic() - began}), flush=True)


def _wait(child: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, 0 if math.isinf(seconds) else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            seconds = math.inf
        time.sleep(0.002)


def _run(job: dict[str, Any], report: Path) -> None:
    """Train in the forked process, and end it."""
    code = 70
    try:
        output = os.open(f"{job['run']}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from stackgan.cli.main import run_command

        made: Counter[str] = Counter()
        for call in CALLS:
            _count(call, made, job["kill"])
        if "limit" in job:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
        words = ["--data", job["data"], "--run", job["run"], "--preset", job["preset"], "--device", "cpu"]
        code = run_command("train", [*words, *job["overrides"]])
        report.write_text(json.dumps(made))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count(call: str, made: Counter[str], kill: dict[str, Any]) -> None:
    """Count calls of a function, and kill the process at the chosen one."""
    module, _, path = call.partition(":")
    *owners, name = path.split(".")
    owner = import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    function: Callable[..., Any] = getattr(owner, name)

    def counted(*args: Any, **named: Any) -> Any:
        made[call] += 1
        due = kill["call"] == call and kill["number"] == made[call]
        if due and not kill["after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **named)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


if __name__ == "__main__":
    _serve()
