"""The published training step on our modules, without optimisations: three passes per discriminator, no options.

Reference for tests of the training step, and baseline of the benchmark if the published model is missing.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stackgan.data.sampler import Batch
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.generator import Generator, LegacyNext
from stackgan.networks.layers import GatedBlock, glu, spread
from stackgan.training.state import Run

__all__ = ["plain_images", "plain_logits", "plain_optimizers", "plain_step"]


def _plain_block(block: GatedBlock, x: Tensor) -> Tensor:
    if block.upsample:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return glu(block.norm(block.conv(x)))


def _plain_stage(stage: LegacyNext, h: Tensor, c: Tensor) -> Tensor:
    h = _plain_block(stage.joint, torch.cat((spread(c, h), h), 1))
    for block in stage.residuals:
        h = h + block.norm(block.conv(_plain_block(block.gated, h)))
    return _plain_block(stage.up, h)


def plain_images(g: Generator, z: Tensor, c: Tensor) -> list[Tensor]:
    """The published G, layer by layer, with planes of the code and upsampled maps."""
    first = g.stages[0]
    h = glu(first.norm(first.linear(torch.cat((c, z), 1)))).view(-1, first.top, 4, 4)
    for block in first.blocks:
        h = _plain_block(block, h)
    images = [g.heads[0](h)]
    for stage, head in zip(g.stages[1:], g.heads[1:], strict=True):
        h = _plain_stage(stage, h, c)
        images.append(head(h))
    return images


def plain_logits(net: Discriminator, images: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
    h = images
    for block in net.trunk:
        for layer in block:
            h = layer(h)
    joint = torch.cat((spread(code, h), h), 1)
    for layer in net.joint:
        joint = layer(joint)
    return net.logit(joint).flatten(), net.plain_logit(h).flatten()


def plain_optimizers(run: Run) -> list[torch.optim.Adam]:
    """PyTorch's optimisers of G and of each discriminator."""
    optim = run.config.optim
    rates = [optim.lr_generator, *(optim.lr_discriminator for _ in run.nets)]
    return [
        torch.optim.Adam(net.parameters(), lr=rate, betas=(optim.beta1, optim.beta2))
        for net, rate in zip((run.model, *run.nets), rates, strict=True)
    ]


def plain_step(run: Run, batch: Batch, optimizers: Sequence[torch.optim.Adam]) -> None:
    """One step of ``legacy``; gradients stay in ``.grad`` (a discriminator's includes that of G's step)."""
    config, model = run.config, run.model
    assert batch.embedding is not None and batch.wrong is not None

    def scales(images: Tensor) -> list[Tensor]:
        dtype = next(model.parameters()).dtype
        finest = images.permute(0, 3, 1, 2).to(dtype).contiguous() / 127.5 - 1
        return [F.avg_pool2d(finest, finest.shape[2] // size) for size in config.tree.sizes]

    def term(logits: tuple[Tensor, Tensor], conditional: bool, plain: bool) -> Tensor:
        pairs = zip(logits, (conditional, plain), strict=True)
        return torch.stack([F.binary_cross_entropy_with_logits(x, torch.full_like(x, t)) for x, t in pairs]).sum()

    q = model.condition(batch.embedding)
    c = q.sample()
    fakes = plain_images(model.generator, torch.randn(len(c), config.latent.dim), c)
    code = q.mu.detach()
    real, wrong = scales(batch.real), scales(batch.wrong)
    for net, optimizer, r, w, f in zip(run.nets, optimizers[1:], real, wrong, fakes, strict=True):
        net.zero_grad()
        loss = term(plain_logits(net, r, code), True, True) + term(plain_logits(net, w, code), False, True)
        (loss + term(plain_logits(net, f.detach(), code), False, False)).backward()
        optimizer.step()
    model.zero_grad()
    judged = [term(plain_logits(net, f, q.mu), True, True) for net, f in zip(run.nets, fakes, strict=True)]
    (torch.stack(judged).sum() + config.loss.kl * q.kl().mean() / q.mu.shape[1]).backward()
    optimizers[0].step()
    with torch.no_grad():
        for mean, parameter in zip(run.ema.parameters(), model.parameters(), strict=True):
            mean.mul_(config.optim.average).add_(parameter, alpha=1 - config.optim.average)
