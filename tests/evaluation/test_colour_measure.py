"""Colour measurement in CIELAB on images of known colours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stackgan.captions.lexicon import colours_named
from stackgan.evaluation.colour_measure import COLOUR_ORDER, foreground, measure_pairs, to_lab
from tests.evaluation.discs import discs


def colour_share(images: Tensor) -> Tensor:
    """Share of each basic colour in each image's foreground, (N, 11)."""
    return measure_pairs(images, images).shares[0]


def colour_separation(
    images: Tensor, captions: Sequence[Sequence[str]], count: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Separation of real photos by the colours that their captions name: an upper bound for the colour-word test.

    For colours A, B, pairs of a photo with A in three or more captions and B in none, and a photo with the reverse:
    the share of pairs whose margin is above 0, with equal weights for all pairs of colours. Each photo has its own
    foreground here.

    Args:
        images: (N, 3, s, s) in [−1, 1].
        captions: of each photo.

    Returns: ``pairs``, ``separated``, and ``colours``, the share by colour; empty if there are no pairs.
    """
    times = np.zeros((len(captions), len(COLOUR_ORDER)))
    for row, texts in enumerate(captions):
        for text in texts:
            times[row, [COLOUR_ORDER.index(colour) for colour in colours_named(text)]] += 1
    shares = colour_share(images).numpy()
    draws = np.random.default_rng((seed, 0xC03))
    groups = []
    for a, b in combinations(range(len(COLOUR_ORDER)), 2):
        one = np.flatnonzero((times[:, a] >= 3) & (times[:, b] == 0))
        other = np.flatnonzero((times[:, b] >= 3) & (times[:, a] == 0))
        if len(one) and len(other):
            groups.append((a, b, one, other))
    if not groups:
        return {}
    each = max(1, count // len(groups))
    right: dict[int, list[float]] = {k: [] for k in range(len(COLOUR_ORDER))}
    for a, b, one, other in groups:
        p, q = draws.choice(one, each), draws.choice(other, each)
        margin = (shares[p, a] - shares[p, b]) - (shares[q, a] - shares[q, b])
        result = ((margin > 0) + 0.5 * (margin == 0)).tolist()
        right[a] += result
        right[b] += result
    every = [value for values in right.values() for value in values]
    return {
        "pairs": len(every) // 2,
        "separated": float(np.mean(every)),
        "colours": {COLOUR_ORDER[k]: float(np.mean(values)) for k, values in right.items() if values},
    }


def test_lab_of_known_colours() -> None:
    """Values of the sRGB primaries under D65, to the published precision."""
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    rgb = torch.tensor(list(known)).float() / 127.5 - 1
    torch.testing.assert_close(
        to_lab(rgb[:, :, None, None])[..., 0, 0], torch.tensor(list(known.values())), atol=0.02, rtol=0
    )
    with pytest.raises(ValueError, match="give"):
        to_lab(torch.zeros(3, 8, 8))


def test_the_foreground_is_the_disc() -> None:
    images = torch.full((1, 3, 64, 64), 0.8)
    images[:, :, 20:44, 24:48] = torch.tensor([0.7, -0.8, -0.7])[:, None, None]
    weights = foreground(to_lab(F.interpolate(images, (32, 32), mode="area")))[0]
    assert weights.shape == (32, 32) and float(weights.sum()) == pytest.approx(1)
    assert float(weights[9:23, 11:25].sum()) > 0.95  # one pixel more on each side, as border colours are blurred
    share = colour_share(images)
    assert share.shape == (1, 11) and COLOUR_ORDER[int(share.argmax())] == "red" and float(share.max()) > 0.7
    assert float(share.sum()) == pytest.approx(1)
    plain = colour_share(torch.full((1, 3, 16, 16), 1.0))  # border only: still defined
    assert COLOUR_ORDER[int(plain.argmax())] == "white"


def test_photos_are_separated_by_the_colours_that_captions_name() -> None:
    names = ["red", "blue", "white", "black"] * 10
    captions = [[f"a {name} bird"] * 3 for name in names]
    result = colour_separation(discs(names, 3), captions, count=120)
    assert result["pairs"] == 120 and result["separated"] > 0.95 and set(result["colours"]) == set(names)
    wrong = colour_separation(discs([*names[1:], names[0]], 3), captions, count=120)
    assert wrong["separated"] < 0.6
    assert colour_separation(discs(["red"], 0), [["a bird"]]) == {}


def test_colours_of_real_photos_are_separated(shared: Path) -> None:
    """Real birds, whose named colours are small, shaded and dull: far above chance (one half)."""
    folder = shared / "cub" / "crops" / "train"
    if not folder.is_dir():
        pytest.skip("the real photos are not here")

    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    photos = [Image.open(folder / line["file_name"]).convert("RGB").resize((64, 64)) for line in lines]
    images = torch.from_numpy(np.stack([np.asarray(p) for p in photos])).permute(0, 3, 1, 2) / 127.5 - 1
    assert colour_separation(images, [line["text"] for line in lines], count=2000)["separated"] > 0.7
