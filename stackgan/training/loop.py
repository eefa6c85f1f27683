"""The training loop, top to bottom: data → discriminators → generator → average → log → samples → save.

A run folder holds ``config.json`` (resolved), ``text/`` (the run's caption encoder), ``state.pt`` (private, for
resuming), ``checkpoint/`` (published, the average), ``best/`` (the best average, with eval.every), ``samples/*.png``,
``log.jsonl`` and ``tensorboard/``. Running the same command again goes on where the run stopped.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from stackgan.captions.augmentation import augmented_captions
from stackgan.captions.hard_negatives import swapped_captions
from stackgan.checkpoint import load_state, save_state
from stackgan.config import Config
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.sampler import AugmentedCaptions, Sampler, WrongPairs
from stackgan.io.files import write_atomic
from stackgan.pipeline import chosen_device
from stackgan.text.base import TextEncoder
from stackgan.text.compact import CompactEncoder
from stackgan.text.load import caption_embeddings, encoder_kind, load_text_encoder, new_text_encoder
from stackgan.training.batchnorm import standing_statistics
from stackgan.training.diagnostics import Health
from stackgan.training.outputs import Evaluator, Log, Publisher, SampleSheet
from stackgan.training.state import Run
from stackgan.training.step import train_step
from stackgan.training.warm_start import Start, copy_text_encoder

__all__ = ["train"]

CODES_MEASURED = 20_000  # captions whose density under p(c) a checkpoint remembers the quantiles of

# Keys that may differ when a run is resumed: how long, how often and in how much memory, not what is trained.
FREE_ON_RESUME = (
    "optim.checkpointing",
    "optim.compile",
    "eval.every",
    "eval.count",
    "eval.features",
    "train.images",
    "train.minutes",
    "train.save_minutes",
    "train.sample_minutes",
    "train.log_steps",
)


def train(
    data: Path,
    run_folder: Path,
    config: Config,
    *,
    start: Start | None = None,
    dry_run: bool = False,
    device: str | None = None,
    stop_after: float = math.inf,
) -> int:
    """Train, or go on training, in ``run_folder``.

    Returns 0 when the run is done; having saved, 3 when ``stop_after`` ended this call, 130 when a signal did.

    Args:
        data: a prepared folder.
        config: text.dim may be 0; the resolved configuration is printed and saved before the first step.
        start: weights and caption encoder to begin with; a run that is resumed has its own.
        dry_run: stop there.
        stop_after: minutes after which this call saves and ends, counted from its beginning. One step is always
            made, so that a run in pieces comes to its end however short they are.

    Raises:
        FileNotFoundError, ValueError: the data or the configuration do not allow the run; nothing is lost.
    """
    called = time.monotonic()
    prepared = PreparedFolder.open(data)
    split = prepared.train
    _check_data(prepared, config)
    where = chosen_device(device)
    if dry_run:
        print(config.to_json(), end="")
        return 0
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{run_folder}: cannot be made a run folder ({error.strerror}); name another") from None
    if start is not None:
        copy_text_encoder(start, run_folder)
    encoder, embeddings, config = prepare_text(run_folder, split, config, where)
    config = _settle_config(run_folder, prepared, config)
    print(config.to_json(), end="")

    sampler = Sampler(
        split,
        embeddings,
        size=config.tree.sizes[-1],
        batch_size=config.optim.batch_size,
        seed=config.train.seed,
        wrong=WrongPairs(
            config.loss.mismatch, config.loss.mismatch_hard, _swapped_embeddings(split, encoder, config)
        ),
        augmented=_augmented(split, encoder, config),
        device=where,
    )
    run = Run.start(config, where)
    if config.loss.contrast:
        run.reader = cast(CompactEncoder, encoder).to(where)
    state_file = run_folder / "state.pt"
    if state_file.exists():
        run.restore(load_state(state_file), state_file)
        print(f"resuming at step {run.progress.step}, {run.progress.images} images seen")
    elif start is not None:
        new = run.start_from(start)
        print(f"starting from {start.folder}; new here: {', '.join(new) or 'nothing'}")
        if "discriminators" in new and not config.optim.discriminator_first:
            print("they will spoil the generator before they have learned: try optim.discriminator_first=100000")
    elif embeddings is not None and config.text.standardise:
        measured = torch.from_numpy(np.array(embeddings)).to(where)  # a copy: the cache is read-only
        run.model.standardise.measure(measured)
        run.average.standardise.measure(measured)
    viewer = SampleSheet(run_folder / "samples", prepared, encoder, config)
    heads = config.text.conditional + config.discriminator.unconditional
    log = Log(run_folder, run.progress.step, Health(config.loss.adversarial, heads))
    publisher = Publisher(run_folder / "checkpoint", prepared, encoder, start)
    evaluator = Evaluator(prepared, encoder, config) if config.eval.every else None

    settled = -1  # the step after which the average was

    def settle() -> None:
        """Make the average ready to be looked at."""
        nonlocal settled
        if config.optim.standing and settled != run.progress.step:
            settled = run.progress.step
            standing_statistics(run.average, embeddings, config.optim.standing, config.optim.batch_size)

    def save() -> None:
        save_state(state_file, run.state())
        if run.model.has_code_flow and embeddings is not None:
            some = np.linspace(0, len(embeddings) - 1, min(len(embeddings), CODES_MEASURED)).astype(int)
            run.average.measure_codes(torch.from_numpy(np.array(embeddings[some])).to(where))
        publisher(run)

    with _interruptible() as stop, log, _progress_bar(run) as bar:
        saved = sampled = run.progress.seconds
        evaluated = _last_multiple(run.progress.seconds, 60 * config.eval.every)  # whatever calls the run is cut into
        late = False
        while run.progress.fraction(config) < 1 and not stop and not late:
            began = time.perf_counter()
            batch = sampler.batch(run.progress.step)
            scalars = train_step(run, batch)
            run.progress.step += 1
            run.progress.images += config.optim.batch_size
            run.progress.seconds += time.perf_counter() - began

            if run.progress.step % config.train.log_steps == 0:
                log(run.progress, scalars, bar)
                bar.total = max(round(run.progress.images / run.progress.fraction(config)), run.progress.images)
            to_show = run.progress.seconds - sampled >= 60 * config.train.sample_minutes
            to_save = run.progress.seconds - saved >= 60 * config.train.save_minutes
            to_evaluate = config.eval.every and run.progress.seconds - evaluated >= 60 * config.eval.every
            if to_show or to_save or to_evaluate:
                settle()
            if to_show:
                log.image(run.progress.step, viewer(run))
                sampled = run.progress.seconds
            if to_save:
                save()
                saved = run.progress.seconds
            if evaluator is not None and to_evaluate:
                figures, best = evaluator(run)
                log.figures(run.progress, figures)
                if best:
                    publisher(run, run_folder / "best")
                evaluated = _last_multiple(run.progress.seconds, 60 * config.eval.every)
            bar.update(config.optim.batch_size)
            late = time.monotonic() - called >= 60 * stop_after
        settle()
        log.image(run.progress.step, viewer(run))
        save()
    if stop:
        print(f"stopped and saved at step {run.progress.step}; the same command goes on from here")
        return 130
    if run.progress.fraction(config) < 1:
        print(f"time is up: saved at step {run.progress.step}; the same command goes on from here")
        return 3
    minutes = run.progress.seconds / 60
    print(f"done: {run.progress.images} images in {minutes:.1f} min; checkpoint in {publisher.folder}")
    return 0


def _last_multiple(seconds: float, every: float) -> float:
    """The last whole multiple of ``every`` up to ``seconds``; ``seconds`` itself where ``every`` is 0."""
    return seconds - seconds % every if every else seconds


# --- before the first step ----------------------------------------------------------------------------------


def _check_data(prepared: PreparedFolder, config: Config) -> None:
    if config.loss.contrast and not encoder_kind(config.text.encoder)[0].image_tower:
        raise ValueError(
            f"loss.contrast is {config.loss.contrast} and text.encoder {config.text.encoder!r}: only the compact "
            "encoder has an image tower; use text.encoder=compact or loss.contrast=0"
        )
    if prepared.size != config.tree.sizes[-1]:
        stages = int(math.log2(max(prepared.size, 64) / 64)) + 1
        raise ValueError(
            f"{prepared.path}: prepared for {prepared.size} px, the tree ends at {config.tree.sizes[-1]} px; "
            f"prepare with --size {config.tree.sizes[-1]} or train with tree.stages={stages}"
        )


def prepare_text(
    run_folder: Path, split: PreparedSplit, config: Config, device: torch.device | None = None
) -> tuple[TextEncoder | None, NDArray[np.float32] | None, Config]:
    """The run's text encoder (trained now, loaded, or None), all training embeddings, and text.dim filled in."""
    name = config.text.encoder
    folder, saved = run_folder / "text", encoder_kind(name)[0].load is not None
    if saved and folder.is_dir():
        encoder: TextEncoder | None = load_text_encoder(str(folder), config.text.pooling)
    else:
        encoder = new_text_encoder(split, config)
        if encoder is None:
            return None, None, config
        if saved:
            encoder.save(folder)
    assert encoder is not None
    if device is not None:
        encoder.to(device)
    embeddings = caption_embeddings(split, encoder)
    dim = int(embeddings.shape[1])
    if config.text.dim not in (0, dim):
        raise ValueError(f"text.dim is {config.text.dim}, but {name} gives {dim} dimensions: leave it at 0")
    return encoder if saved else None, embeddings, replace(config, text=replace(config.text, dim=dim))


