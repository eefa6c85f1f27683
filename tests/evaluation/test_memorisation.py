"""Copied pictures are found, new ones are not accused; sheets, the page, and the quick figures of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_prep.painted import prepare_painted
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.features import Features, pyramid_features
from stackgan.evaluation.image_sets import Painted, Photos
from stackgan.evaluation.memorisation import memorisation, nearness_of, neighbour_sheet, neighbours, verdict
from stackgan.evaluation.quick import caption_agreement, quick_figures
from stackgan.evaluation.report import Card, Findings, Sheet, Table, histogram, page, write_report
from stackgan.images.mosaic import alike_side_by_side, mosaic, on_grid
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=120, seed=4, test_count=240, workers=1)
    return PreparedFolder.open(folder)


def pictures_of(levels: NDArray[np.uint8]) -> Painted:
    """A set that "paints" these pictures (N, s, s, 3)."""

    def paint(start: int, stop: int) -> Tensor:
        return torch.from_numpy(levels[start:stop].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1

    return Painted("copies", len(levels), levels.shape[1], paint, lambda start, stop: None, None)


def test_copies_are_found_and_new_pictures_are_not_accused(prepared: PreparedFolder) -> None:
    network = pyramid_features()
    train = Photos(prepared.splits["train"], 64, keep=False)
    test = Photos(prepared.splits["test"], 64, keep=False)
    held_out = pictures_of(test.rows(range(120)))
    noise = np.random.default_rng(0).normal(0, 4, (120, 64, 64, 3))
    copies = np.clip(train.rows(range(120)) + noise, 0, 255).astype(np.uint8)
    copies[60:] = copies[60:, :, ::-1]  # half of them mirrored

    found = memorisation(pictures_of(copies), train, held_out, network)
    for space in ("features", "pixels"):
        near = nearness_of(found.generated[space], found.held_out[space])
        assert found.generated[space].row.tolist() == list(range(120))
        assert near.below_1 > 0.95 and near.mirrored == 0.5
        assert near.generated["75 %"] < near.held_out["5 %"]
    said = verdict(nearness_of(found.generated["features"], found.held_out["features"]), 120, 120)
    assert said.startswith("Look at the sheet")
    sheet = neighbour_sheet(found, pictures_of(copies), train, closest=True, count=4)
    assert sheet.width > 6 * 96
    shown = np.asarray(sheet).astype(int)
    painted, nearest = shown[6:102, 6:102], shown[6:102, 6 + 98 : 6 + 98 + 96]  # the first group's first two
    assert np.abs(painted - nearest).mean() < 6  # a copy lies beside what it copies, mirrored where it is

    new = pictures_of(test.rows(range(120, 240)))
    near = nearness_of(*(side["features"] for side in vars(memorisation(new, train, held_out, network)).values()))
    assert near.below_5 < 0.2 and verdict(near, 120, 120).startswith("No sign of copying")
    assert "Too few" in verdict(near, 50, 120)


def test_neighbours_by_hand() -> None:
    train, mirrored = torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([[5.0, 5.0], [0.0, 9.0]])
    found = neighbours(torch.tensor([[1.0, 0.0], [0.0, 8.0], [5.0, 5.0]]), train, mirrored)
    assert found.distance.tolist() == [1, 1, 0] and found.row.tolist() == [0, 1, 0]
    assert found.mirrored.tolist() == [False, True, True]
    near = nearness_of(found, found)
    assert near.mirrored == pytest.approx(2 / 3) and near.generated == near.held_out
    assert near.generated["50 %"] == 1


# --- contact sheets -----------------------------------------------------------------------------------------


def test_a_grid_keeps_what_is_already_a_grid() -> None:
    pytest.importorskip("scipy")
    y, x = np.divmod(np.arange(36), 6)
    places = np.stack((x, y), 1) * 10.0 + 3
    mixed = np.random.default_rng(0).permutation(36)
    order = on_grid(places[mixed], 6)
    assert mixed[order].tolist() == list(range(36))
    with pytest.raises(ValueError, match="do not fill"):
        on_grid(places, 5)


def test_alike_pictures_lie_side_by_side() -> None:
    """Three kinds of pictures, 48 each and one more: nearly all neighbours on the sheet are of one kind."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.arange(144) % 3)
    features = (np.eye(3)[kinds] * 20 + rng.normal(size=(144, 3))).astype(np.float32)
    pictures = np.zeros((144, 8, 8, 3), np.uint8)
    pictures[np.arange(144), :, :, kinds] = 255
    sheet = alike_side_by_side(pictures, features, side=8)
    shown = np.asarray(sheet)[4::8, 4::8].argmax(2)  # (12, 12) kinds
    same = np.concatenate([(shown[1:] == shown[:-1]).ravel(), (shown[:, 1:] == shown[:, :-1]).ravel()])
    assert np.bincount(shown.ravel()).tolist() == [48, 48, 48]  # every picture once
    assert same.mean() > 0.75  # 0.33 where they lie anyhow
    assert np.array_equal(np.asarray(alike_side_by_side(pictures, features, side=8)), np.asarray(sheet))


