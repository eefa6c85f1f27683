"""The checkpoints in this repository: redistributable files, complete model cards, colours of captions."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stackgan.checkpoint import load_checkpoint
from stackgan.cli import options
from stackgan.evaluation.colour_measure import COLOUR_ORDER
from stackgan.evaluation.image_source import ImageSource
from stackgan.evaluation.sections.colour_words import colour_word_figures
from stackgan.io.checkpoint_names import bundled_checkpoints, default_checkpoint
from stackgan.pipeline import StackGANPipeline

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(file.parent for file in (ROOT / "checkpoints").glob("*/config.json"))
MIB = 2**20
OTHERS = dict(zip(COLOUR_ORDER, (*COLOUR_ORDER[3:], *COLOUR_ORDER[:3]), strict=True))
CAPTIONS = [
    caption
    for colour, other in OTHERS.items()
    for caption in (
        f"a {colour} bird",
        f"this bird is {colour} with a short pointed beak",
        f"a small bird with a {colour} breast and {other} wings",
        f"the bird has a {colour} crown and a {colour} belly",
        f"a {colour} bird with {other} wings",
    )
]


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MIB


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_small_holds_no_pickle_and_is_in_half_precision(folder: Path) -> None:
    assert _size(folder) <= 40
    kinds = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert kinds <= {".safetensors", ".json", ".txt", ".md", ".png"}
    for file in folder.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            if tensor.is_floating_point():
                fits = bool(tensor.abs().max() <= torch.finfo(torch.half).max)
                assert tensor.isfinite().all() and tensor.dtype == (torch.half if fits else torch.float32), name


def test_all_together_are_small_and_the_default_is_one_of_them() -> None:
    assert FOLDERS and _size(ROOT / "checkpoints") <= 100
    assert bundled_checkpoints() == {folder.name: folder for folder in FOLDERS}
    assert default_checkpoint() == "birds-256" and options.PHOTO_CHECKPOINT in bundled_checkpoints()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_card_is_complete_and_shows_what_it_names(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| (.+) \|$", card, re.MULTILINE))
    assert {"data", "recipe", "trained", "licence"} <= rows.keys()
    assert "## Figures" in card and re.search(r"^## (Failures|Limits)", card, re.MULTILINE)
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", card)
    assert pictures and all((folder / picture).is_file() for picture in pictures)
    assert {file.name for file in folder.glob("*.png")} == set(pictures)
    seen = f"{load_checkpoint(folder).facts.trained.images:,}"
    assert seen in rows["trained"], f"config.json says {seen} images"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_colour_word_moves_the_image_to_its_colour(folder: Path) -> None:
    pipe = StackGANPipeline.from_pretrained(folder, device="cpu")
    assert pipe.text_encoder is not None
    taught = CAPTIONS if not pipe.text_encoder.warnings(["a crimson bird"]) else None  # shades, if they are known
    source = ImageSource(pipe, stage=0)  # colours are measured at 32 px; the finest stage: tests/test_readme.py
    figures, _ = colour_word_figures(source, CAPTIONS, count=48, seed=0, training_captions=taught)
    print({name: (found["moved"], found["shuffled_control"]) for name, found in figures.items()})
    assert figures["words"]["moved"] >= 0.75 and figures["words"]["shuffled_control"] <= 0.6
    if taught is not None:
        assert figures["synonyms"]["moved"] >= 0.7 and figures["synonyms"]["gained_over_others"] >= 0.55
