"""The realism network: its shapes, its score, its file, and that it learns what it is fitted to."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stackgan.networks.realism import RealismNetwork
from stackgan.training.fit_realism import fit_realism_network

WHERE = Path("realism.safetensors")


def network() -> RealismNetwork:
    torch.manual_seed(0)
    return RealismNetwork(width=8).eval()


@pytest.mark.parametrize("side", [64, 128, 32])
def test_one_value_for_each_image_of_any_size(side: int) -> None:
    images = torch.rand(3, 3, side, side) * 2 - 1
    found = network()(images)
    assert found.shape == (3,) and torch.isfinite(found).all() and found.std() > 0


def test_the_score_is_realism_and_weighted_agreement() -> None:
    net, images = network(), torch.rand(2, 3, 64, 64) * 2 - 1
    net.agreement.fill_(4.0)
    torch.testing.assert_close(net.score(images, torch.tensor([0.25, -0.5])), net(images) + torch.tensor([1.0, -2.0]))


def test_a_state_dict_gives_the_network_again_and_draws_nothing() -> None:
    net, images = network(), torch.rand(2, 3, 64, 64) * 2 - 1
    before = torch.get_rng_state()
    again = RealismNetwork.from_weights(net.state_dict(), WHERE)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again(images), net(images)) and not any(p.requires_grad for p in again.parameters())


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in network().state_dict().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({}, "no realism network"),
        (without("stem.weight"), "no realism network"),
        ({"stem.weight": torch.zeros(8)}, "no realism network"),
        ({"stem.weight": torch.zeros(9, 3, 4, 4)}, "no realism network"),
        ({"stem.weight": torch.zeros(0, 3, 4, 4)}, "no realism network"),
        ({"stem.weight": torch.zeros(8, 3, 4, 4)}, "does not fit"),
        (without("head.bias"), r"head\.bias does not fit"),
        (network().state_dict() | {"more": torch.zeros(1)}, "more does not fit"),
        (network().state_dict() | {"head.weight": torch.zeros(1, 3)}, r"head\.weight does not fit"),
        ({"stem.weight": torch.zeros(8, 3, 4, 4).expand(8, 3, 4, 4).repeat(100_000, 1, 1, 1)}, "realism.safetensors"),
    ],
)
def test_other_weights_are_refused_in_words(weights: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RealismNetwork.from_weights(weights, WHERE)


def groups(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of noise with a bright square; realism is the square's size, plus a value of the group alone."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (count, 8, 3, 64, 64), dtype=torch.uint8, generator=draws)
    sizes = torch.randint(4, 30, (count, 8), generator=draws)
    for group in range(count):
        for one in range(8):
            images[group, one, :, 10 : 10 + int(sizes[group, one]), 20 : 20 + int(sizes[group, one])] = 220
    return images, sizes + 1000 * torch.rand(count, 1, generator=draws)


def test_it_learns_differences_within_a_caption() -> None:
    images, measured = groups(24, seed=1)
    before = torch.get_rng_state()
    net, fit = fit_realism_network(images, measured, epochs=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert fit.correlation > 0.8 and 0.8 * fit.best < fit.chosen <= fit.best
    fresh, sizes = groups(6, seed=2)
    found = torch.stack([net(group / 127.5 - 1) for group in fresh])
    moved, wanted = (values - values.mean(1, keepdim=True) for values in (found, sizes))
    assert torch.corrcoef(torch.stack([moved.flatten(), wanted.flatten()]))[0, 1] > 0.8


def test_equal_images_leave_nothing_to_fit() -> None:
    images, _ = groups(3, seed=1)
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_realism_network(images, torch.ones(3, 8), epochs=1)
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_realism_network(images[:1], torch.rand(1, 8), epochs=1)
