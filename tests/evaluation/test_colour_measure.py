"""The measure of colours in CIELAB, where the truth is known."""

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


def photos_told_apart(
    images: Tensor, captions: Sequence[Sequence[str]], count: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """How well the measure separates real photos by colours that their captions name: the best the test could show.

    For colours A, B: a photo that three captions or more give A and none B, another the other way round; the share
    of such pairs whose margin is above 0, every two colours as often as any others. Each photo has its own
    foreground here.

    Args:
        images: (N, 3, s, s) in [−1, 1].
        captions: of each photo.

    Returns: ``pairs``, ``told_apart``, and ``colours``, the share by colour; empty where no two colours can be told.
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
        told = ((margin > 0) + 0.5 * (margin == 0)).tolist()
        right[a] += told
        right[b] += told
    every = [value for values in right.values() for value in values]
    return {
        "pairs": len(every) // 2,
        "told_apart": float(np.mean(every)),
        "colours": {COLOUR_ORDER[k]: float(np.mean(values)) for k, values in right.items() if values},
    }


def test_lab_of_known_colours() -> None:
    """Values of the sRGB primaries under D65, to the precision at which they are published."""
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
    assert float(weights[9:23, 11:25].sum()) > 0.95  # a pixel more at each side: the border colours are blurred
    share = colour_share(images)
    assert share.shape == (1, 11) and COLOUR_ORDER[int(share.argmax())] == "red" and float(share.max()) > 0.7
    assert float(share.sum()) == pytest.approx(1)
    plain = colour_share(torch.full((1, 3, 16, 16), 1.0))  # nothing but border: still an answer
    assert COLOUR_ORDER[int(plain.argmax())] == "white"


def test_photos_are_told_apart_by_the_colours_that_captions_name() -> None:
    names = ["red", "blue", "white", "black"] * 10
    captions = [[f"a {name} bird"] * 3 for name in names]
    told = photos_told_apart(discs(names, 3), captions, count=120)
    assert told["pairs"] == 120 and told["told_apart"] > 0.95 and set(told["colours"]) == set(names)
    wrong = photos_told_apart(discs([*names[1:], names[0]], 3), captions, count=120)
    assert wrong["told_apart"] < 0.6
    assert photos_told_apart(discs(["red"], 0), [["a bird"]]) == {}


def test_real_photos_are_told_apart(shared: Path) -> None:
    """Real birds, whose named colours are small, shaded and dull: far above chance (one half)."""
    folder = shared / "cub" / "crops" / "train"
    if not folder.is_dir():
        pytest.skip("the real photos are not here")

    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    photos = [Image.open(folder / line["file_name"]).convert("RGB").resize((64, 64)) for line in lines]
    images = torch.from_numpy(np.stack([np.asarray(p) for p in photos])).permute(0, 3, 1, 2) / 127.5 - 1
    assert photos_told_apart(images, [line["text"] for line in lines], count=2000)["told_apart"] > 0.7
