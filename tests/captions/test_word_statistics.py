"""Word statistics of training captions: which captions are out of their domain."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_prep.painted import bird_with_captions
from stackgan.captions.word_statistics import CaptionStatistics, caption_words, measure_captions
from stackgan.evaluation.colour_measure import COLOUR_ORDER
from stackgan.evaluation.metrics import area_under_curve

TESTS = Path(__file__).parents[1]
PLAIN = (TESTS / "plain_captions.txt").read_text("utf-8").splitlines()
EVERYDAY = (TESTS / "everyday_sentences.txt").read_text("utf-8").splitlines()
PAINTED = TESTS.parent / "checkpoints/painted-64/caption_statistics.json"
BIRDS = TESTS.parent / "checkpoints/birds-256/caption_statistics.json"


def birds() -> CaptionStatistics:
    return CaptionStatistics.from_dict(json.loads(BIRDS.read_text("utf-8")), "birds-256")


@pytest.fixture(scope="module")
def painted() -> CaptionStatistics:
    captions = [caption for index in range(150) for caption in bird_with_captions(0, "train", index)[1]]
    found = measure_captions(captions)
    assert found is not None
    return found


def test_plain_short_captions_pass_and_everyday_sentences_do_not() -> None:
    statistics = birds()
    plain, everyday = ([statistics.margin(text) for text in texts] for texts in (PLAIN, EVERYDAY))
    assert len(plain) == 100 and sum(margin < 0 for margin in plain) <= 5
    assert sum(margin < 0 for margin in everyday) >= 0.9 * len(everyday)
    assert area_under_curve(torch.tensor(plain), torch.tensor(everyday)) >= 0.97


REWRITTEN: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "a sentence": lambda text: f"{text.capitalize()}.",
    "quoted": lambda text: f"\u201c{text}\u201d",
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "zero-width spaces": lambda text: text.replace(" ", " \u200b"),
    "soft hyphens": lambda text: text.replace("bird", "bi\u00adrd"),
    "accents": lambda text: text.replace("e", "\u00e9"),
    "decomposed accents": lambda text: text.replace("e", "e\u0301"),
    "direction marks": lambda text: f"\u202a{text}\u202c",
    "hyphens": lambda text: text.replace(" bird", "-bird"),
    "an emoji": lambda text: f"{text} \U0001f426",
    "a photo of": lambda text: f"a photo of {text}",
    "commas": lambda text: text.replace(" with ", ", ").replace(" and ", ", "),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_plain_captions_written_in_other_ways_pass(case: str) -> None:
    statistics, rewrite = birds(), REWRITTEN[case]
    assert sum(statistics.warning(rewrite(text)) is not None for text in PLAIN) <= 5
    assert sum(statistics.warning(rewrite(text)) is not None for text in EVERYDAY) >= 0.9 * len(EVERYDAY)


def test_captions_of_unseen_species_pass(shared: Path) -> None:
    statistics = birds()
    files = sorted((shared / "cub/birds/text").glob("0[0136][146]*/*.txt"))
    captions = [line for file in files for line in file.read_text("utf-8").splitlines() if line.strip()]
    margins = [statistics.margin(caption) for caption in captions]
    assert len(margins) > 300 and sum(margin < 0 for margin in margins) <= 0.01 * len(margins)
    others = [statistics.margin(text) for text in EVERYDAY]
    assert area_under_curve(torch.tensor(margins), torch.tensor(others)) >= 0.97


def test_a_data_set_of_its_own_decides_what_its_domain_is(painted: CaptionStatistics) -> None:
    others = [caption for index in range(150, 180) for caption in bird_with_captions(0, "train", index)[1]]
    assert sum(painted.margin(caption) < 0 for caption in others) <= 0.02 * len(others)
    assert painted.warning("a small red bird") is None
    assert sum(painted.warning(text) is not None for text in EVERYDAY) >= 0.9 * len(EVERYDAY)


def test_the_bundled_painted_checkpoint_warns_of_everyday_sentences_and_not_of_plain_captions() -> None:
    statistics = CaptionStatistics.from_dict(json.loads(PAINTED.read_text("utf-8")), "painted-64")
    plain = [
        caption
        for colour, other in zip(COLOUR_ORDER, COLOUR_ORDER[1:] + COLOUR_ORDER[:1], strict=True)
        for caption in (
            f"{colour} bird",
            f"a {colour} bird",
            f"a small {colour} bird",
            f"a large {colour} bird",
            f"the bird is {colour}",
            f"a bird with {colour} wings",
            f"a {colour} bird with {other} wings",
            f"a {colour} bird with a {other} crown",
            f"a bird with a {colour} breast and a {other} head",
            f"a bird with a {colour} belly and a short beak",
        )
    ]
    assert len(plain) >= 100
    assert sum(statistics.margin(caption) < 0 for caption in plain) <= 0.05 * len(plain)
    unseen = [caption for index in range(50) for caption in bird_with_captions(1, "test", index)[1]]
    assert sum(statistics.margin(caption) < 0 for caption in unseen) <= 0.01 * len(unseen)
    assert sum(statistics.margin(text) < 0 for text in EVERYDAY) >= 0.9 * len(EVERYDAY)


def test_the_message_names_the_rarest_words(painted: CaptionStatistics) -> None:
    assert (
        painted.warning("train leaves tomorrow")
        == "out of domain: the training captions use other words (rare or absent there: train, tomorrow); "
        "the image may not follow this caption"
    )


def test_a_score_is_the_mean_log_document_frequency_of_the_words() -> None:
    statistics = CaptionStatistics(99, {"red": 50, "bird": 99}, (-3.0, -2.0))
    expected = (math.log(50.5 / 100) + math.log(99.5 / 100) + math.log(0.5 / 100)) / 3
    assert statistics.score("Red BIRD, flies!") == pytest.approx(expected)
    assert statistics.margin("red bird flies") == pytest.approx(expected + 2)
    assert statistics.margin("bird") == pytest.approx(math.log(99.5 / 100) + 3)


def test_a_caption_without_words_is_out_of_domain(painted: CaptionStatistics) -> None:
    assert caption_words("12 !? _") == [] and math.isnan(painted.score("12 !?"))
    assert painted.warning("12 !?") is not None


def test_captions_without_spaces_are_not_warned_of() -> None:
    captions = [
        f"一只有{part}的{size}{colour}鸟"
        for part in "翅尾喙头胸腹爪眼"
        for size in "大小"
        for colour in "红蓝绿黄黑白灰棕橙粉紫金银"
    ]
    statistics = measure_captions(captions * 2)
    assert statistics is not None and not any(map(statistics.warning, captions))


def test_few_captions_give_no_statistics() -> None:
    assert measure_captions([]) is None
    assert measure_captions(["a red bird"] * 5000) is None
    assert measure_captions([f"bird number {'x' * index}" for index in range(199)]) is None


def test_thresholds_never_fall_with_length(painted: CaptionStatistics) -> None:
    assert list(painted.thresholds) == sorted(painted.thresholds)
    assert all(map(math.isfinite, painted.thresholds))


def test_the_file_gives_the_same_statistics_back(painted: CaptionStatistics) -> None:
    again = CaptionStatistics.from_dict(json.loads(painted.to_json()), "file")
    assert again.to_json() == painted.to_json() and again.words == painted.words


@pytest.mark.parametrize(
    "change",
    [
        {"captions": 0},
        {"captions": True},
        {"captions": 1.5},
        {"thresholds": []},
        {"thresholds": ["-1"]},
        {"thresholds": [math.inf]},
        {"words": ["red"]},
        {"words": {"red": 0}},
        {"words": {"red": "many"}},
        {"more": 1},
    ],
)
def test_other_files_are_refused(change: dict[str, object]) -> None:
    values = {"captions": 300, "thresholds": [-5.0], "words": {"red": 3}} | change
    with pytest.raises(ValueError, match=r"^statistics\.json: "):
        CaptionStatistics.from_dict(values, "statistics.json")


def test_anything_but_an_object_is_refused() -> None:
    for values in (None, [], "words", 3):
        with pytest.raises(ValueError, match="caption statistics are an object"):
            CaptionStatistics.from_dict(values, "file")
