"""Random crops of the finest stage, and the windows of the lower stage's maps that they depend on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stackgan.runtime.distributed import own_rows, whole_count

__all__ = ["PatchPlaces", "crop", "patch_margin"]


def patch_margin(residuals: int, refine: int = 0) -> int:
    """Border in lower-stage pixels that a crop of a fused stage's image depends on.

    The two 3×3 convolutions of a residual block have a reach of 2 pixels. After the upsampling, three more (of its
    block and of the head) have a reach of 3 finer pixels, and ``refine`` further blocks of 2 each; bicubic upsampling
    has a reach of 2 coarser pixels.
    """
    return 2 * residuals + refine + 2


def crop(maps: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Differentiable square crop of each map: (B, C, H, W) -> (B, C, side, side), in the memory format of ``maps``.

    Args:
        top, left: (B,) int64, the first row and column of each square.

    >>> x = torch.arange(16.0).view(1, 1, 4, 4)
    >>> crop(x, torch.tensor([1]), torch.tensor([2]), 2)
    tensor([[[[ 6.,  7.],
              [10., 11.]]]])
    """
    count, channels = maps.shape[:2]
    steps = torch.arange(side, device=maps.device)
    rows, columns = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None, :]
    which = torch.arange(count, device=maps.device)[:, None, None]
    if maps.is_contiguous(memory_format=torch.channels_last):
        return maps.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)
    squares = maps.movedim(1, -1)[which, rows, columns].movedim(-1, 1)
    return squares.contiguous() if channels > 1 else squares


@dataclass(frozen=True)
class PatchPlaces:
    """Positions of crops of the finest images, ``side`` × ``side`` px, and of their windows in the stage before.

    A window is the crop at half resolution with a margin on every side, moved inside the map if the crop is at the
    border: there the convolutions get the same zero padding as in the whole map, elsewhere the margin covers their
    reach.

    Attributes:
        side: of the crops, in pixels of the finest stage.
        top, left: (B,) int64, first row and column of each crop, in pixels of the stage before.
        window: side of the windows, in pixels of the stage before.
        window_top, window_left: (B,) int64, their first rows and columns.
    """

    side: int
    top: Tensor
    left: Tensor
    window: int
    window_top: Tensor
    window_left: Tensor

    @classmethod
    def draw(cls, count: int, full: int, side: int, margin: int, device: torch.device) -> PatchPlaces:
        """Uniform random positions for ``count`` crops of images of ``full`` px, from torch's global generator.

        Args:
            side: of the crops, even and at most ``full``.
            margin: of the windows, in pixels of the stage before.
        """
        half, low = side // 2, full // 2
        top, left = own_rows(torch.randint(0, low - half + 1, (2, whole_count(count)), device=device), 1)
        window = min(half + 2 * margin, low)
        window_top, window_left = ((place - margin).clamp(0, low - window) for place in (top, left))
        return cls(side, top, left, window, window_top, window_left)

    def lower(self, maps: Tensor) -> Tensor:
        """The windows of maps of the stage before: (B, C, s, s) -> (B, C, window, window)."""
        return crop(maps, self.window_top, self.window_left, self.window)

    def from_window(self, images: Tensor) -> Tensor:
        """The crops of images generated from the windows: (B, 3, 2·window, 2·window) -> (B, 3, side, side)."""
        top, left = 2 * (self.top - self.window_top), 2 * (self.left - self.window_left)
        return crop(images, top, left, self.side)

    def from_whole(self, images: Tensor) -> Tensor:
        """The same crops of whole images: (B, 3, full, full) -> (B, 3, side, side)."""
        return crop(images, 2 * self.top, 2 * self.left, self.side)

    def coarse(self, images: Tensor) -> Tensor:
        """The same crops of the stage before: (B, 3, full / 2, full / 2) -> (B, 3, side / 2, side / 2)."""
        return crop(images, self.top, self.left, self.side // 2)
