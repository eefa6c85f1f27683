"""Levels and floats, crops, stages and PIL images; their constants occur only in images/."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from stackgan.images.crops import load_side, middle
from stackgan.images.pixels import centre_crops, from_arrays, from_levels, to_levels, to_pil, to_stages, to_tensor

ROOT = Path(__file__).resolve().parents[2]
HOMES = {"stackgan/images/pixels.py", "stackgan/images/crops.py"}


def test_every_level_is_read_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    x = from_levels(levels)
    assert x.dtype == torch.float32 and x[0] == -1 and x[-1] == 1 and torch.equal(to_levels(x), levels)
    assert torch.equal(x, levels.float() / 127.5 - 1)  # exact, as checkpoints were trained with it
    given = levels.float()
    assert torch.equal(from_levels(given), x) and given[-1] == 255  # the argument is not changed


def test_memory_layout_is_kept() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    x = from_arrays(images)
    assert x.shape == (2, 3, 8, 8) and x.is_contiguous(memory_format=torch.channels_last)


def test_read_only_memory_maps_are_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((1, 76, 76, 3), 255, np.uint8))
    stored = np.load(tmp_path / "a.npy", mmap_mode="r")
    x = centre_crops(stored)
    assert x.shape == (1, 3, 64, 64) and (x.add_(1) == 2).all() and (stored == 255).all()


@pytest.mark.parametrize(("side", "edge"), [(64, 6), (63, 6), (76, 0)])
def test_centre_crops_are_the_middle(side: int, edge: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 76, 76, 3), dtype=np.uint8)
    expected = images[:, edge : edge + side, edge : edge + side]
    assert np.array_equal(middle(images, side), expected)
    assert np.array_equal(to_levels(centre_crops(images, side)).permute(0, 2, 3, 1).numpy(), expected)


def test_sizes_below_a_pixel_are_refused() -> None:
    with pytest.raises(ValueError, match="size: 0 is not a positive number of pixels"):
        load_side(0)


def test_stages_are_the_means_of_the_finest() -> None:
    images = torch.randint(0, 256, (3, 256, 256, 3), dtype=torch.uint8)
    stages = to_stages(images, (64, 128, 256), torch.device("cpu"))
    exact = images.permute(0, 3, 1, 2).double() / 127.5 - 1
    for stage, size in zip(stages, (64, 128, 256), strict=True):
        assert stage.dtype == torch.float32 and stage.shape == (3, 3, size, size)
        torch.testing.assert_close(stage.double(), F.avg_pool2d(exact, 256 // size), rtol=0, atol=3e-7)
    assert images.max() == 255, "the bytes are left as they were"


def test_stages_are_means_of_the_finest() -> None:
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    coarse, fine = to_stages(images, (64, 128), torch.device("cpu"))
    assert coarse.shape == (2, 3, 64, 64) and fine.shape == (2, 3, 128, 128)
    assert fine.min() >= -1 and fine.max() <= 1
    torch.testing.assert_close(coarse[0, :, 3, 5], fine[0, :, 6:8, 10:12].mean((1, 2)))


def test_levels_are_rounded_from_minus_one_to_one() -> None:
    ramp = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3).expand(1, 3, 2, 3)
    assert np.asarray(to_pil(ramp)[0])[0, :, 0].tolist() == [0, 128, 255]


def test_photos_are_seen_as_in_training(tmp_path: Path) -> None:
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    x = to_tensor(wide, 64)
    assert x.shape == (3, 64, 64) and x[2].min() > 0.9 and x[0].max() < -0.9  # the middle square only
    turned = Image.new("RGB", (64, 64))
    turned.paste((255, 255, 255), (0, 0, 64, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "t.jpg", exif=exif)
    x = to_tensor(Image.open(tmp_path / "t.jpg"), 64)
    assert x[:, :5].mean() < -0.9 and x[:, -5:].mean() > 0.9


def _constants(file: Path) -> set[str]:
    """127.5 as a number and ``76 / 64`` or its inverse, in the code; strings and comments do not count."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and node.value == 127.5:
            found.add("127.5")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.FloorDiv):
            above = {part.value for part in ast.walk(node.left) if isinstance(part, ast.Constant)}
            below = node.right.value if isinstance(node.right, ast.Constant) else None
            if (below == 64 and 76 in above) or (below == 76 and 64 in above):
                found.add("76 / 64")
    return found


def test_the_scales_and_the_crop_rule_stand_in_one_place() -> None:
    files = [*(ROOT / "stackgan").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py"), ROOT / "app.py"]
    found = {str(file.relative_to(ROOT)): constants for file in files if (constants := _constants(file))}
    assert set(found) == HOMES, found
