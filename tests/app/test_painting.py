"""Image generation and messages of the page, without Gradio."""

import doctest
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stackgan.app import painting
from stackgan.app.image_request import ImageRequest
from stackgan.app.painting import EXAMPLE_COUNT, GeneratedImage
from stackgan.captions.word_statistics import CaptionStatistics, caption_words
from stackgan.config.facts import CheckpointFacts
from stackgan.generation.image_settings import ImageSettings
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]


def test_doctests() -> None:
    assert doctest.testmod(painting).failed == 0


def test_generation_equals_that_of_the_pipeline(pipe: StackGANPipeline) -> None:
    result = painting.generate(pipe, ImageRequest(f"  {CAPTIONS[0]}\n", 3, 7, 0.5))
    expected = pipe(CAPTIONS[0], seeds=[7, 8, 9], truncation=0.5, batch_size=1)
    assert [picture.seed for picture in result.images] == [7, 8, 9]
    assert {picture.caption for picture in result.images} == {CAPTIONS[0]}
    for index, picture in enumerate(result.images):
        assert [image.width for image in picture.stages] == [64, 128]
        for stage, image in enumerate(picture.stages):
            assert image.tobytes() == expected.stages[stage][index].tobytes()
    assert result.warnings == [] and result.truncation == 0.5 and result.seconds > 0


def test_paint_without_text() -> None:
    result = painting.generate(tiny_pipeline(stages=1, text=False), ImageRequest("", 2, 0, 1))
    assert [(picture.caption, picture.seed) for picture in result.images] == [("", 0), ("", 1)]
    assert result.images[1].name == "image_seed-1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"caption": ""}, "Write a caption first: what should the image show?"),
        ({"caption": " \n"}, "Write a caption first: what should the image show?"),
        ({"caption": "bird " * 500}, "The caption is 2499 characters long: please keep it below 2000."),
        ({"seed": -1}, "The seed is -1: the smallest is 0."),
        ({"seed": 1.5}, "The seed is 1.5: it must be an integer."),
        ({"seed": None}, "The seed is missing: enter an integer from 0."),
        ({"seed": float("nan")}, "The seed is missing: enter an integer from 0."),
        ({"seed": 2**60}, f"The seed is {2**60}: the largest is {2**53 - 17}."),
        ({"count": 0}, "The number of images is 0: the smallest is 1."),
        ({"count": 17}, "The number of images is 17: the largest is 16."),
        ({"truncation": 3}, "The variety is 3: it must be from 0 to 2."),
        ({"truncation": None}, "The variety is None: it must be from 0 to 2."),
    ],
)
def test_paint_refuses_in_one_sentence(pipe: StackGANPipeline, arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"caption": CAPTIONS[0], "count": 1, "seed": 0, "truncation": 1.0}
    with pytest.raises(ValueError) as error:
        painting.generate(pipe, ImageRequest(**(good | arguments)))
    assert str(error.value) == message


def test_warnings_are_sentences(pipe: StackGANPipeline) -> None:
    caption = "a small zebra bird with yelow wings " + "and a red beak " * 10
    cut, zebra, yelow = painting.generate(pipe, ImageRequest(caption, 1, 0, 1)).warnings
    assert re.fullmatch(r"The caption is too long for the text encoder: .* dropped\.", cut)
    assert zebra == 'Unknown word "zebra": no training caption has it.'
    assert yelow == 'Unknown word "yelow": did you mean "yellow"?'


def test_out_of_domain_captions_are_warned_of(able: StackGANPipeline) -> None:
    assert able.statistics is None and not painting.generate(able, ImageRequest(CAPTIONS[0], 1, 0, 1)).warnings
    able.statistics = CaptionStatistics(1000, dict.fromkeys(caption_words(CAPTIONS[0]), 900), (-2.0,))
    try:
        assert not painting.generate(able, ImageRequest(CAPTIONS[0], 1, 0, 1)).warnings
        *_, warning = painting.generate(able, ImageRequest("the train leaves", 1, 0, 1)).warnings
    finally:
        able.statistics = None
    assert warning == (
        "Out of domain: the training captions use other words (rare or absent there: the, train, leaves); "
        "the image may not follow this caption."
    )


def test_choose_seed() -> None:
    assert painting.choose_seed(5, keep=False, used=None) == 5
    assert painting.choose_seed(5, keep=False, used=4) == 5
    assert painting.choose_seed(5, keep=True, used=5) == 5
    fresh = {painting.choose_seed(5, keep=False, used=5) for _ in range(50)}
    assert 5 not in fresh and len(fresh) > 40 and all(0 <= seed < 10**6 for seed in fresh)


