"""Setup of a run: checks data and configuration, embeds captions, creates or restores the networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from stackgan.captions.augmentation import augmented_captions
from stackgan.captions.hard_negatives import swapped_captions
from stackgan.config import Config
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.sampler import AugmentedCaptions, Sampler, WrongPairs, check_trainable
from stackgan.io.files import write_atomic
from stackgan.io.json_reader import OBJECT, Fields, read_json
from stackgan.io.run_state import newest_state
from stackgan.io.spool import StringSpool
from stackgan.latent.priors import PRIORS, trainable
from stackgan.model import check_choices, has_posterior
from stackgan.runtime.distributed import greatest, rank, world
from stackgan.text.base import TextEncoder
from stackgan.text.compact import CompactEncoder
from stackgan.text.load import ENCODERS, caption_embeddings, encoder_kind, load_text_encoder, new_text_encoder
from stackgan.training.state import Run
from stackgan.training.warm_start import InitialisationSource, copy_text_encoder

__all__ = ["TrainingSetup", "check_agreement", "check_data", "check_share", "prepare_text", "set_up"]

# Keys that may differ when a run is resumed: duration, intervals and memory use, but not the model or its losses.
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
    "train.rollback",
    "train.on_full_disk",
)


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that the training loop needs.

    Attributes:
        encoder: of captions; None for unconditional training and precomputed embeddings.
        embeddings: of the training captions, (captions, T); None for unconditional training.
        run: new or restored.
        outputs: what the saved state holds of :class:`stackgan.training.periodic_outputs.PeriodicOutputs`; empty for
            a new run.
    """

    prepared: PreparedFolder
    encoder: TextEncoder | None
    embeddings: NDArray[np.float32] | None
    sampler: Sampler
    run: Run
    outputs: Mapping[str, Any] = field(default_factory=dict)


def set_up(
    prepared: PreparedFolder,
    run_folder: Path,
    config: Config,
    start: InitialisationSource | None,
    device: torch.device,
) -> TrainingSetup:
    """Prepare a new run, or restore the one in ``run_folder``.

    The resolved configuration is printed and saved. Raises the errors of :func:`stackgan.training.loop.train`.
    """
    split = prepared.train
    if start is not None:
        copy_text_encoder(start, run_folder)
    encoder, embeddings, config = prepare_text(run_folder, split, config, device)
    _settle_config(run_folder, prepared, config)
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
        device=device,
        share=(rank(), world()),
    )
    run = Run.start(config, device)
    if config.loss.contrast:
        run.dual_encoder = cast(CompactEncoder, encoder).to(device)
    outputs = _begin(run, run_folder, start, embeddings)
    return TrainingSetup(prepared, encoder, embeddings, sampler, run, outputs)


def _begin(
    run: Run, run_folder: Path, start: InitialisationSource | None, embeddings: NDArray[np.float32] | None
) -> Mapping[str, Any]:
    """Restore the newest state, or copy the weights of ``start``, or compute the statistics that a new model needs.

    Returns what the state holds of the outputs.
    """
    config, saved = run.config, newest_state(run_folder)
    if saved is not None:
        run.restore(saved.state, saved.file)
        if saved.reason:
            print(saved.reason)
        saved.set_damaged_aside()
        print(f"resuming at step {run.progress.step}, {run.progress.images} images seen")
        return saved.state.get("outputs", {})
    if start is not None:
        new = run.start_from(start)
        print(f"starting from {start.folder}; newly initialised: {', '.join(new) or 'nothing'}")
        if "discriminators" in new and not config.optim.discriminator_first:
            print("untrained discriminators degrade a trained generator: try optim.discriminator_first=100000")
    elif embeddings is not None and config.text.standardise:
        run.model.standardise.measure(embeddings)
        run.ema.standardise.load_state_dict(run.model.standardise.state_dict())
    return {}


def check_data(prepared: PreparedFolder, config: Config) -> None:
    check_choices(config)
    if PRIORS[config.latent.z].fitted:
        raise ValueError(
            f"latent.z is {config.latent.z}: this prior is fitted to a finished checkpoint by `stackgan tilt-prior`; "
            f"train with latent.z={trainable(config.latent).z}"
        )
    if config.loss.contrast and not encoder_kind(config.text.encoder)[0].image_tower:
        names = [name for name, kind in ENCODERS.items() if kind.image_tower]
        raise ValueError(
            f"loss.contrast is {config.loss.contrast} and text.encoder {config.text.encoder!r}: only the "
            f"{' or '.join(names)} encoder has an image tower; use text.encoder={names[0]} or loss.contrast=0"
        )
    if prepared.size != config.tree.sizes[-1]:
        stages = int(math.log2(max(prepared.size, 64) / 64)) + 1
        raise ValueError(
            f"{prepared.path}: prepared for {prepared.size} px, the finest stage is {config.tree.sizes[-1]} px; "
            f"prepare with --size {config.tree.sizes[-1]} or train with tree.stages={stages}"
        )
    check_trainable(prepared.train, config.optim.batch_size, with_text=config.text.encoder != "none")


