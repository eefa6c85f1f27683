"""The pipeline's call as one would guess it: drawn seeds, counts, generators, output types, variations, moves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stackgan import StackGANPipeline
from tests.tiny import CAPTIONS, save_tiny_checkpoint, tiny_pipeline


@pytest.fixture(scope="module")
def pipe() -> StackGANPipeline:
    return tiny_pipeline()


def pixels(images: list[Any]) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_a_caption_alone_gives_an_image_and_the_seed_that_was_drawn(pipe: StackGANPipeline) -> None:
    first, second = pipe(CAPTIONS[0]), pipe(CAPTIONS[0])
    assert first.images[0].size == (128, 128) and len(first.images) == len(first.seeds) == 1
    assert first.seeds != second.seeds
    assert pixels(pipe(CAPTIONS[0], seeds=first.seeds).images) == pixels(first.images)


def test_count_gives_images_with_seeds_in_a_row(pipe: StackGANPipeline) -> None:
    out = pipe(CAPTIONS[:2], seeds=7, count=3)
    assert out.seeds == [7, 8, 9, 7, 8, 9]
    pairs = [(caption, seed) for caption in CAPTIONS[:2] for seed in (7, 8, 9)]
    again = pipe([caption for caption, _ in pairs], seeds=[seed for _, seed in pairs])
    for one, two in zip(out.images, again.images, strict=True):  # captions are encoded in other batches: rounding
        assert np.abs(np.asarray(one, int) - np.asarray(two, int)).max() <= 1
    assert pixels(pipe(CAPTIONS[:2], seeds=7, num_images_per_prompt=3).images) == pixels(out.images)
    assert len(set(pipe(CAPTIONS[0], count=5).seeds)) == 5


def test_every_caption_with_every_seed_on_request_only(pipe: StackGANPipeline) -> None:
    assert pipe(CAPTIONS[:2], seeds=[1, 2, 3], every_pair=True).seeds == [1, 2, 3, 1, 2, 3]
    with pytest.raises(ValueError, match=r"2 captions and 3 seeds do not match.*every_pair=True"):
        pipe(CAPTIONS[:2], seeds=[1, 2, 3])


def test_drawn_seeds_follow_a_generator(pipe: StackGANPipeline) -> None:
    def seeds() -> list[int]:
        return pipe(CAPTIONS[:2], count=2, generator=torch.Generator().manual_seed(3)).seeds

    assert seeds() == seeds() and len(set(seeds())) == 4
    with pytest.raises(ValueError, match="seeds or a generator"):
        pipe(CAPTIONS[0], seeds=1, generator=torch.Generator())


def test_output_types_hold_the_same_images(pipe: StackGANPipeline) -> None:
    pil, array, tensor = (pipe(CAPTIONS[:2], seeds=5, output_type=kind) for kind in ("pil", "np", "pt"))
    assert array.images.shape == (2, 128, 128, 3) and array.images.dtype == np.float32
    assert tensor.images.shape == (2, 3, 128, 128) and [len(stage) for stage in tensor.stages] == [2, 2]
    np.testing.assert_array_equal(array.images, tensor.images.permute(0, 2, 3, 1).numpy())
    for image, values in zip(pil.images, array.images, strict=True):
        assert np.abs(np.asarray(image) - 255 * values).max() <= 0.5 + 1e-3
    with pytest.raises(ValueError, match="output_type 'jpg' is unknown"):
        pipe(CAPTIONS[0], output_type="jpg")


def test_a_variation_lies_between_two_seeds(pipe: StackGANPipeline) -> None:
    def image(seed: int, variation: tuple[int, float] | None = None) -> torch.Tensor:
        found: torch.Tensor = pipe(CAPTIONS[0], seeds=seed, variation=variation, output_type="pt").images
        return found

    one, other = image(1), image(9)
    assert torch.equal(image(1, (9, 0.0)), one)
    torch.testing.assert_close(image(1, (9, 1.0)), other, atol=1e-4, rtol=0)
    steps = [float((image(1, (9, strength)) - one).abs().mean()) for strength in (0.05, 0.2, 0.5)]
    assert 0 < steps[0] < steps[1] < steps[2]
    for wrong in ((9, 1.5), (9, -0.1), (-1, 0.5), 9):
        with pytest.raises(ValueError, match=r"variation|seed"):
            image(1, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("guidance_scale", "truncation trades variety for quality"),
        ("num_inference_steps", "one pass"),
        ("negative_prompt", "no negative prompts"),
        ("height", "choose one with size="),
        ("seed", "give seeds="),
        ("cfg", "has no argument 'cfg'"),
    ],
)
def test_arguments_of_diffusion_pipelines_are_explained(pipe: StackGANPipeline, name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        pipe(CAPTIONS[0], **{name: 7})


def test_counts_that_mean_nothing_are_refused(pipe: StackGANPipeline) -> None:
    with pytest.raises(ValueError, match="count is 0"):
        pipe(CAPTIONS[0], count=0)
    with pytest.raises(ValueError, match="leave count out"):
        pipe(CAPTIONS[0], seeds=[1, 2], count=2)
    with pytest.raises(ValueError, match="caption 1 is 3: captions are strings"):
        pipe([3])  # type: ignore[list-item]


def test_it_moves_and_says_what_it_is(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny")
    pipe = StackGANPipeline.from_pretrained(checkpoint, dtype=torch.bfloat16)
    before = pixels(pipe(CAPTIONS[0], seeds=1).images)
    assert pipe.to("cpu") is pipe and pixels(pipe(CAPTIONS[0], seeds=1).images) == before
    assert repr(pipe).startswith("StackGANPipeline(stages=64 → 128 px, preset=") and "precision=bf16" in repr(pipe)
    with pytest.raises(ValueError, match="float16 is not supported"):
        StackGANPipeline.from_pretrained(checkpoint, dtype=torch.float16)


def test_without_text_a_count_is_enough() -> None:
    pipe = tiny_pipeline(text=False)
    assert len(pipe(count=3).images) == 3 and pipe(seeds=[4, 5]).seeds == [4, 5]
