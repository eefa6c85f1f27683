"""Example photos of the photo tab."""

from pathlib import Path

from PIL import Image

from data_prep.painted import caption_colours
from stackgan.app.tabs.photo import EXAMPLE_PHOTOS, example_photos
from stackgan.pipeline import StackGANPipeline


def test_example_photos_are_birds_with_their_captions(
    able: StackGANPipeline, pipe: StackGANPipeline, tmp_path: Path
) -> None:
    examples = example_photos(able, tmp_path)
    assert len(examples) == EXAMPLE_PHOTOS
    for file, caption, new in examples:
        assert Image.open(file).size == (304, 304)
        before, after = caption_colours(caption), caption_colours(new)
        assert before.keys() == after.keys() and sum(before[part] != after[part] for part in before) == 1
    assert example_photos(pipe, tmp_path) == []
