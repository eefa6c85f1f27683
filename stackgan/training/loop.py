"""The training loop, top to bottom: data → discriminators → generator → EMA → log → samples → save.

A run folder holds ``config.json`` (resolved), ``text/`` (the run's caption encoder), ``state.pt`` and
``state.previous.pt`` (private, for resuming), ``checkpoint/`` (the EMA of G, to generate images), ``best/`` (the best
EMA, with eval.every), ``samples/*.png``, ``log.jsonl``, ``tensorboard/``, and while it is trained ``train.lock``. The
same command resumes a stopped run, which then equals one that was never stopped, bit for bit (tests/slow/README.md).
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from stackgan.config import Config
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.features import FeatureNetwork, load_features
from stackgan.io.files import clear_leftovers
from stackgan.io.folder_lock import folder_lock
from stackgan.io.run_state import STATE
from stackgan.runtime.distributed import first_before_others, greatest, is_first, on_first, processes
from stackgan.runtime.precision import bf16_is_fast
from stackgan.training.diagnostics import Diverged
from stackgan.training.log import LOG
from stackgan.training.periodic_outputs import PeriodicOutputs
from stackgan.training.setup import TrainingSetup, check_agreement, check_data, check_share, set_up
from stackgan.training.state import Run
from stackgan.training.step import train_step
from stackgan.training.warm_start import InitialisationSource

__all__ = ["train"]

WRITTEN = {STATE, LOG, "config.json", "checkpoint", "best", "text"}  # in a run folder, by training alone
DONE, MORE_TO_DO, INTERRUPTED = 0, 3, 130  # exit codes


def train(
    data: Path,
    run_folder: Path,
    config: Config,
    *,
    start: InitialisationSource | None = None,
    dry_run: bool = False,
    device: str | None = None,
    stop_after: float = math.inf,
    trust_remote_code: bool = False,
) -> int:
    """Start or resume a training run in ``run_folder``.

    Returns 0 when the run is complete, 3 when ``stop_after`` ended this call, 130 when a signal did; the state is
    saved in each case.

    Args:
        data: a prepared folder.
        config: text.dim may be 0; the resolved configuration is printed and saved before the first step.
        start: initial weights and caption encoder; ignored when a run is resumed.
        dry_run: return after printing and saving the configuration.
        stop_after: minutes after which this call saves and returns, counted from its beginning. Each call makes at
            least one step, so that a run split into calls of any length makes progress.
        trust_remote_code: execute the Python file of a folder that ``eval.features`` names.

    Raises:
        FileNotFoundError, ValueError: the data or the configuration are not valid, or another process is training in
            ``run_folder``; files of the run are left unchanged.
        ValueError: the run diverged, or the disk is full; the last saved state is kept.
    """
    deadline = time.monotonic() + 60 * stop_after
    with processes(device) as where, _quiet_unless_first():
        prepared, network = first_before_others(lambda: _check(data, config, trust_remote_code=trust_remote_code))
        if dry_run:
            print(config.to_json(), end="")
            return DONE
        with _run_folder(run_folder):
            setup = first_before_others(lambda: set_up(prepared, run_folder, config, start, where))
            check_agreement(setup.run)
            if setup.run.config.optim.precision == "bf16" and not bf16_is_fast(where):
                print(
                    "optim.precision=bf16: this processor has no bfloat16 instructions; fp32 is used, which is faster"
                )
            outputs = PeriodicOutputs(setup, run_folder, start, network)
            with _interruptible() as stop, outputs, _progress_bar(setup.run) as bar:
                while True:
                    try:
                        _take_steps(setup, outputs, bar, stop, deadline)
                        break
                    except Diverged as failure:
                        outputs.roll_back(failure)
            return _report_end(setup.run, bool(stop), outputs.checkpoint.folder)


def _check(data: Path, config: Config, *, trust_remote_code: bool) -> tuple[PreparedFolder, FeatureNetwork | None]:
    """Open the prepared folder and the network of eval.features; ``ValueError`` if they do not fit ``config``."""
    prepared = PreparedFolder.open(data)
    check_data(prepared, config)
    check_share(config)
    if not config.eval.features:
        return prepared, None
    return prepared, load_features(config.eval.features, trust_remote_code=trust_remote_code)


def _take_steps(setup: TrainingSetup, outputs: PeriodicOutputs, bar: tqdm[Any], stop: _Stop, deadline: float) -> None:
    """Train until the run is complete, a stop is requested or the deadline has passed; then write the last outputs.

    Several processes agree on the seconds of a step and on a stop after each step, so that all do the same.

    Raises:
        Diverged: the run may go back to its last saved state.
        FullDisk: the run ends, its last saved state is kept.
    """
    run, config, late = setup.run, setup.run.config, False
    while run.progress.fraction(config) < 1 and not stop and not late:
        began = time.perf_counter()
        batch = setup.sampler.batch(run.progress.step)
        scalars = train_step(run, batch)
        run.progress.step += 1
        run.progress.images += config.optim.batch_size
        run.progress.seconds += greatest(time.perf_counter() - began)[0]

        if run.progress.step % config.train.log_steps == 0:
            outputs.log_step(scalars, bar)
            bar.total = max(round(run.progress.images / run.progress.fraction(config)), run.progress.images)
        outputs.write_what_is_due()
        bar.n = run.progress.images
        bar.update(0)
        ended = greatest(stop.requested, time.monotonic() >= deadline)
        stop.requested, late = bool(ended[0]), bool(ended[1])
    outputs.write_last()


@contextmanager
def _run_folder(run_folder: Path) -> Iterator[None]:
    """Create and lock the run folder, and remove what killed saves left: in the first process, for all."""

    def enter() -> None:
        try:
            run_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{run_folder}: cannot be created ({error.strerror}); name another") from None
        ended = held.enter_context(folder_lock(run_folder))
        if ended:
            print(f"{run_folder}: {ended}")
        _clear_leftovers(run_folder)

    with ExitStack() as held:
        on_first(enter)
        yield


def _clear_leftovers(run_folder: Path) -> None:
    """Remove temporary files of killed saves; the lock of the folder is held, so that no other process uses them."""
    cleared = clear_leftovers(run_folder, WRITTEN.__contains__)
    if (run_folder / "samples").is_dir():
        cleared += clear_leftovers(run_folder / "samples", lambda name: name.endswith(".png"))
    if cleared:
        print(f"{run_folder}: removed what an interrupted save left: {', '.join(cleared)}")


def _report_end(run: Run, stopped: bool, checkpoint: Path) -> int:
    """Print how the call ended; returns its exit code."""
    if stopped:
        print(f"stopped and saved at step {run.progress.step}; the same command resumes from here")
        return INTERRUPTED
    if run.progress.fraction(run.config) < 1:
        print(f"time limit reached: saved at step {run.progress.step}; the same command resumes from here")
        return MORE_TO_DO
    minutes = run.progress.seconds / 60
    print(f"done: {run.progress.images} images in {minutes:.1f} min; checkpoint in {checkpoint}")
    return DONE


# --- process ------------------------------------------------------------------------------------------------


class _Stop:
    """Set by the first Ctrl-C or SIGTERM; the current step is completed and the state saved.

    Attributes:
        requested: by a signal to this process or, from the end of a step on, to another one of the job.
        received: whether this process got a signal.
    """

    def __init__(self) -> None:
        self.requested = self.received = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    stop = _Stop()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.received:  # the second signal ends the process at once
            raise KeyboardInterrupt
        stop.requested = stop.received = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_unless_first() -> Iterator[None]:
    """Discard what other processes than the first print; errors are printed by the caller, outside of the context."""
    if is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _progress_bar(run: Run) -> tqdm[Any]:
    config = run.config.train
    return tqdm(total=config.images, initial=run.progress.images, unit="img", smoothing=0.05, dynamic_ncols=True)
