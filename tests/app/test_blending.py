"""One image between two captions and seeds, and the video of all of them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stackgan.app.blending import BlendRequest, VideoRequest, blend_png, generate_blend, write_video
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS

ENDS = BlendRequest((CAPTIONS[0], CAPTIONS[1]), (3, 8))


@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_are_what_the_pipeline_generates(pipe: StackGANPipeline, end: int) -> None:
    coarse, fine = generate_blend(pipe, replace(ENDS, position=end))
    expected = pipe(CAPTIONS[end], seeds=ENDS.seeds[end], truncation=pipe.truncation).stages
    assert (coarse.preview, coarse.image.width, coarse.size) == (True, 64, 128)
    for blend, stage in zip((coarse, fine), expected, strict=True):
        assert np.abs(np.asarray(blend.image, int) - np.asarray(stage[0], int)).max() <= 1


def test_a_tree_of_one_stage_has_no_preview(able: StackGANPipeline) -> None:
    (blend,) = generate_blend(able, ENDS)
    assert not blend.preview and blend.image.width == 64
    with Image.open(io.BytesIO(blend_png(blend, able))) as image:
        assert image.text["seeds"] == "3, 8" and image.text["position"] == "0.5"
        assert image.text["caption"] == f"{CAPTIONS[0]} → {CAPTIONS[1]}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": (CAPTIONS[0], " ")}, "the second of the two is empty"),
        ({"seeds": (None, 2)}, "The first seed is missing"),
        ({"position": 1.5}, "The position is 1.5: it must be from 0 to 1"),
    ],
)
def test_a_blend_that_is_refused(able: StackGANPipeline, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(generate_blend(able, replace(ENDS, **change)))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_video_and_its_images_in_a_row(able: StackGANPipeline, tmp_path: Path, suffix: str) -> None:
    reports: list[tuple[int, int]] = []
    video, row = write_video(
        able, VideoRequest(ENDS, 5, 2, suffix), tmp_path, lambda done, total: reports.append((done, total))
    )
    with Image.open(video) as shown:
        assert shown.format == suffix[1:].upper() and shown.n_frames == 8
    with Image.open(row) as shown:
        assert shown.size == (5 * 66 - 2, 64)
    assert reports == [(0, 5), (4, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 1}, "The number of images is 1: the smallest is 2"),
        ({"seconds": 0}, "The duration in seconds is 0"),
        ({"suffix": ".avi"}, r"a video is a \.gif, \.webp or \.mp4"),
        ({"ends": replace(ENDS, captions=("", ""))}, "the first of the two is empty"),
    ],
)
def test_a_video_that_is_refused(
    able: StackGANPipeline, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(able, replace(VideoRequest(ENDS, 2), **change), tmp_path)
    assert not any(tmp_path.iterdir())
