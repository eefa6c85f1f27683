"""Videos and strips of images."""

from pathlib import Path

import pytest
from PIL import Image

from stackgan.images.video import save_video, strip


def test_films_and_strips(tmp_path: Path) -> None:
    images = [Image.new("RGB", (64, 64), (i * 20, 0, 0)) for i in range(8)]
    save_video(images, tmp_path / "a.gif", seconds=2, there_and_back=False)
    with Image.open(tmp_path / "a.gif") as video:
        assert video.n_frames == 8 and video.info["duration"] == 250
    assert strip(images, most=4).size == (4 * 66 - 2, 64)
    with pytest.raises(ValueError, match="2 images or more"):
        save_video(images[:1], tmp_path / "b.gif")
    with pytest.raises(ValueError, match=r"\.gif or an \.mp4"):
        save_video(images, tmp_path / "b.webm")
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]
