"""Periodic outputs of a run: log, sample sheets, state, checkpoint, short evaluations; rollbacks, full disks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stackgan.evaluation.features import FeatureNetwork
from stackgan.io.files import full_disk
from stackgan.io.run_state import STATE, newest_state, save_state
from stackgan.runtime.distributed import first_before_others, is_first, mean_over_ranks, on_first, sharded, world
from stackgan.training.batchnorm import recalibrate_batchnorm
from stackgan.training.diagnostics import Diverged, TrainingDiagnostics
from stackgan.training.log import Log
from stackgan.training.outputs import CheckpointWriter, Evaluator, SampleSheet
from stackgan.training.setup import TrainingSetup
from stackgan.training.state import ROLLBACK_RATE, RandomState
from stackgan.training.warm_start import InitialisationSource

__all__ = ["FullDisk", "PeriodicOutputs"]

CODES_MEASURED = 20_000  # captions for the quantiles of log p(c) that a checkpoint stores
SETTINGS_TO_TRY = "try a lower optim.lr_discriminator, optim.precision=fp32, or a higher loss.penalty"


class FullDisk(ValueError):
    """The disk is full and the run ends; its last saved state is kept."""


class PeriodicOutputs:
    """Periodic outputs of a run.

    Each is complete or absent, and what was written is not changed by a later failure. A full disk is reported, and
    handled as train.on_full_disk says. If several processes train, each has an object, all come to the same
    decisions, and the first one alone writes; an error there is raised in all of them.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        run_folder: Path,
        start: InitialisationSource | None,
        network: FeatureNetwork | None,
    ) -> None:
        run, prepared, encoder = setup.run, setup.prepared, setup.encoder
        config = self.config = run.config
        self.run, self.folder, self.embeddings = run, run_folder, setup.embeddings
        if is_first():
            self.viewer = SampleSheet(run_folder / "samples", prepared, encoder, config)
        heads = config.text.conditional + config.discriminator.unconditional
        self.diagnostics = TrainingDiagnostics(config.loss.adversarial, heads, explosions=config.train.rollback > 0)
        self.checkpoint = CheckpointWriter(run_folder / "checkpoint", prepared, encoder, start)
        self.evaluator = Evaluator(prepared, encoder, config, network)
        self.disk_is_full = False  # as reported
        self._resume(setup.outputs)
        kept = setup.outputs.get("measured", run.progress.step)  # a state of earlier versions does not say
        if is_first():
            self.log = Log(run_folder, self.diagnostics, run.progress, kept)
        if config.train.rollback and not setup.outputs:
            self._save_state(RandomState.now(run.device))  # the first one to go back to

    def __enter__(self) -> PeriodicOutputs:
        return self

    def __exit__(self, *_: object) -> None:
        if is_first():
            self.log.close()

    def _resume(self, saved: Any) -> None:
        """Continue from the state of the run, and from ``saved``, what the state holds of the outputs."""
        progress = self.run.progress
        self.saved = self.sampled = progress.seconds
        self.evaluated = _last_multiple(progress.seconds, 60 * self.config.eval.every)
        self.kept_step = progress.step if saved or progress.step else None  # of the last saved state
        self.recalibrated = -1  # step of the last recalibration
        self.measured: int = saved.get("measured", -1)  # step of the last evaluation
        if "diagnostics" in saved:
            self.diagnostics.restore(saved["diagnostics"])

    def log_step(self, scalars: dict[str, Tensor], bar: tqdm[Any]) -> None:
        """Log a step; raises :class:`Diverged` and :class:`FullDisk`."""
        values = _means(scalars)

        def write() -> None:
            with self._full_disk_reported("the log"):
                self.log(self.run.progress, values, bar)

        on_first(write)

    def write_what_is_due(self) -> None:
        """Write the sample sheet, an evaluation and the state if their interval in minutes of training has passed.

        An evaluation is followed by a saved state, which holds its result.
        """
        seconds, every = self.run.progress.seconds, self.config.train
        with self._random_state_kept() as random_state:
            if seconds - self.sampled >= 60 * every.sample_minutes:
                self._show()
                self.sampled = seconds
            save = seconds - self.saved >= 60 * every.save_minutes
            if self.config.eval.every and seconds - self.evaluated >= 60 * self.config.eval.every:
                self._evaluate()
                self.evaluated = _last_multiple(seconds, 60 * self.config.eval.every)
                save = True
            if save:
                self._save(random_state)
                self.saved = seconds

    def write_last(self) -> None:
        """Write the final sample sheet and the state; a complete run is then evaluated, for its model card.

        Raises:
            FullDisk: the state or the checkpoint was not written.
        """
        with self._random_state_kept() as random_state:
            self._show()
            self._save(random_state, last=True)
            complete = self.run.progress.fraction(self.config) >= 1
            if complete and self.evaluator.split is not None and self.measured != self.run.progress.step:
                self._evaluate()
                self._save(random_state, last=True)

    def roll_back(self, failure: Diverged) -> None:
        """Go back to the last saved state with lower learning rates, and save it with the rollback counted.

        Raises:
            ValueError: train.rollback does not allow (another) one, or there is no saved state.
        """
        run, allowed = self.run, self.config.train.rollback
        count, reached = run.progress.rollbacks, run.progress.step
        saved = first_before_others(lambda: newest_state(self.folder)) if count < allowed else None
        if saved is None:
            after = f" after {count} rollback{'s' if count > 1 else ''}" if count else ""
            raise ValueError(f"{failure}{after}: the last saved state is kept; {SETTINGS_TO_TRY}") from None
        run.restore(saved.state, saved.file)
        on_first(saved.set_damaged_aside)
        run.progress.rollbacks = count + 1
        self._resume(saved.state.get("outputs", {}))
        rate = ROLLBACK_RATE ** (count + 1)
        tqdm.write(
            f"{failure}: back at step {run.progress.step} with {rate:g} of the learning rates "
            f"(rollback {count + 1} of {allowed})",
            file=sys.stderr,
        )

        def write() -> None:
            with self._full_disk_reported("the log"):
                self.log.rolled_back(run.progress, self.measured, f"{failure} (at step {reached})")

        on_first(write)
        self._save_state(RandomState.now(run.device))

    @contextmanager
    def _random_state_kept(self) -> Iterator[RandomState]:
        """Restores the random generators afterwards; the value is their state as the last step left it."""
        random_state = RandomState.now(self.run.device)
        try:
            yield random_state
        finally:
            random_state.set()

    @contextmanager
    def _full_disk_reported(self, what: str, *, last: bool = False) -> Iterator[None]:
        """Report a full disk, in one sentence until a state is saved again.

        Args:
            last: raise in any case, as there is no later time to write it.
        """
        try:
            yield
        except Exception as error:
            reason = full_disk(error)
            if reason is None:
                raise
            failed = f"step {self.run.progress.step}: {what} could not be written to {self.folder} ({reason})"
            kept = f"the state of step {self.kept_step} is kept"
            if self.kept_step is None:
                kept = "no state was saved so far"
            if last or self.config.train.on_full_disk == "stop":
                raise FullDisk(f"{failed}; {kept}: free disk space, and the same command resumes") from None
            if not self.disk_is_full:
                tqdm.write(f"{failed}; {kept}, training goes on: free disk space", file=sys.stderr)
            self.disk_is_full = True

    def _recalibrate(self) -> None:
        """Recalibrate the EMA generator's BatchNorm statistics, once per step at most."""
        run, optim = self.run, self.config.optim
        if optim.standing and self.recalibrated != run.progress.step:
            self.recalibrated = run.progress.step
            with sharded():
                recalibrate_batchnorm(run.ema, self.embeddings, optim.standing, optim.batch_size)

    def _show(self) -> None:
        self._recalibrate()

        def write() -> None:
            with self._full_disk_reported("the sample sheet"):
                self.log.image(self.run.progress.step, self.viewer(self.run))

        on_first(write)

    def _save(self, random_state: RandomState, *, last: bool = False) -> None:
        run = self.run
        self._recalibrate()
        self._save_state(random_state, last=last)
        if run.model.has_code_flow and self.embeddings is not None:
            count = len(self.embeddings)
            some = np.linspace(0, count - 1, min(count, CODES_MEASURED)).astype(int)
            run.ema.measure_codes(torch.from_numpy(np.array(self.embeddings[some])).to(run.device))

        def write() -> None:
            with self._full_disk_reported("the checkpoint", last=last):
                self.checkpoint(run)

        on_first(write)

    def _save_state(self, random_state: RandomState, *, last: bool = False) -> None:
        """Save the state once the log is on the disk up to here.

        Raises:
            Diverged: a weight is not finite, so that the last saved state is the better one.
        """
        step = self.run.progress.step

        def write() -> None:
            if name := self.run.non_finite():
                raise Diverged(f"step {step}: {name} has values that are not finite")
            outputs = {"measured": self.measured, "diagnostics": self.diagnostics.state()}
            with self._full_disk_reported("the state", last=last):
                self.log.sync()
                save_state(self.folder / STATE, self.run.state(random_state) | {"outputs": outputs})
                self.kept_step = step
                if self.disk_is_full:
                    self.disk_is_full = False
                    tqdm.write(f"step {step}: the state was saved again", file=sys.stderr)

        on_first(write)

    def _evaluate(self) -> None:
        """Evaluate the EMA generator, once per step at most; the best one is kept as RUN/best, with eval.every."""
        progress = self.run.progress
        if self.measured == progress.step:
            return
        before, self.measured = progress.best, progress.step
        self._recalibrate()

        def write() -> None:
            figures, best = self.evaluator(self.run)
            with self._full_disk_reported("the log"):
                self.log.figures(progress, figures)
            if best and self.config.eval.every:
                progress.best, lowest = before, progress.best
                with self._full_disk_reported("the best checkpoint"):
                    self.checkpoint(self.run, self.folder / "best")
                    progress.best = lowest

        on_first(write)


def _means(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means of a step's scalars over processes."""
    if world() == 1 or not scalars:
        return scalars
    with sharded():
        means = mean_over_ranks(torch.stack([value.detach().float() for value in scalars.values()]))
    return dict(zip(scalars, means.unbind(), strict=True))


def _last_multiple(seconds: float, every: float) -> float:
    """The last whole multiple of ``every`` up to ``seconds``; ``seconds`` itself where ``every`` is 0."""
    return seconds - seconds % every if every else seconds