def check_share(config: Config) -> None:
    """Raise ``ValueError`` if the processes of this job cannot share the batches of ``config``."""
    count, optim = world(), config.optim
    if count == 1:
        return
    for key, on in (("optim.compile", optim.compile), ("optim.cuda_graphs", optim.cuda_graphs)):
        if on:
            raise ValueError(f"{key} is true with {count} processes: train with {key}=false, or in one process")
    parts = {f"{count} processes": count, f"optim.accumulate={optim.accumulate}": optim.accumulate}
    if config.loss.diversity or config.loss.coarse:
        parts["the quarter of a batch for loss.diversity and loss.coarse"] = 4
    elif has_posterior(config):
        parts[f"the halves of a batch for latent.z={config.latent.z}"] = 2
    unit = math.prod(parts.values())
    if optim.batch_size % unit:
        why = ", ".join(name for name, number in parts.items() if number > 1)
        raise ValueError(
            f"optim.batch_size is {optim.batch_size}, of all processes together: it must be a multiple of {unit} "
            f"({why}), so that all have equal shares"
        )


def check_agreement(run: Run) -> None:
    """Raise ``ValueError`` if the processes have not restored or initialised the same run."""
    ends = [end for parameter in run.model.parameters() for end in parameter.detach().aminmax()]
    own = [float(run.progress.step), math.fsum(map(float, ends))]
    if greatest(*own, *(-value for value in own)) != [*own, *(-value for value in own)]:
        raise ValueError(
            f"process {rank()} of {world()} begins at step {run.progress.step} with other weights than the others: "
            "the run folder and the data must be the same for all, on a disk that all machines share"
        )


def prepare_text(
    run_folder: Path, split: PreparedSplit, config: Config, device: torch.device | None = None
) -> tuple[TextEncoder | None, NDArray[np.float32] | None, Config]:
    """Text encoder of the run (trained here, loaded, or None), training embeddings, and ``config`` with text.dim."""
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
    """Embeddings of captions with two words swapped (hard negatives), if the run uses them and has an encoder."""
    if encoder is None or config.loss.mismatch != "caption" or not config.loss.mismatch_hard:
        return None
    pairs = zip(split.captions, swapped_captions(split.captions, seed=0), strict=True)
    texts = StringSpool(other or caption for caption, other in pairs)
    return caption_embeddings(split, encoder, texts=("swapped", texts))


def _augmented(split: PreparedSplit, encoder: TextEncoder | None, config: Config) -> AugmentedCaptions | None:
    """Augmented captions, if ``text.reword`` is above 0."""
    if encoder is None or not config.text.reword:
        return None
    augmented = augmented_captions(split.captions, seed=0)
    embeddings = caption_embeddings(split, encoder, texts=("reworded", augmented.texts))
    return AugmentedCaptions(embeddings, augmented.words, config.text.reword)


def _settle_config(run_folder: Path, prepared: PreparedFolder, config: Config) -> None:
    """Save the resolved configuration of a new run; check that a resumed run has the same one."""
    file = run_folder / "config.json"
    now = {"data": prepared.identity, **config.to_dict()}
    if file.exists():
        sections = {section: OBJECT for section, keys in now.items() if isinstance(keys, dict)}
        before = read_json(file, Fields({"data": str}, sections), advice="start a new run folder")
        before = _with_defaults(before, now)
        there, here = _flat(before), _flat(now)
        changed = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        key = next((key for key in changed if key not in FREE_ON_RESUME), None)
        if key:
            raise ValueError(
                f"{run_folder}: this run was started with {key}={there.get(key)!r}, now it is "
                f"{here.get(key)!r}; give the same settings to resume, or another --run folder"
            )
    content = (json.dumps(now, indent=2) + "\n").encode()
    if not file.exists() or file.read_bytes() != content:
        write_atomic(file, content)


def _with_defaults(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """``before`` completed by the defaults of keys added since the run began: a default is the earlier behaviour."""
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
