"""The discriminator of one stage: images and condition -> conditional and unconditional logits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.config import DiscriminatorConfig
from stackgan.layers import Blocks, LeakyBlock, ResidualDown, conv3x3, kaiming_init, orthogonal_init, spread

__all__ = ["Discriminator"]


class LegacyTrunk(Blocks, nn.Sequential):
    """(B, 3, size, size) -> (B, 8·width, 4, 4): stride-2 convolutions, then 3×3 that bring the channels back."""

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
        """Several batches at once, each with statistics of its own, as :class:`~layers.BatchNormByGroup` has them."""
        for block in self:
            x = self.through(block, x, groups)
        return x


class ResidualTrunk(Blocks, nn.Sequential):
    """(B, 3, size, size) -> (B, 8·width, 4, 4) without any normalisation."""

    def __init__(self, size: int, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1)]
        channels, side = width, size // 2
        while side > 4:
            wider = min(channels * 2, width * 8)
            layers.append(ResidualDown(channels, wider))
            channels, side = wider, side // 2
        super().__init__(*layers, nn.LeakyReLU(0.2))

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """``groups`` makes no difference where nothing is normalised."""
        for block in self:
            x = self.through(block, x)
        return x


class Discriminator(nn.Module):
    """D of one stage with joint conditional and unconditional heads (arXiv:1710.10916, eq. 8–9).

    Args:
        config: block family, width, which heads.
        size: image side, a power of two from 64.
        condition_dim: dimension of the condition (mu of CA_NET, or the embedding); 0 for unconditional training.

    ``features`` is one pass of the trunk; ``conditional`` and ``unconditional`` read logits (B,) from it, so that a
    picture that is judged with two captions goes through the trunk once.
    """

    def __init__(self, config: DiscriminatorConfig, size: int, condition_dim: int) -> None:
        super().__init__()
        self.config, self.size, self.condition_dim = config, size, condition_dim
        if not config.unconditional and not condition_dim:
            raise ValueError("discriminator.unconditional is false and there is no text: no head would be left")
        channels = config.width * 8
        legacy = config.block == "legacy"
        self.trunk = (LegacyTrunk if legacy else ResidualTrunk)(size, config.width)
        if condition_dim:
            if legacy:
                self.joint: nn.Module = LeakyBlock(channels + condition_dim, channels, 3)
                self.embed: nn.Module = nn.Identity()
            else:
                self.embed = nn.Linear(condition_dim, channels)
                self.joint = nn.Sequential(conv3x3(channels * 2, channels, bias=True), nn.LeakyReLU(0.2))
            self.logit = nn.Conv2d(channels, 1, 4, 4)
            if config.match:
                self.picture_half, self.text_half = nn.Linear(channels, channels), nn.Linear(condition_dim, channels)
        if config.unconditional:
            self.plain_logit = nn.Conv2d(channels, 1, 4, 4)
        (orthogonal_init if legacy else kaiming_init)(self)
        if not legacy:
            for head in ("logit", "plain_logit"):
                if hasattr(self, head):  # logits start small, so that hinge starts inside its margins
                    nn.init.normal_(getattr(self, head).weight, 0.0, 0.3 / (channels * 16) ** 0.5)

    def features(self, images: Tensor, groups: int = 1) -> Tensor:
        """(B, 3, size, size) -> (B, 8·width, 4, 4), contiguous where ``groups`` > 1 batches lie interleaved in B."""
        if images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"images {tuple(images.shape)}: this discriminator takes (B, 3, {self.size}, {self.size})"
            )
        return self.trunk(images, groups)

    def conditional(self, h: Tensor, condition: Tensor) -> Tensor:
        """Logits (B,) of "this picture is real and matches the condition" from features and (B, condition_dim)."""
        t = self.embed(condition)
        logits = self.logit(self.joint(torch.cat((spread(t, h), h), 1))).flatten()
        if self.config.block == "residual":  # projection term (arXiv:1802.05637)
            logits = logits + (t * F.adaptive_avg_pool2d(h, 1).flatten(1)).sum(1) / t.shape[1] ** 0.5
        return logits

    def halves(self, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and captions in one space, (B, 8·width) each: XMC-GAN's contrast (arXiv:2101.04702, eq. 6)."""
        return self.picture_half(F.adaptive_avg_pool2d(h, 1).flatten(1)), self.text_half(condition)

    def unconditional(self, h: Tensor) -> Tensor:
        """Logits (B,) of "this picture is real" from features."""
        return self.plain_logit(h).flatten()
