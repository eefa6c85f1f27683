"""Jobs of several processes, as a launcher starts them: forked from one that has imported the program.

    with Ranks() as ranks:
        codes = ranks(2, "tests.training.shared_steps:main", str(folder))

The server process imports the program once, so that a job costs no import.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.job_server import JobServer

__all__ = ["Ranks"]


class Ranks(JobServer):
    """Starts jobs one after the other."""

    module = "tests.ranks"

    def __call__(self, count: int, function: str, *arguments: str, output: Path) -> list[int]:
        """Call ``module:function`` with ``arguments`` in ``count`` processes that are each other's ranks.

        Its result is a process's exit code, in the list by rank; what process r prints is written to OUTPUT.r.
        """
        job = {"count": count, "function": function, "arguments": arguments, "output": str(output)}
        return [int(code) for code in self.ask(job)]


def _serve() -> None:
    # before the forks; the first optimiser of a process imports torch._dynamo, which takes seconds
    for name in ("stackgan.cli.train", "stackgan.training.loop", "torch._dynamo"):
        import_module(name)
    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard  # noqa: F401
    for line in sys.stdin:
        job = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(job["count"]):
            child = os.fork()
            if child == 0:
                _run(rank, port, **job)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def _run(rank: int, port: int, count: int, function: str, arguments: Sequence[str], output: str) -> None:
    """Call the function in the forked process, and end it."""
    code = 70
    try:
        descriptor = os.open(f"{output}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if count > 1:
            named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
            os.environ.update({key: str(value) for key, value in named.items()} | {"MASTER_ADDR": "127.0.0.1"})
        module, _, name = function.partition(":")
        code = getattr(import_module(module), name)(*arguments) or 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
