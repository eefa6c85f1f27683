"""Text-free sampling, without a page."""

import pytest

from stackgan.app.painting import generate_without_caption
from stackgan.pipeline import StackGANPipeline


def test_images_are_those_of_the_pipeline(able: StackGANPipeline) -> None:
    result = generate_without_caption(able, 2, 5, 0.5)
    expected = able.sample([5, 6], truncation=0.5).images
    assert [image.stages[-1].tobytes() for image in result.images] == [image.tobytes() for image in expected]
    assert [(image.caption, image.seed) for image in result.images] == [("", 5), ("", 6)]
    assert not result.query and result.warnings == []
    with pytest.raises(ValueError, match="The seed is missing"):
        generate_without_caption(able, 2, None, 1.0)