def _swapped_embeddings(
    split: PreparedSplit, encoder: TextEncoder | None, config: Config
) -> NDArray[np.float32] | None:
    """Embeddings of captions with two words swapped, where the run has a use for them and an encoder."""
    if encoder is None or config.loss.mismatch != "caption" or not config.loss.mismatch_hard:
        return None
    pairs = zip(split.captions, swapped_captions(split.captions, seed=0), strict=True)
    return caption_embeddings(split, encoder, texts=("swapped", [other or caption for caption, other in pairs]))


def _augmented(split: PreparedSplit, encoder: TextEncoder | None, config: Config) -> AugmentedCaptions | None:
    """Augmented captions, where the run is to see some."""
    if encoder is None or not config.text.reword:
        return None
    augmented = augmented_captions(split.captions, seed=0)
    embeddings = caption_embeddings(split, encoder, texts=("reworded", [caption.text for caption in augmented]))
    return AugmentedCaptions(embeddings, [caption.words for caption in augmented], config.text.reword)


def _settle_config(run_folder: Path, prepared: PreparedFolder, config: Config) -> Config:
    """Save the resolved configuration, or compare it with the one this run was started with."""
    file = run_folder / "config.json"
    now = {"data": prepared.identity, **config.to_dict()}
    if file.exists():
        try:
            before = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: not valid JSON ({error}); start a new run folder") from None
        before = _with_defaults(before, now)
        changed = sorted(_flat(before).items() ^ _flat(now).items(), key=lambda item: item[0])
        changed = [item for item in changed if item[0] not in FREE_ON_RESUME]
        if changed:
            key = changed[0][0]
            raise ValueError(
                f"{run_folder}: this run was started with {key}={_flat(before).get(key)!r}, now it is "
                f"{_flat(now).get(key)!r}; give the same settings to resume, or another --run folder"
            )
    write_atomic(file, (json.dumps(now, indent=2) + "\n").encode())
    return config


def _with_defaults(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """``before`` with the defaults of keys that are younger than the run: they stand for what was done then."""
    defaults = Config().to_dict()
    return before | {
        section: {key: defaults[section][key] for key in keys} | before.get(section, {})
        for section, keys in now.items()
        if isinstance(keys, dict)
    }


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update({f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value})
    return flat


# --- process ------------------------------------------------------------------------------------------------


class _Stop:
    """Set by the first Ctrl-C or SIGTERM; the step in hand is finished and everything saved."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:  # the second time, at once
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress_bar(run: Run) -> tqdm[Any]:
    config = run.config.train
    return tqdm(total=config.images, initial=run.progress.images, unit="img", smoothing=0.05, dynamic_ncols=True)
