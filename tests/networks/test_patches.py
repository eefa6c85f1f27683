"""Crops of the finest stage equal those of the whole image; heads with image skips; their fast form."""

import pytest
import torch

from stackgan.config import GeneratorConfig
from stackgan.networks.fast_generator import FastGenerator
from stackgan.networks.generator import Generator, enlarged
from stackgan.networks.patches import PatchPlaces, crop, patch_margin

CPU = torch.device("cpu")


def _generator(stages: int, residuals: int = 1, skip: bool = True, narrowest: int = 4, refine: int = 0) -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(width=8, residuals=residuals, image_skip=skip, narrowest=narrowest, refine=refine)
    generator = Generator(config, stages, z_dim=5, code_dim=3).double()
    for head in generator.heads:
        head.conv.weight.data.normal_(0, 0.3)
    generator(torch.randn(6, 5).double(), torch.randn(6, 3).double())  # with its own statistics
    return generator.eval().requires_grad_(False)


@pytest.mark.parametrize("residuals", [0, 1, 2])
@pytest.mark.parametrize(("skip", "refine"), [(False, 0), (True, 0), (True, 1), (True, 2)])
def test_a_crop_is_a_piece_of_the_whole_image(residuals: int, skip: bool, refine: int) -> None:
    generator = _generator(2, residuals, skip, refine=refine)
    z, c = torch.randn(8, 5).double(), torch.randn(8, 3).double()
    whole = generator(z, c)
    corners = [(0, 0), (32, 32), (0, 32), (32, 0), (16, 16), (3, 29), (31, 1), (5, 12)]
    top, left = torch.tensor(corners).T
    margin = patch_margin(residuals, refine)
    window = 32 + 2 * margin
    places = PatchPlaces(
        64, top, left, window, (top - margin).clamp(0, 64 - window), (left - margin).clamp(0, 64 - window)
    )
    coarse, fine = generator(z, c, places)
    assert torch.equal(coarse, whole[0]) and fine.shape == (8, 3, 64, 64)
    torch.testing.assert_close(fine, places.from_whole(whole[1]), rtol=0, atol=1e-12)
    pieces = [image[:, t : t + 32, s : s + 32] for image, (t, s) in zip(whole[0], corners, strict=True)]
    assert torch.equal(places.coarse(whole[0]), torch.stack(pieces))


def test_a_margin_that_is_too_small_shows() -> None:
    generator = _generator(2, 1)
    z, c = torch.randn(1, 5).double(), torch.randn(1, 3).double()
    middle = torch.tensor([16])
    places = PatchPlaces(64, middle, middle, 34, middle - 1, middle - 1)
    difference = generator(z, c, places)[1] - places.from_whole(generator(z, c)[1])
    assert float(difference.abs().max()) > 1e-6


def test_places_are_drawn_over_the_whole_image_and_inside_it() -> None:
    torch.manual_seed(0)
    places = PatchPlaces.draw(2000, 128, 64, 4, CPU)
    for start, window in ((places.top, places.window_top), (places.left, places.window_left)):
        assert int(start.min()) == 0 and int(start.max()) == 32
        assert int(window.min()) == 0 and int(window.max()) == 64 - places.window
        inside = (start >= window) & (start + 32 <= window + places.window)
        assert bool(inside.all())


def test_crops_keep_the_memory_order() -> None:
    x = torch.randn(2, 4, 8, 8)
    place = torch.tensor([1, 3])
    plain, last = crop(x, place, place, 4), crop(x.to(memory_format=torch.channels_last), place, place, 4)
    assert torch.equal(plain, last)
    assert plain.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("wanted", [[0], [1], [2], [0, 2], None])
def test_the_fast_form_of_a_generator_with_image_skips(wanted: list[int] | None) -> None:
    generator = _generator(3, narrowest=6, refine=1)
    z, c = torch.randn(2, 5).double(), torch.randn(2, 3).double()
    whole = generator(z, c)
    fast = FastGenerator(generator, torch.float64)(z, c, wanted)
    for image, stage in zip(fast, wanted or range(3), strict=True):
        torch.testing.assert_close(image, whole[stage], rtol=0, atol=1e-10)


def test_a_new_stage_begins_near_the_enlarged_image() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(width=16, image_skip=True), 2, z_dim=5, code_dim=3)
    coarse, fine = generator(torch.randn(4, 5), torch.randn(4, 3))
    added = (fine - enlarged(coarse)).detach()
    assert 0 < float(added.square().mean().sqrt()) < 0.2 * float(fine.detach().square().mean().sqrt())


def test_no_stage_is_narrower_than_requested() -> None:
    generator = Generator(GeneratorConfig(width=16, narrowest=12), 3, z_dim=5, code_dim=3)
    assert [head.conv.in_channels for head in generator.heads] == [16, 12, 12]  # type: ignore[union-attr]
