"""Discriminator of one stage: images and condition -> conditional and unconditional logits."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.config import DiscriminatorConfig
from stackgan.networks.fast_ops import planes_of_taps
from stackgan.networks.layers import (
    LeakyBlock,
    MinibatchStd,
    ResidualDown,
    conv3x3,
    kaiming_init,
    orthogonal_init,
    spread,
)
from stackgan.networks.recompute import Blocks

__all__ = ["Discriminator"]


class LegacyTrunk(Blocks, nn.Sequential):
    """(B, 3, size, size) -> (B, 8·width, 4, 4): stride-2 convolutions, then 3×3 ones that reduce the channels."""

    def __init__(self, size: int, width: int) -> None:
        layers = [LeakyBlock(3, width, 4, norm=False)]
        channels, side = width, size // 2
        while side > 4:
            layers.append(LeakyBlock(channels, channels * 2, 4))
            channels, side = channels * 2, side // 2
        while channels > width * 8:
            layers.append(LeakyBlock(channels, channels // 2, 3))
            channels //= 2
        super().__init__(*layers)

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """Trunk features of ``groups`` batches in one pass, each normalised by its own statistics.

        See :class:`~stackgan.networks.fast_ops.BatchNormByGroup` for the order of samples.
        """
        for block in self:
            x = self.through(block, x, groups)
        return x


class ResidualTrunk(Blocks, nn.Sequential):
    """(B, 3, size, size) -> (B, 8·width, 4, 4) without any normalisation."""

    def __init__(self, size: int, width: int, minibatch_std: bool = False) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1)]
        channels, side = width, size // 2
        while side > 4:
            wider = min(channels * 2, width * 8)
            layers.append(ResidualDown(channels, wider))
            channels, side = wider, side // 2
        if minibatch_std:
            layers.append(MinibatchStd(channels))
        super().__init__(*layers, nn.LeakyReLU(0.2))

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """``groups`` concatenated batches of equal size; the minibatch standard deviation is taken within each."""
        for block in self:
            x = block(x, groups) if isinstance(block, MinibatchStd) else self.through(block, x)
        return x


class Discriminator(nn.Module):
    """Discriminator of one stage with joint conditional and unconditional heads (arXiv:1710.10916, eq. 8–9).

    Args:
        config: block family, width, which heads.
        size: image side, a power of two from 64.
        condition_dim: dimension of the condition (mu of CA_NET, or the embedding); 0 for unconditional training.

    ``features`` is one pass of the trunk; ``conditional`` and ``unconditional`` compute logits (B,) from it, so that
    an image that is scored with two captions passes the trunk once.
    """

    def __init__(self, config: DiscriminatorConfig, size: int, condition_dim: int) -> None:
        super().__init__()
        self.config, self.size, self.condition_dim = config, size, condition_dim
        if not config.unconditional and not condition_dim:
            raise ValueError("discriminator.unconditional is false and there is no text: no head would be left")
        channels = config.width * 8
        legacy = config.block == "legacy"
        self.trunk = (
            LegacyTrunk(size, config.width) if legacy else ResidualTrunk(size, config.width, config.minibatch_std)
        )
        if condition_dim:
            if legacy:
                self.joint: nn.Module = LeakyBlock(channels + condition_dim, channels, 3)
                self.embed: nn.Module = nn.Identity()
            else:
                # A 3×3 convolution over features and text planes, as two terms: that of the text is one matrix
                # product.
                self.embed = nn.Linear(condition_dim, channels)
                self.joint = conv3x3(channels, channels, bias=True)
                self.joint_text = nn.Linear(channels, channels * 9, bias=False)
            self.logit = nn.Conv2d(channels, 1, 4, 4)
            if config.match:
                self.picture_half, self.text_half = nn.Linear(channels, channels), nn.Linear(condition_dim, channels)
        if config.unconditional:
            self.plain_logit = nn.Conv2d(channels, 1, 4, 4)
        (orthogonal_init if legacy else kaiming_init)(self)
        if not legacy:
            if condition_dim:  # one convolution over both
                for part in (self.joint, self.joint_text):
                    nn.init.normal_(cast(Tensor, part.weight), 0.0, (2 / (1.04 * 18 * channels)) ** 0.5)
            for head in ("logit", "plain_logit"):
                if hasattr(self, head):  # small initial logits, within the margins of the hinge loss
                    nn.init.normal_(getattr(self, head).weight, 0.0, 0.3 / (channels * 16) ** 0.5)

    def features(self, images: Tensor, groups: int = 1) -> Tensor:
        """(B, 3, size, size) -> (B, 8·width, 4, 4).

        B may hold ``groups`` batches with separate statistics: interleaved with BatchNorm (the result is then
        contiguous), concatenated without.
        """
        if images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"images {tuple(images.shape)}: this discriminator takes (B, 3, {self.size}, {self.size})"
            )
        return self.trunk(images, groups)

    def joint_maps(self, h: Tensor) -> Tensor | None:
        """The term of the joint convolution that depends on the features alone; None without a joint convolution."""
        if self.config.block == "legacy":
            return None
        return self.joint(h)

    def conditional(self, h: Tensor, condition: Tensor, maps: Tensor | None = None) -> Tensor:
        """Logits (B,) of "this image is real and matches the condition" from features and (B, condition_dim).

        ``maps``: result of :meth:`joint_maps` if already computed.
        """
        t = self.embed(condition)
        maps = self.joint_maps(h) if maps is None else maps
        if maps is None:
            return self.logit(self.joint(torch.cat((spread(t, h), h), 1))).flatten()
        planes = planes_of_taps(self.joint_text(t).unflatten(1, (-1, 3, 3)), *h.shape[2:])
        joint = F.leaky_relu(maps + planes, 0.2)
        projection = (t * F.adaptive_avg_pool2d(h, 1).flatten(1)).sum(1) / t.shape[1] ** 0.5  # arXiv:1802.05637
        return self.logit(joint).flatten() + projection

    def match_vectors(self, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Image and caption vectors (B, 8·width) for a contrastive loss (XMC-GAN, arXiv:2101.04702, eq. 6)."""
        return self.picture_half(F.adaptive_avg_pool2d(h, 1).flatten(1)), self.text_half(condition)

    def unconditional(self, h: Tensor) -> Tensor:
        """Logits (B,) of "this image is real" from features."""
        return self.plain_logit(h).flatten()
