"""Editing: editors with a known result, true attributes of painted birds, changed colour words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from data_prep.painted import (
    PALETTE,
    BirdParameters,
    Part,
    caption_colours,
    captions,
    draw,
    prepare_painted,
    random_bird,
    recoloured,
    recorded_bird,
)
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.attribute_classifier import (
    PARTS,
    Attributes,
    true_attributes,
)
from stackgan.evaluation.sections.editing import editing, recolourings
from stackgan.pipeline import PipelineOutput


class Editor:
    """Replacement of a pipeline and of a perfect attribute classifier: stores the birds it generated."""

    sizes = (64,)

    def __init__(self, split: PreparedSplit, follows: bool = True, keeps: bool = True) -> None:
        self.birds = [recorded_bird(record.parameters) for record in split.records]
        self.by_photo = {
            np.asarray(image).tobytes(): bird for image, bird in zip(split.images, self.birds, strict=True)
        }
        self.follows, self.keeps = follows, keeps
        self.painted: dict[bytes, BirdParameters] = {}

    def reconstruct(self, photos: list[Image.Image], texts: list[str]) -> PipelineOutput:
        return self.edit(photos, texts, texts)

    def edit(self, photos: list[Image.Image], old: list[str], new: list[str]) -> PipelineOutput:
        images = []
        for photo, before, after in zip(photos, old, new, strict=True):
            bird = self.by_photo[np.asarray(photo).tobytes()]
            if before != after and not self.keeps:
                bird = random_bird(np.random.default_rng(len(self.painted)), held_out=False)
            if self.follows:
                named = caption_colours(after)
                bird = dataclasses.replace(
                    bird, **{part: Part(colour, PALETTE[colour][0]) for part, colour in named.items()}
                )
            picture = np.full((64, 64, 3), len(self.painted) % 256, np.uint8)  # all images differ
            picture[0, 0, 0] = len(self.painted) // 256
            self.painted[picture.tobytes()] = bird
            images.append(Image.fromarray(picture))
        return PipelineOutput([images], [], [])

    def predict(self, images: Tensor) -> Attributes:
        levels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return true_attributes([self.painted[level.tobytes()] for level in levels])


def test_editors_with_a_known_answer(split: PreparedSplit) -> None:
    perfect = Editor(split)
    figures = editing(perfect, perfect, split, 60)  # type: ignore[arg-type]
    assert figures.pictures == 60 and figures.changed == 1 and figures.others_kept == 1
    assert figures.parts == {"crown": 1, "breast": 1, "wing": 1}
    same = {"background": 1, "facing": 1, "pose": 1, "size": 1, "tilt": 0, "scale": 0}
    assert figures.kept == same and figures.reconstruction == {"colours": 1, **same}
    assert figures.other_photos["pose"] < 0.6 and figures.other_photos["tilt"] > 5

    ignoring = Editor(split, follows=False)
    figures = editing(ignoring, ignoring, split, 60)  # type: ignore[arg-type]
    assert figures.changed == 0 and figures.others_kept == 1 and figures.kept == same

    redrawing = Editor(split, keeps=False)
    figures = editing(redrawing, redrawing, split, 60)  # type: ignore[arg-type]
    assert figures.changed == 1 and figures.kept["pose"] < 0.6 and figures.kept["background"] < 0.6
    assert figures.kept["tilt"] > 5


def test_every_edit_changes_the_named_part_only(split: PreparedSplit) -> None:
    edits = recolourings(split, 66, seed=1)
    assert len(edits) == 66 and len({edit.part for edit in edits}) == len(PARTS)
    for edit in edits:
        assert edit.caption in split.records[edit.row].captions
        before, after = caption_colours(edit.caption), caption_colours(edit.new_caption)
        assert after[edit.part] == edit.colour != before[edit.part]
        assert {part for part in before if before[part] != after[part]} == {edit.part}
        assert len(edit.caption.split()) == len(edit.new_caption.split())
    assert recolourings(split, 66, seed=1) == edits != recolourings(split, 66, seed=2)


def test_recoloured_captions_keep_their_grammar() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        bird = random_bird(rng, held_out=False)
        for line in captions(bird, rng):
            for part in caption_colours(line):
                changed = recoloured(line, part, "orange")
                if changed is not None:
                    assert caption_colours(changed)[part] == "orange"
                    assert " a orange" not in changed and "an grey" not in changed


def test_the_truth_survives_the_folder(split: PreparedSplit) -> None:
    for record, image in zip(split.records[:5], split.images[:5], strict=True):
        assert np.array_equal(draw(recorded_bird(record.parameters), 76), image)
    for broken in (None, {}, {"body": {"colour": "red"}}, {"crown": 3}):
        with pytest.raises(ValueError, match="prepare again"):
            recorded_bird(broken)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("edit") / "painted"
    prepare_painted(folder, count=2, seed=3, test_count=66, workers=1)
    return PreparedFolder.open(folder).splits["test"]
