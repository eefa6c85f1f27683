"""BatchNorm recalibration: running statistics of the EMA generator, estimated with the EMA weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stackgan.model import StackGAN
from stackgan.runtime.distributed import own_rows, shares

__all__ = ["recalibrate_batchnorm"]


@torch.no_grad()
def recalibrate_batchnorm(
    model: StackGAN, embeddings: NDArray[np.float32] | None, count: int, batch_size: int
) -> None:
    """Re-estimate the running means and variances of the generator's BatchNorm layers on ``count`` generated images.

    The BatchNorm buffers of the EMA are copies of the live generator's, which were estimated with other weights. As
    in BigGAN's standing statistics (arXiv:1809.11096) and the last pass of SWA (arXiv:1803.05407), they are replaced
    here by averages over batches, each normalised by its own statistics as in training. The random draws are the same
    in every call, and torch's global generator is left unchanged. Stages that were frozen in training
    (optim.lower_rate=0) keep their statistics. Within :func:`stackgan.runtime.distributed.sharded`, processes share
    the work.

    Args:
        embeddings: of captions, not normalised, (N, T), sampled uniformly; None for an unconditional model.
        count: images, rounded up to whole batches.
        batch_size: 2 or more.
    """
    draws = torch.Generator().manual_seed(0)
    where = next(model.parameters()).device
    trained = model.config.trained_stages
    with _measuring(
        [part for stage in trained for part in (model.generator.stages[stage], model.generator.heads[stage])]
    ):
        for _ in range(-(-count // batch_size)):
            if embeddings is None:
                c = model.no_code(batch_size // shares())
            else:
                rows = own_rows(torch.randint(len(embeddings), (batch_size,), generator=draws)).numpy()
                q = model.condition(torch.from_numpy(embeddings[rows]).to(where))
                noise = torch.randn(batch_size, q.mu.shape[1], generator=draws)
                c = q.sample(noise=own_rows(noise).to(where))
            noise = torch.randn(batch_size, model.config.latent.dim, generator=draws)
            model.generator(model.prior(c).sample(noise=own_rows(noise).to(where)), c)


@contextmanager
def _measuring(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Reset the statistics of BatchNorm layers; within the context they are cumulative means over the batches."""
    parts = (part for module in modules for part in module.modules())
    layers = [part for part in parts if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    before = [(layer.momentum, layer.training) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean, in PyTorch's terms
        layer.train()
    try:
        yield
    finally:
        for layer, (momentum, training) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.train(training)
