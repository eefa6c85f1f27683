"""Videos and strips of images."""

from pathlib import Path

import pytest
from PIL import Image

from stackgan.images import video as video_module
from stackgan.images.video import save_video, strip


def test_films_and_strips(tmp_path: Path) -> None:
    images = [Image.new("RGB", (64, 64), (i * 20, 0, 0)) for i in range(8)]
    save_video(images, tmp_path / "a.gif", seconds=2, there_and_back=False)
    with Image.open(tmp_path / "a.gif") as video:
        assert video.n_frames == 8 and video.info["duration"] == 250
    assert strip(images, most=4).size == (4 * 66 - 2, 64)
    with pytest.raises(ValueError, match="2 images or more"):
        save_video(images[:1], tmp_path / "b.gif")
    with pytest.raises(ValueError, match=r"a \.gif, \.webp or \.mp4"):
        save_video(images, tmp_path / "b.webm")
    save_video(images, tmp_path / "c.webp", seconds=0.8)
    with Image.open(tmp_path / "c.webp") as video:
        assert video.format == "WEBP" and video.n_frames == 14 and video.size == (256, 256)
        video.load()
        assert video.info["duration"] == 100
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gif", "c.webp"]


def test_mp4_without_its_encoder_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "stackgan\[video\]", or choose \.webp or \.gif'):
        save_video([Image.new("RGB", (64, 64))] * 2, tmp_path / "a.mp4")
