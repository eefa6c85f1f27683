"""The files of an interpolation."""

import pytest
from PIL import Image

from stackgan.app.tabs.interpolation import interpolation_files
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS


def test_an_interpolation_leaves_a_video_and_a_strip(able: StackGANPipeline) -> None:
    video, strip = interpolation_files(able, (CAPTIONS[0], CAPTIONS[1]), (1, 2), 5)
    with Image.open(video) as shown:
        assert shown.format == "GIF" and shown.n_frames == 8
    with Image.open(strip) as shown:
        assert shown.size == (5 * 66 - 2, 64)
    for captions, seeds, message in (
        ((CAPTIONS[0], " "), (1, 2), "Write both captions"),
        (CAPTIONS[:2], (None, 2), "The seed is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            interpolation_files(able, captions, seeds, 5)
