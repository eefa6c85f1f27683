"""The measure of diversity."""

import pytest
import torch

from stackgan.images.diversity import averaged_down, mean_difference


def test_texture_averages_out_and_places_do_not() -> None:
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    halves = torch.where(torch.arange(64) < 32, 1.0, -1.0).expand(64, 64)
    fine = averaged_down(torch.stack((checks, -checks))[:, None].expand(-1, 3, -1, -1))
    coarse = averaged_down(torch.stack((halves, -halves))[:, None].expand(-1, 3, -1, -1))
    assert fine.shape == (2, 3, 16, 16)
    assert float(mean_difference(fine)) == 0 and float(mean_difference(coarse)) == 2


def test_differences_are_means_over_shifts_along_one_axis() -> None:
    x = torch.randn(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    by_hand = torch.stack([(x - x.roll(shift, 1)).abs().mean() for shift in (1, 2, 3, 4)]).mean()
    assert torch.equal(mean_difference(x, range(1, 5), dim=1), by_hand)
    pairs = [float((x[:, i] - x[:, j]).abs().mean()) for i in range(5) for j in range(5) if i != j]
    assert float(by_hand) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