def test_a_mosaic_is_edge_to_edge() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 4, 3), np.uint8) * 40
    sheet = np.asarray(mosaic(pictures, columns=3, side=4))
    assert sheet.shape == (8, 12, 3) and sheet[0, ::4, 0].tolist() == [0, 40, 80]
    assert sheet[4, 0, 0] == 120 and sheet[4, 8, 0] == 255  # white where there is none


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_is_one_file_and_shows_captions_as_they_are(tmp_path: Path) -> None:
    caption = 'a <b>red</b> bird & "friends"'
    picture = Image.new("RGB", (8, 8), "red")
    findings = Findings(
        figures={"a": 1},
        protocol="How <it> was done.",
        tables=[Table(("", "value"), [("a row", "1.5")], title="a table")],
        verdict="All is well.",
        headlines=[("a number", "42")],
        sheets=[Sheet("sheet", "All of them", picture), Sheet("other", "Only a file", picture, shown=False)],
        cards=[Card(picture, caption)],
        drawings=[histogram({"one": np.arange(9.0), "two": np.arange(5.0)}, "distance")],
    )
    found, missing = {"first": ("First", findings)}, {"second": ("Second", "needs more <data>")}
    write_report(tmp_path, {"pictures": 3}, found, missing, "a model")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text == page({"pictures": 3}, found, missing, "a model")
    assert "a &lt;b&gt;red&lt;/b&gt; bird &amp; &quot;friends&quot;" in text and "<b>red</b>" not in text
    for words in (
        "All is well.",
        "42",
        "a table",
        "1.5",
        "How &lt;it&gt; was done.",
        "needs more &lt;data&gt;",
        "<svg",
    ):
        assert words in text
    assert text.count("data:image/jpeg;base64,") == 2 and "http" not in text
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text
    assert (tmp_path / "sheet.png").is_file() and (tmp_path / "other.png").is_file()


# --- figures in training ------------------------------------------------------------------------------------


def test_caption_agreement_of_own_foreign_and_random_pictures() -> None:
    rows = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    assert caption_agreement(rows, rows * 3) == 1.0
    assert caption_agreement(rows, rows.roll(40, 0)) == 0.0  # every picture shows a rival's caption
    random = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    assert abs(caption_agreement(rows, random) - 0.1) < 0.05
    assert caption_agreement(rows[:1].expand(20, -1), rows[:1].expand(20, -1)) == 1.0  # equal captions are no rivals


def test_quick_figures_with_and_without_a_network(prepared: PreparedFolder) -> None:
    split: PreparedSplit = prepared.splits["test"]
    pipe = tiny_pipeline(stages=1)
    state = torch.get_rng_state()
    found = quick_figures(pipe, split, None, count=40, seed=0)
    assert set(found) == {"pyramid_distance", "diversity", "caption_agreement"}
    assert torch.equal(torch.get_rng_state(), state)
    assert found == quick_figures(pipe, split, None, count=40, seed=0)
    assert all(np.isfinite(value) for value in found.values()) and 0 <= found["caption_agreement"] <= 1
    net = Features(lambda x: x.float().mean((2, 3)) / 255, "means", identity="means-1", preprocessing="none")
    assert quick_figures(pipe, split, net, count=40)["kernel_distance"] > 0
    assert (split.path / "features").is_dir()  # features of photos are kept for the next time
    bare = tiny_pipeline(stages=1, text=False)
    assert set(quick_figures(bare, split, None, count=40)) == {"pyramid_distance"}
    with pytest.raises(ValueError, match="2 pictures"):
        quick_figures(pipe, split, None, count=1)


def test_pyramid_distance_falls_for_better_pictures(prepared: PreparedFolder) -> None:
    """Real birds, birds blurred, one bird over and over, noise: in the order that anyone would put them."""
    from stackgan.evaluation.metrics import kernel_distance

    network = pyramid_features()
    reference = Photos(prepared.splits["test"], 64, keep=False).features(network).features
    real = torch.from_numpy(Photos(prepared.splits["train"], 64, keep=False).rows(range(120))).permute(0, 3, 1, 2)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(real.float(), 4), (64, 64)).byte()
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(0)).byte()
    sets = (real, real[:1].expand(120, -1, -1, -1), noise)
    values = [kernel_distance(network.describe(levels).features, reference).value for levels in sets]
    assert values == sorted(values) and abs(values[0]) < 0.02
    assert kernel_distance(network.describe(blurred).features, reference).value > 5 * abs(values[0])
