"""Generator tree: (z, c) -> one image per stage, at 64 px and doubled at each further stage.

One class with two families of blocks, ``legacy`` and ``fused``. This is the trained module; inference uses its fast
form, :mod:`stackgan.networks.fast_generator` (``StackGANPipeline.generator``): the same images with fewer
multiply-adds.
"""

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackgan.config import GeneratorConfig
from stackgan.networks.fast_ops import BatchNorm1d
from stackgan.networks.layers import (
    FusedBlock,
    FusedNorm,
    GatedBlock,
    GatedResidual,
    conv3x3,
    glu,
    kaiming_init,
    orthogonal_init,
)
from stackgan.networks.patches import PatchPlaces
from stackgan.networks.recompute import Blocks

__all__ = ["Generator", "enlarged"]

START = 4  # side of the first feature map
DOUBLINGS = 4  # 4 -> 64 px in the first stage
SKIP_START = 0.05  # factor on the initial weights of a head with an image skip


class LegacyFirst(Blocks):
    """(B, C + Z) -> (B, width, 64, 64): linear → BatchNorm → GLU, four gated upsamplings, as published."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.top = width << DOUBLINGS
        self.linear = nn.Linear(inputs, self.top * START * START * 2, bias=False)
        self.norm = BatchNorm1d(self.top * START * START * 2)
        steps = range(DOUBLINGS)
        self.blocks = nn.ModuleList(GatedBlock(self.top >> s, self.top >> (s + 1), upsample=True) for s in steps)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        h = glu(self.norm(self.linear(torch.cat((c, z), 1)))).view(-1, self.top, START, START)
        for block in self.blocks:
            h = self.through(block, h)
        return h


class LegacyNext(Blocks):
    """(B, width, s, s) and c -> (B, width / 2, 2s, 2s): joint convolution, residual blocks, gated upsampling.

    Without text, z takes the place of c, as published.
    """

    def __init__(self, width: int, code: int, residuals: int) -> None:
        super().__init__()
        self.joint = GatedBlock(code + width, width)
        self.residuals = nn.ModuleList(GatedResidual(width) for _ in range(residuals))
        self.up = GatedBlock(width, width // 2, upsample=True)

    def forward(self, h: Tensor, z: Tensor, c: Tensor) -> Tensor:
        code = c if c.shape[1] else z
        h = self.through(self.joint, h, code)
        for block in self.residuals:
            h = self.through(block, h)
        return self.through(self.up, h)


class FusedFirst(Blocks):
    """(B, C + Z) -> (B, width, 64, 64): linear to 4×4, four residual upsampling blocks conditioned on the style."""

    def __init__(self, inputs: int, style: int, width: int) -> None:
        super().__init__()
        channels = [width * 8, width * 8, width * 4, width * 2, width]
        self.top = channels[0]
        self.linear = nn.Linear(inputs, self.top * START * START)
        pairs = zip(channels, channels[1:], strict=False)
        self.blocks = nn.ModuleList(FusedBlock(a, b, style, upsample=True) for a, b in pairs)

    def forward(self, start: Tensor, style: Tensor) -> Tensor:
        h = self.linear(start).view(-1, self.top, START, START)
        for block in self.blocks:
            h = self.through(block, h, style)
        return h


class FusedNext(Blocks):
    """(B, inputs, s, s) -> (B, outputs, 2s, 2s): residual blocks, a residual upsampling, ``refine`` further blocks.

    All are conditioned on the style.
    """

    def __init__(self, inputs: int, outputs: int, style: int, residuals: int, refine: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusedBlock(inputs, inputs, style) for _ in range(residuals))
        self.blocks.append(FusedBlock(inputs, outputs, style, upsample=True))
        self.blocks.extend(FusedBlock(outputs, outputs, style) for _ in range(refine))

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        for block in self.blocks:
            h = self.through(block, h, style)
        return h


class LegacyHead(nn.Module):
    """(B, width, s, s) -> image (B, 3, s, s) in [−1, 1]: convolution and tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3x3(width, 3)

    def forward(self, h: Tensor) -> Tensor:
        return torch.tanh(self.conv(h))


class FusedHead(nn.Module):
    """Fused normalisation, convolution and tanh; with ``skip``, a residual to the enlarged image of the stage before.

    With ``skip`` there is no tanh: the sum may slightly exceed [−1, 1], and the initial weights are scaled by 1/20.
    """

    def __init__(self, width: int, style: int, skip: bool = False) -> None:
        super().__init__()
        self.norm = FusedNorm(width, style)
        self.conv = conv3x3(width, 3, bias=True)
        self.skip = skip

    def forward(self, h: Tensor, style: Tensor, before: Tensor | None = None) -> Tensor:
        y = self.conv(self.norm(h, style))
        if not self.skip or before is None:
            return torch.tanh(y)
        return enlarged(before) + y


