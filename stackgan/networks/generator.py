"""The generator tree: (z, c) -> one image a stage, 64 px doubled at each; one class, two families of blocks."""

import torch
from torch import Tensor, nn

from stackgan.config import GeneratorConfig
from stackgan.networks.layers import (
    Blocks,
    FusedBlock,
    FusedNorm,
    GatedBlock,
    GatedResidual,
    conv3x3,
    glu,
    kaiming_init,
    orthogonal_init,
)

__all__ = ["Generator"]

START = 4  # side of the first feature map
DOUBLINGS = 4  # 4 -> 64 px in the first stage


class LegacyFirst(Blocks):
    """(B, C + Z) -> (B, width, 64, 64): linear → BatchNorm → GLU, four gated upsamplings, as published."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.top = width << DOUBLINGS
        self.linear = nn.Linear(inputs, self.top * START * START * 2, bias=False)
        self.norm = nn.BatchNorm1d(self.top * START * START * 2)
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
    """(B, C + Z) -> (B, width, 64, 64): linear to 4×4, four residual upsamplings that each see the style."""

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
    """(B, inputs, s, s) -> (B, outputs, 2s, 2s): residual blocks, then a residual upsampling, all with the style."""

    def __init__(self, inputs: int, outputs: int, style: int, residuals: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusedBlock(inputs, inputs, style) for _ in range(residuals))
        self.blocks.append(FusedBlock(inputs, outputs, style, upsample=True))

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
    """The same behind a last fused normalisation."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.norm = FusedNorm(width, style)
        self.conv = conv3x3(width, 3, bias=True)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        return torch.tanh(self.conv(self.norm(h, style)))


class Generator(Blocks):
    """G(z, c): the tree of StackGAN-v2 (arXiv:1710.10916, section 4.1, eq. 6–7).

    Args:
        config: block family, width at 64 px, residual blocks a later stage (as published, at most one from the
            fourth stage on).
        stages: resolutions, 64 << stage px each.
        z_dim, code_dim: Z and C; C = 0 for an unconditional generator.

    >>> g = Generator(GeneratorConfig(block="fused", width=4), stages=2, z_dim=5, code_dim=3).eval()
    >>> [tuple(image.shape) for image in g(torch.zeros(1, 5), torch.zeros(1, 3))]
    [(1, 3, 64, 64), (1, 3, 128, 128)]
    """

    def __init__(self, config: GeneratorConfig, stages: int, z_dim: int, code_dim: int) -> None:
        super().__init__()
        self.config, self.z_dim, self.code_dim = config, z_dim, code_dim
        widths = [max(config.width >> stage, 4) for stage in range(stages)]
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
                self.stages.append(FusedNext(widths[stage - 1], widths[stage], style, residuals[stage]))
            self.heads.extend(FusedHead(width, style) for width in widths)
            kaiming_init(self)

    def forward(self, z: Tensor, c: Tensor) -> list[Tensor]:
        """z (B, Z), c (B, C) -> images, a list of (B, 3, s, s) in [−1, 1], coarsest first."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}: this generator takes (B, {self.z_dim})")
        if c.ndim != 2 or c.shape[1] != self.code_dim or len(c) != len(z):
            raise ValueError(f"c has shape {tuple(c.shape)}: this generator takes ({len(z)}, {self.code_dim})")
        images: list[Tensor] = []
        if self.config.block == "legacy":
            h = self.stages[0](z, c)
            for stage, head in zip(range(len(self.stages)), self.heads, strict=True):
                h = h if stage == 0 else self.stages[stage](h, z, c)
                images.append(self.through(head, h))
            return images
        style = torch.cat((c, self.mix(z)), 1)
        h = self.stages[0](torch.cat((c, z), 1), style)
        for stage, head in zip(range(len(self.stages)), self.heads, strict=True):
            h = h if stage == 0 else self.stages[stage](h, style)
            images.append(self.through(head, h, style))
        return images
