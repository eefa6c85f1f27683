"""The training loop, top to bottom: data → discriminators → generator → EMA → log → samples → save.

A run folder holds ``config.json`` (resolved), ``text/`` (the run's caption encoder), ``state.pt`` (private, for
resuming), ``checkpoint/`` (the EMA of G, to generate images), ``best/`` (the best EMA, with eval.every),
``samples/*.png``, ``log.jsonl`` and ``tensorboard/``. The same command resumes a stopped run.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stackgan.checkpoint import save_state
from stackgan.config import Config
from stackgan.data.prepared import PreparedFolder
from stackgan.runtime.device import chosen_device
from stackgan.training.batchnorm import recalibrate_batchnorm
from stackgan.training.diagnostics import TrainingDiagnostics
from stackgan.training.outputs import CheckpointWriter, Evaluator, Log, SampleSheet
from stackgan.training.setup import TrainingSetup, check_data, set_up
from stackgan.training.state import RandomState, Run
from stackgan.training.step import train_step
from stackgan.training.warm_start import InitialisationSource

__all__ = ["train"]

CODES_MEASURED = 20_000  # captions for the quantiles of log p(c) that a checkpoint stores
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

    Raises:
        FileNotFoundError, ValueError: the data or the configuration are not valid; files of the run are left
            unchanged.
    """
    deadline = time.monotonic() + 60 * stop_after
    prepared = PreparedFolder.open(data)
    check_data(prepared, config)
    where = chosen_device(device)
    if dry_run:
        print(config.to_json(), end="")
        return DONE
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{run_folder}: cannot be created ({error.strerror}); name another") from None
    setup = set_up(prepared, run_folder, config, start, where)
    run, config = setup.run, setup.run.config
    outputs = _Outputs(setup, run_folder, start)

    with _interruptible() as stop, outputs.log, _progress_bar(run) as bar:
        late = False
        while run.progress.fraction(config) < 1 and not stop and not late:
            began = time.perf_counter()
            batch = setup.sampler.batch(run.progress.step)
            scalars = train_step(run, batch)
            run.progress.step += 1
            run.progress.images += config.optim.batch_size
            run.progress.seconds += time.perf_counter() - began

            if run.progress.step % config.train.log_steps == 0:
                outputs.log(run.progress, scalars, bar)
                bar.total = max(round(run.progress.images / run.progress.fraction(config)), run.progress.images)
            outputs.write_what_is_due()
            bar.update(config.optim.batch_size)
            late = time.monotonic() >= deadline
        outputs.write_last()
    return _report_end(run, bool(stop), outputs.checkpoint.folder)


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


class _Outputs:
    """Periodic outputs of a run: sample sheets, state, checkpoint, short evaluations."""

    def __init__(self, setup: TrainingSetup, run_folder: Path, start: InitialisationSource | None) -> None:
        run, prepared, encoder = setup.run, setup.prepared, setup.encoder
        config = self.config = run.config
        self.run, self.folder, self.embeddings = run, run_folder, setup.embeddings
        self.viewer = SampleSheet(run_folder / "samples", prepared, encoder, config)
        heads = config.text.conditional + config.discriminator.unconditional
        self.log = Log(run_folder, run.progress.step, TrainingDiagnostics(config.loss.adversarial, heads))
        self.checkpoint = CheckpointWriter(run_folder / "checkpoint", prepared, encoder, start)
        self.evaluator = Evaluator(prepared, encoder, config)
        self.saved = self.sampled = run.progress.seconds
        self.evaluated = _last_multiple(run.progress.seconds, 60 * config.eval.every)
        self.recalibrated = self.measured = -1  # step of the last recalibration, of the last evaluation

    def write_what_is_due(self) -> None:
        """Write the sample sheet, the state and an evaluation if their interval in minutes of training has passed."""
        seconds, every = self.run.progress.seconds, self.config.train
        with self._random_state_kept():
            if seconds - self.sampled >= 60 * every.sample_minutes:
                self._show()
                self.sampled = seconds
            if seconds - self.saved >= 60 * every.save_minutes:
                self._save()
                self.saved = seconds
            if self.config.eval.every and seconds - self.evaluated >= 60 * self.config.eval.every:
                self._evaluate()
                self.evaluated = _last_multiple(seconds, 60 * self.config.eval.every)

    def write_last(self) -> None:
        """Write the final sample sheet and the state; a complete run is then evaluated, for its model card."""
        with self._random_state_kept():
            self._show()
            self._save()
            if self.run.progress.fraction(self.config) >= 1 and self.evaluator.split is not None:
                self._evaluate()
                self._save()

    @contextmanager
    def _random_state_kept(self) -> Iterator[None]:
        """Restores the random generators afterwards; a state saved meanwhile holds them as the last step left them."""
        self.random_state = RandomState.now(self.run.device)
        try:
            yield
        finally:
            self.random_state.set()

    def _recalibrate(self) -> None:
        """Recalibrate the EMA generator's BatchNorm statistics, once per step at most."""
        run, optim = self.run, self.config.optim
        if optim.standing and self.recalibrated != run.progress.step:
            self.recalibrated = run.progress.step
            recalibrate_batchnorm(run.ema, self.embeddings, optim.standing, optim.batch_size)

    def _show(self) -> None:
        self._recalibrate()
        self.log.image(self.run.progress.step, self.viewer(self.run))

    def _save(self) -> None:
        run = self.run
        self._recalibrate()
        save_state(self.folder / "state.pt", run.state(self.random_state))
        if run.model.has_code_flow and self.embeddings is not None:
            count = len(self.embeddings)
            some = np.linspace(0, count - 1, min(count, CODES_MEASURED)).astype(int)
            run.ema.measure_codes(torch.from_numpy(np.array(self.embeddings[some])).to(run.device))
        self.checkpoint(run)

    def _evaluate(self) -> None:
        """Evaluate the EMA generator, once per step at most; the best one is kept as RUN/best, with eval.every."""
        if self.measured == self.run.progress.step:
            return
        self.measured = self.run.progress.step
        self._recalibrate()
        figures, best = self.evaluator(self.run)
        self.log.figures(self.run.progress, figures)
        if best and self.config.eval.every:
            self.checkpoint(self.run, self.folder / "best")


def _last_multiple(seconds: float, every: float) -> float:
    """The last whole multiple of ``every`` up to ``seconds``; ``seconds`` itself where ``every`` is 0."""
    return seconds - seconds % every if every else seconds


# --- process ------------------------------------------------------------------------------------------------


class _Stop:
    """Set by the first Ctrl-C or SIGTERM; the current step is completed and the state saved."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    stop = _Stop()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.requested:  # the second signal ends the process at once
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress_bar(run: Run) -> tqdm[Any]:
    config = run.config.train
    return tqdm(total=config.images, initial=run.progress.images, unit="img", smoothing=0.05, dynamic_ncols=True)
