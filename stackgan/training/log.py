"""Log of a training run: RUN/log.jsonl, the progress bar, and TensorBoard events.

Each step is logged once, however often the run was interrupted: lines after the step a run resumes at, or goes back
to, are removed, as these steps are repeated; in TensorBoard's files a start mark tells its readers to drop them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stackgan.io.appended_file import AppendedFile
from stackgan.io.files import write_atomic
from stackgan.io.json_reader import Fields, parse_json
from stackgan.training.diagnostics import Diverged, TrainingDiagnostics
from stackgan.training.state import Progress

__all__ = ["EVALUATION", "LOG", "Log"]

LOG = "log.jsonl"
EVALUATION = "eval/"  # begins the names of the metrics of evaluations in the log
ROLLBACK = "rollback"  # key of lines that report one: its number
LINE = Fields({"step": int}, {ROLLBACK: int})
_STARTS = itertools.count()  # tells apart the event files of runs that one process starts within a second


class Log:
    """Writes scalars to RUN/log.jsonl, the progress bar and TensorBoard (if it is installed).

    Only logged steps copy from the device.

    Args:
        progress: of the run; log lines after it are removed.
        measured: step of the last evaluation whose lines are kept.
    """

    def __init__(self, folder: Path, diagnostics: TrainingDiagnostics, progress: Progress, measured: int) -> None:
        self.path, self.diagnostics = folder / LOG, diagnostics
        removed = _remove_repeated(self.path, progress, measured)
        if removed:
            print(f"{LOG}: {removed} lines after step {progress.step} removed, as these steps are repeated")
        self.file = AppendedFile(self.path)
        self.board = _event_file(folder / "tensorboard", progress.step + 1)
        self.since = (time.perf_counter(), -1)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.file.close()

    def __call__(self, progress: Progress, scalars: dict[str, Tensor], bar: tqdm[Any]) -> None:
        """Log a step.

        Raises:
            Diverged: a scalar is not finite, or a loss has exploded.
            OSError: the disk is full; the line waits in memory.
        """
        values = {name: float(value) for name, value in scalars.items()}
        try:
            warnings = self.diagnostics(values)
        except Diverged as error:
            raise Diverged(f"step {progress.step}: {error}") from None
        for warning in warnings:
            tqdm.write(f"step {progress.step}: {warning}", file=sys.stderr)
        now, images = time.perf_counter(), progress.images
        if self.since[1] >= 0:
            values["images_per_second"] = (images - self.since[1]) / (now - self.since[0])
        self.since = (now, images)
        d = sum(v for k, v in values.items() if k.startswith("d") and k.endswith("/loss"))
        g = sum(v for k, v in values.items() if k.startswith("g") and k.endswith("/loss"))
        shown = {"D": f"{d:.2f}", "G": f"{g:.2f}"}
        if "g/kl" in values:
            shown["KL"] = f"{values['g/kl']:.3f}"
        bar.set_postfix(shown, refresh=False)
        line = _line(progress) | {k: round(v, 5) for k, v in values.items()}
        if warnings:
            line["troubles"] = warnings
        self._write(line, values)

    def figures(self, progress: Progress, figures: dict[str, float]) -> None:
        """Log the metrics of an evaluation as a separate line; raises ``OSError`` as a call does."""
        values = {f"{EVALUATION}{name}": value for name, value in figures.items()}
        tqdm.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()), file=sys.stderr)
        self.exclude_pause()
        self._write(_line(progress) | {name: round(value, 5) for name, value in values.items()}, values)

    def rolled_back(self, progress: Progress, measured: int, failure: str) -> None:
        """Remove what was logged after ``progress``, the state that the run went back to, and log why.

        Raises:
            OSError: the disk is full.
        """
        self.file.close()
        _remove_repeated(self.path, progress, measured)
        self.file = AppendedFile(self.path)
        if self.board is not None:
            self.board.start(progress.step + 1)
        self.exclude_pause()
        self._write(_line(progress) | {ROLLBACK: progress.rollbacks, "failure": failure}, {})

    def image(self, step: int, file: Path) -> None:
        self.exclude_pause()
        if self.board is not None:
            self.board.image(step, file)

    def sync(self) -> None:
        """Wait until all lines are on the disk; raises ``OSError`` if it is full."""
        self.file.sync()

    def exclude_pause(self) -> None:
        """Exclude the time since the last logged step from the next one's images per second."""
        self.since = (time.perf_counter(), -1)

    def _write(self, line: dict[str, Any], scalars: dict[str, float]) -> None:
        """Append a line to log.jsonl, and its scalars to TensorBoard."""
        self.file.append(json.dumps(line).encode() + b"\n")
        if self.board is not None:
            self.board.scalars(line["step"], scalars)


def _line(progress: Progress) -> dict[str, Any]:
    return {"step": progress.step, "images": progress.images, "seconds": round(progress.seconds, 1)}


def _remove_repeated(log: Path, progress: Progress, measured: int) -> int:
    """Remove lines after ``progress``, evaluations after step ``measured``, and cut lines; returns how many."""
    before = log.read_bytes() if log.is_file() else b""
    lines = [line for line in before.split(b"\n") if line.strip()]
    kept = [line for line in lines if _is_before(line, progress, measured)]
    content = b"".join(line + b"\n" for line in kept)
    if lines and content != before:
        write_atomic(log, content)
    return len(lines) - len(kept)


def _is_before(text: bytes, progress: Progress, measured: int) -> bool:
    line: Mapping[str, Any] = {}
    with contextlib.suppress(ValueError):  # a line that an interruption cut
        line = parse_json(text, LOG, LINE)
    last = measured if any(name.startswith(EVALUATION) for name in line) else progress.step
    return bool(line) and line["step"] <= last and line.get(ROLLBACK, 0) <= progress.rollbacks


class _EventFile:
    """TensorBoard event file, written in the calling thread: errors of the disk are raised there."""

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_STARTS)}"
        self.file = AppendedFile(folder / name)
        self._append(file_version="brain.Event:2")
        self.start(first_step)

    def start(self, step: int) -> None:
        """Mark a start, after which readers drop earlier events of ``step`` and later steps."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._append(step=step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import scalar

        for name, value in values.items():
            self._append(step=step, summary=scalar(name, value))

    def image(self, step: int, file: Path) -> None:
        from torch.utils.tensorboard.summary import image

        with Image.open(file) as picture:
            self._append(step=step, summary=image("samples", np.asarray(picture), dataformats="HWC"))

    def _append(self, **content: Any) -> None:
        """Append an event; one that does not fit on the disk is left out."""
        import io

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        self.file.append(record.getvalue(), keep=False)


def _event_file(folder: Path, first_step: int) -> _EventFile | None:
    """TensorBoard's file; None without the package tensorboard, which is reported on stderr."""
    try:
        from torch.utils.tensorboard import summary  # noqa: F401
    except ImportError:
        missing = 'no TensorBoard files, as tensorboard is not installed: pip install "stackgan[train]"'
        print(f"{missing}; log.jsonl has the same figures", file=sys.stderr)
        return None
    return _EventFile(folder, first_step)
