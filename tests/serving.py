"""Programs that serve the page, in processes of their own."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

__all__ = ["serving"]


@contextmanager
def serving(command: Sequence[str], *, stop: signal.Signals = signal.SIGINT, **options: Any) -> Iterator[IO[str]]:
    """Run ``command`` within the context; the value is its standard output.

    At a normal exit of the context the signal ``stop`` has to end it with exit code 0.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout is not None
    try:
        yield process.stdout
        process.send_signal(stop)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
