"""Contact sheets."""

from __future__ import annotations

import numpy as np
import pytest

from stackgan.images.mosaic import mosaic, on_grid, similarity_sheet


def test_a_grid_keeps_what_is_already_a_grid() -> None:
    pytest.importorskip("scipy")
    y, x = np.divmod(np.arange(36), 6)
    places = np.stack((x, y), 1) * 10.0 + 3
    mixed = np.random.default_rng(0).permutation(36)
    order = on_grid(places[mixed], 6)
    assert mixed[order].tolist() == list(range(36))
    with pytest.raises(ValueError, match="do not fill"):
        on_grid(places, 5)


def test_similar_images_are_neighbours() -> None:
    """Three kinds of images, 48 of each: nearly all neighbours on the sheet are of the same kind."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.arange(144) % 3)
    features = (np.eye(3)[kinds] * 20 + rng.normal(size=(144, 3))).astype(np.float32)
    pictures = np.zeros((144, 8, 8, 3), np.uint8)
    pictures[np.arange(144), :, :, kinds] = 255
    sheet = similarity_sheet(pictures, features, side=8)
    shown = np.asarray(sheet)[4::8, 4::8].argmax(2)  # (12, 12) kinds
    same = np.concatenate([(shown[1:] == shown[:-1]).ravel(), (shown[:, 1:] == shown[:, :-1]).ravel()])
    assert np.bincount(shown.ravel()).tolist() == [48, 48, 48]  # every image once
    assert same.mean() > 0.75  # 0.33 by chance
    assert np.array_equal(np.asarray(similarity_sheet(pictures, features, side=8)), np.asarray(sheet))


def test_a_mosaic_is_edge_to_edge() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 4, 3), np.uint8) * 40
    sheet = np.asarray(mosaic(pictures, columns=3, side=4))
    assert sheet.shape == (8, 12, 3) and sheet[0, ::4, 0].tolist() == [0, 40, 80]
    assert sheet[4, 0, 0] == 120 and sheet[4, 8, 0] == 255  # white in empty cells
