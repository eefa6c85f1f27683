"""A process that has imported the program, and does one job after the other: JSON lines in and out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

__all__ = ["JobServer"]

ROOT = Path(__file__).resolve().parents[1]


class JobServer:
    """Runs ``python -m module`` as long as its context lasts."""

    module: ClassVar[str]

    def __enter__(self) -> Self:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", self.module]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def ask(self, job: dict[str, Any]) -> Any:
        """Its answer to a job."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())
