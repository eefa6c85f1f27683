"""Checkpoint averaging: the mean of the weights of several checkpoints of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stackgan.checkpoint import check_replaceable, save_checkpoint
from stackgan.config.facts import TrainingFacts
from stackgan.config.model_card import model_card
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.caption_choice import spread_rows
from stackgan.evaluation.image_source import embeddings_of
from stackgan.pipeline import StackGANPipeline
from stackgan.training.batchnorm import recalibrate_batchnorm

__all__ = ["average"]

CAPTIONS = 4000  # of the train split, for BatchNorm recalibration
IMAGES = 2048  # for BatchNorm recalibration if optim.standing is 0


@torch.no_grad()
def average(checkpoints: Sequence[str | Path], data: Path, out: Path, *, device: str | None = None) -> None:
    """Write θ = mean of θ_i over ``checkpoints`` of one run as a checkpoint at ``out``.

    The weights of GANs cycle around an equilibrium in training, and their mean is closer to it (arXiv:1806.04498; for
    classifiers arXiv:1803.05407). BatchNorm's statistics are recalibrated.

    Args:
        checkpoints: two or more of one run, such as RUN/best and RUN/checkpoint.
        data: the prepared folder they were trained on, or one with similar images and captions.

    Raises:
        ValueError: fewer than two checkpoints, different networks or caption encoders, fitted priors, or no train
            split.
        FileNotFoundError: a checkpoint does not exist.
    """
    if len(checkpoints) < 2:
        raise ValueError("averaging needs two or more checkpoints, such as RUN/best and RUN/checkpoint")
    check_replaceable(out)
    split = PreparedFolder.open(data).train
    pipes = [StackGANPipeline.from_pretrained(folder, device=device) for folder in checkpoints]
    for folder, pipe in zip(checkpoints, pipes, strict=True):
        if pipe.facts.fitted_prior is not None:
            raise ValueError(f"{folder}: its priors were fitted to its own codes: average first, then use fit-prior")
        if pipe.facts.tilted_prior is not None:
            raise ValueError(f"{folder}: its prior was fitted to its own images: average first, then use tilt-prior")
        if _networks(pipe) != _networks(pipes[0]):
            raise ValueError(
                f"{folder}: another network or caption encoder than {checkpoints[0]}; "
                "only checkpoints of one run can be averaged"
            )
    model = pipes[0].model
    states = [pipe.model.state_dict() for pipe in pipes]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }
    model.load_state_dict(mean)
    embeddings = embeddings_of(pipes[0], split, spread_rows(len(split.captions), CAPTIONS).tolist())
    given = None if embeddings is None else embeddings.cpu().numpy()
    optim = model.config.optim
    recalibrate_batchnorm(model, given, optim.standing or IMAGES, optim.batch_size)
    if model.has_code_flow and embeddings is not None:
        model.measure_codes(embeddings.to(pipes[0].device))
    trained = tuple(pipe.facts.trained or TrainingFacts() for pipe in pipes)
    longest_pipe = max(zip(trained, pipes, strict=True), key=lambda pair: pair[0].images or 0)[1]
    facts = replace(longest_pipe.facts, averaged=trained, measured=())
    save_checkpoint(
        out,
        model.config,
        model.state_dict(),
        pipes[0].text_encoder,
        facts=facts,
        card=model_card(model.config, facts),
        statistics=longest_pipe.statistics,
        realism=longest_pipe.realism,
    )


def _networks(pipe: StackGANPipeline) -> tuple[Any, ...]:
    encoder = None if pipe.text_encoder is None else pipe.text_encoder.identity
    return pipe.config.tree, pipe.config.text, pipe.config.latent, pipe.config.generator, encoder