def enlarged(images: Tensor) -> Tensor:
    """Bicubic upsampling by 2: (B, 3, s, s) -> (B, 3, 2s, 2s), in float32 or higher precision."""
    precise = images.to(torch.promote_types(images.dtype, torch.float32))
    return F.interpolate(precise, scale_factor=2.0, mode="bicubic", align_corners=False)


class Generator(Blocks):
    """The generator G(z, c), a tree of stages as in StackGAN-v2 (arXiv:1710.10916, section 4.1, eq. 6–7).

    Args:
        config: block family, width at 64 px, residual blocks per later stage (as published, at most one from the
            fourth stage on).
        stages: number of resolutions, 64 << stage px each.
        z_dim, code_dim: Z and C; C = 0 for an unconditional generator.

    >>> g = Generator(GeneratorConfig(block="fused", width=4), stages=2, z_dim=5, code_dim=3).eval()
    >>> [tuple(image.shape) for image in g(torch.zeros(1, 5), torch.zeros(1, 3))]
    [(1, 3, 64, 64), (1, 3, 128, 128)]
    """

    def __init__(self, config: GeneratorConfig, stages: int, z_dim: int, code_dim: int) -> None:
        super().__init__()
        self.config, self.z_dim, self.code_dim = config, z_dim, code_dim
        widths = [max(config.width >> stage, min(config.narrowest, config.width)) for stage in range(stages)]
        residuals = [min(config.residuals, 1) if stage >= 3 else config.residuals for stage in range(stages)]
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        if config.block == "legacy":
            self.stages.append(LegacyFirst(code_dim + z_dim, config.width))
            for stage in range(1, stages):
                self.stages.append(LegacyNext(config.width >> (stage - 1), code_dim or z_dim, residuals[stage]))
            self.heads.extend(LegacyHead(config.width >> stage) for stage in range(stages))
            orthogonal_init(self)
        else:
            self.mix = nn.Linear(z_dim, z_dim)
            style = code_dim + z_dim
            self.stages.append(FusedFirst(style, style, config.width))
            for stage in range(1, stages):
                self.stages.append(
                    FusedNext(widths[stage - 1], widths[stage], style, residuals[stage], config.refine)
                )
            for stage, width in enumerate(widths):
                self.heads.append(FusedHead(width, style, skip=config.image_skip and stage > 0))
            kaiming_init(self)
            if config.image_skip:
                for head in self.heads[1:]:
                    cast(FusedHead, head).conv.weight.data.mul_(SKIP_START)

    def finest_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the finest stage and its head."""
        yield from self.stages[-1].parameters()
        yield from self.heads[-1].parameters()

    def set_frozen(self, stages: int) -> None:
        """Let the first ``stages`` stages use BatchNorm's running statistics in training mode too."""
        for part in (*self.stages[:stages], *self.heads[:stages]):
            part.eval()

    def forward(
        self, z: Tensor, c: Tensor, places: PatchPlaces | None = None, count: int | None = None
    ) -> list[Tensor]:
        """z (B, Z), c (B, C) -> images, a list of (B, 3, s, s) in [−1, 1], coarsest first.

        With ``places`` (fused blocks only), the finest stage is computed for these crops only: its entry is (B, 3,
        places.side, places.side). With ``count``, only the first ``count`` stages are computed.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}: this generator takes (B, {self.z_dim})")
        if c.ndim != 2 or c.shape[1] != self.code_dim or len(c) != len(z):
            raise ValueError(f"c has shape {tuple(c.shape)}: this generator takes ({len(z)}, {self.code_dim})")
        images: list[Tensor] = []
        if self.config.block == "legacy":
            h = self.stages[0](z, c)
            for stage, head in enumerate(self.heads[:count]):
                h = h if stage == 0 else self.stages[stage](h, z, c)
                images.append(self.through(head, h))
            return images
        style = torch.cat((c, self.mix(z)), 1)
        h = self.stages[0](torch.cat((c, z), 1), style)
        for stage, head in enumerate(self.heads[:count]):
            before = images[-1] if stage else None
            if places is not None and before is not None and stage == len(self.stages) - 1:
                image = self.through(head, self.stages[stage](places.lower(h), style), style, places.lower(before))
                images.append(places.from_window(image))
                break
            h = h if stage == 0 else self.stages[stage](h, style)
            images.append(self.through(head, h, style, before))
        return images
