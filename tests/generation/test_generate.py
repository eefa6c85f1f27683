"""`generate`: its files, their names, and equality with the images of a batch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stackgan.generation.batch import batch
from stackgan.generation.generate import generate
from tests.generation.folders import contents, manifest, pixels
from tests.tiny import save_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def test_generate_repeats_an_image_of_the_batch(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    batch(captions, checkpoint=checkpoint, out=tmp_path / "batch", truncation=0.7)
    for record in manifest(tmp_path / "batch"):
        (file,) = generate(
            [record["caption"]],
            seeds=[record["seed"]],
            checkpoint=checkpoint,
            out=tmp_path / "single",
            truncation=record["truncation"],
        )
        difference = pixels(file) - pixels(tmp_path / "batch" / record["file"])
        assert np.abs(difference).max() <= 1


def test_generate_names_its_files_after_caption_and_seed(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "this bird has " + "very " * 30 + "red wings"
    texts = ["a red bird", "A red bird", "赤い鳥", long, long + "!", "a red bird"]
    files = generate(texts, seeds=[0, 7, 7], checkpoint=checkpoint, out=tmp_path / "out", size=64, batch_size=3)
    assert len(files) == len(set(files)) == 5 * 2
    assert files[:2] == [tmp_path / "out" / f"a-red-bird_seed-{seed}.png" for seed in (0, 7)]
    assert all(file.name.isascii() and len(file.name) < 100 for file in files)
    assert {Image.open(file).info["caption"] for file in files} == set(texts)
    error = capsys.readouterr().err
    assert '"赤い鳥": unknown word' in error
    assert f'"{long}": kept 22 of ' in error
    before = contents(tmp_path / "out")
    generate(texts, seeds=[0, 7], checkpoint=checkpoint, out=tmp_path / "out", size=64, batch_size=3)
    assert contents(tmp_path / "out") == before


def test_a_checkpoint_without_text_generates_seeds(tmp_path: Path, captions: Path) -> None:
    plain = save_tiny_checkpoint(tmp_path / "plain", stages=1, text=False)
    files = generate([], seeds=[3, 4], checkpoint=plain, out=tmp_path / "out")
    assert [file.name for file in files] == ["seed-3.png", "seed-4.png"]
    assert (pixels(files[0]) != pixels(files[1])).any()
    with pytest.raises(ValueError, match="without text: leave the captions out"):
        generate(["a bird"], seeds=[3], checkpoint=plain, out=tmp_path / "other")
    with pytest.raises(ValueError, match="without text: use generate"):
        batch(captions, checkpoint=plain, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()