@pytest.mark.parametrize("caption", [CAPTIONS[0], "ein Vogel mit süßen Flügeln", "一只红色的小鸟"])
def test_png_records_how_to_generate_it_again(pipe: StackGANPipeline, caption: str) -> None:
    image = pipe(CAPTIONS[0], seeds=[3], truncation=0.5).images[0]
    settings = ImageSettings(caption, 3, 0.5, "f" * 64)
    picture = GeneratedImage(caption, 3, [image], settings)
    with Image.open(io.BytesIO(painting.png_bytes(picture, 0, 0.5, "f" * 64))) as read:
        assert read.tobytes() == image.tobytes()
        facts = read.text  # type: ignore[attr-defined]
    assert facts["caption"] == caption and facts["seed"] == "3" and facts["truncation"] == "0.5"
    assert facts["checkpoint"] == "f" * 64 and facts["Software"].startswith("stackgan ")


def test_opening_generates_the_examples(pipe: StackGANPipeline) -> None:
    result = painting.generate_examples(pipe)
    assert [picture.caption for picture in result.images] == list(CAPTIONS[:2])
    assert len(painting.generate_examples(tiny_pipeline(stages=1, text=False)).images) == EXAMPLE_COUNT
    bare = tiny_pipeline(stages=1)
    bare.facts = CheckpointFacts()
    assert painting.generate_examples(bare) is None


def test_live_images_are_those_of_the_request(pipe: StackGANPipeline) -> None:
    request = ImageRequest(" a  red ", 2, 5, 1.0)
    coarse = painting.generate_live(pipe, request, "", True)
    first = painting.generate_live(pipe, request, "", False)
    assert coarse is not None and coarse.preview_of == (64, 128) and first is not None and first.preview_of == ()
    for early, late in zip(coarse.images, first.images, strict=True):
        assert (early.caption, early.seed) == (late.caption, late.seed)
        assert [image.tobytes() for image in early.stages] == [late.stages[0].tobytes()]
    assert [(picture.caption, picture.seed) for picture in first.images] == [("a red", 5), ("a red", 6)]
    assert first.query == "caption=a+red&seed=5&truncation=1&count=2&fingerprint="
    for same in ("a red ", "a  red"):
        assert painting.generate_live(pipe, ImageRequest(same, 2, 5, 1.0), first.query, True) is None  # already shown
    for other in (("a red b", 2, 5, 1.0), ("a red", 1, 5, 1.0), ("a red", 2, 6, 1.0), ("a red", 2, 5, 0.5)):
        assert painting.generate_live(pipe, ImageRequest(*other), first.query, True) is not None
    assert painting.generate_live(pipe, ImageRequest("a red", 2, 5, 1.0, 64), first.query, True).preview_of == ()
    assert painting.generate_live(pipe, request, "", False, lambda: False) is None


def test_live_images_give_no_errors(
    pipe: StackGANPipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (
        ("", 2, 5, 1.0),
        (" \n", 2, 5, 1.0),
        ("bird " * 500, 2, 5, 1.0),
        ("a", 2, -1, 1.0),
        ("a", 2, 5, None),
    ):
        assert painting.generate_live(pipe, ImageRequest(*wrong), "", False) is None
    assert caplog.text == ""
    monkeypatch.setattr(painting, "generate", lambda *_: 1 / 0)
    assert painting.generate_live(pipe, ImageRequest("a", 2, 5, 1.0), "", False) is None
    assert "ZeroDivisionError" in caplog.text


def test_a_photo_is_painted_with_other_words(able: StackGANPipeline) -> None:
    photo = Image.linear_gradient("L").convert("RGB")
    result = painting.edit_photo(able, photo, CAPTIONS[0], f" {CAPTIONS[1]} ")
    expected = able.edit(photo, CAPTIONS[0], [CAPTIONS[0], CAPTIONS[1]]).images
    assert [picture.stages[-1].tobytes() for picture in result.images] == [image.tobytes() for image in expected]
    assert not result.query and all(picture.seed is None for picture in result.images)
    assert len(painting.edit_photo(able, photo, CAPTIONS[0], "").images) == 1
    for arguments, message in (((None, "a bird", ""), "Choose a photo"), ((photo, " ", "b"), "Describe the photo")):
        with pytest.raises(ValueError, match=message):
            painting.edit_photo(able, *arguments)


def test_painting_needs_no_gradio() -> None:
    script = "import sys, stackgan.app.painting; print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


def test_the_best_seed_is_that_of_the_pipeline(pipe: StackGANPipeline) -> None:
    request = ImageRequest(f" {CAPTIONS[0]}\n", 2, None, 0.5)
    found = {painting.best_seed(pipe, request, 4) for _ in range(6)}
    assert len(found) > 1  # new seeds each time
    for seed in found:
        assert pipe.best_seeds(pipe.encode([CAPTIONS[0]]), [seed // 4], 4, 0.5) == [seed]


def test_the_best_seed_needs_a_caption() -> None:
    with pytest.raises(ValueError, match="takes no captions"):
        painting.best_seed(tiny_pipeline(text=False), ImageRequest(""), 4)
    with pytest.raises(ValueError, match="Write a caption first"):
        painting.best_seed(tiny_pipeline(), ImageRequest(" "), 4)
