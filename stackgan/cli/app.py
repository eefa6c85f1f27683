"""``stackgan app``: the web page; and ``python app.py``, which is the same with a checkpoint of its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["add_arguments", "main", "run"]

DEFAULT_CHECKPOINT = Path("checkpoints") / "birds-64"  # where the current folder is this repository
PROGRAM = "app.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", type=Path, help=f"published checkpoint folder (default: {DEFAULT_CHECKPOINT})"
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    parser.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C.

    Raises:
        FileNotFoundError: no checkpoint was given, and there is none at the default.
        ValueError: see :func:`stackgan.app.server.serve`.
    """
    if args.checkpoint is None and not DEFAULT_CHECKPOINT.is_dir():
        raise FileNotFoundError(
            f"--checkpoint is missing, and there is no {DEFAULT_CHECKPOINT} here: "
            "give the folder of a published checkpoint, such as RUN/checkpoint after training"
        )
    from stackgan.app.server import serve

    given = {name: value for name in ("host", "port", "device") if (value := getattr(args, name)) is not None}
    serve(args.checkpoint or DEFAULT_CHECKPOINT, **given)
    return 0


def main(arguments: Sequence[str] | None = None, *, checkpoint: Path | None = None) -> int:
    """The program app.py, with a default checkpoint; returns the exit code, 2 for what cannot work."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Paint pictures from words in a browser.")
    add_arguments(parser)
    parser.set_defaults(checkpoint=checkpoint)
    args = parser.parse_args(arguments)
    try:
        return run(args)
    except (ValueError, OSError) as error:
        if os.environ.get("STACKGAN_TRACEBACK"):
            raise
        print(f"{PROGRAM}: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while it was still starting
        return 130
