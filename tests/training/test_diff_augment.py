"""DiffAugment: every augmentation changes images, passes gradients, and has the named effect."""

import pytest
import torch
from torch import Tensor

from stackgan.config import AUGMENTATIONS
from stackgan.training.diff_augment import diff_augment


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_images_and_keeps_gradients(name: str) -> None:
    torch.manual_seed(0)
    images = (torch.rand(6, 3, 64, 64) * 2 - 1).requires_grad_()
    out: Tensor = diff_augment(images, [name])
    assert out.shape == images.shape and not torch.equal(out, images)
    out.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert torch.equal(diff_augment(images, [name], probability=0.0), images)
    assert torch.equal(diff_augment(images, []), images)


def test_translation_moves_whole_images_and_cutout_removes_a_quarter() -> None:
    torch.manual_seed(0)
    images = torch.ones(64, 3, 64, 64)
    cut = diff_augment(images, ["cutout"])
    removed = (cut[:, 0] == 0).float().mean((1, 2))
    assert removed.max() <= 0.25 and removed.max() > 0.2 and removed.min() > 0
    moved = diff_augment(images, ["translation"])
    assert ((moved == 0) | (moved == 1)).all() and moved.mean() > 0.75
