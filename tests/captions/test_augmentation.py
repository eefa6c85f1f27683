"""Caption augmentation: a shortened caption is not empty and states nothing that the caption does not."""

import re

import numpy as np
import pytest

from data_prep.painted import random_bird
from data_prep.painted_captions import captions as captions_of
from stackgan.captions.augmentation import Shortener, augmented_captions, content_words
from stackgan.captions.lexicon import HELD_OUT, MEANINGS

BIRDS = [
    "this small bird is mostly red with black wings, a white belly and a short, curved beak.",
    "a bird with a blue crown and breast, black and grey wings, and its long tail is blue.",
    "the bird is a bright bluish green color, the eye is black and the beak sharp.",
    "this bird has a yellow belly and a black head that is round.",
    "A brown bird and its grey beak, the wings are black and the tail is white.",
    "a large white bird has orange feet, a blue eye and a long tail.",
]


@pytest.fixture(scope="module")
def shortener() -> Shortener:
    # Nouns are inferred from many captions: each adjective occurs before a noun in one of them.
    parts = ("bird", "wings", "belly", "beak", "crown", "tail", "head", "feet", "eye", "breast")
    words = ("red", "black", "white", "grey", "blue", "green", "long", "short", "curved", "sharp", "round")
    return Shortener(BIRDS + [f"a {word} {part} with a {other} head" for word in words for part in parts
                              for other in words])  # fmt: skip


@pytest.fixture(scope="module")
def painted() -> list[str]:
    draws = np.random.default_rng(0)
    return [caption for _ in range(300) for caption in captions_of(random_bird(draws, held_out=False), draws)]


def test_phrases_of_real_sentences(shortener: Shortener) -> None:
    assert [shortener.phrases(caption) for caption in BIRDS] == [
        ("small red bird", ["black wings", "white belly", "short, curved beak"]),
        ("bird", ["blue crown", "black and grey wings", "long blue tail"]),
        ("bright bluish green bird", ["black eye"]),
        ("bird", ["yellow belly", "black round head"]),
        ("brown bird", ["grey beak", "black wings", "white tail"]),
        ("large white bird", ["orange feet", "blue eye", "long tail"]),
    ]


def test_short_forms_state_only_what_the_caption_states(shortener: Shortener) -> None:
    draws = np.random.default_rng(0)
    found = {shortener.draw(BIRDS[0], draws) for _ in range(200)}
    assert {"a small red bird", "small red bird with white belly", "a small red bird with black wings"} <= found
    assert {"a small red bird with black wings and a short, curved beak"} <= found
    for text in found:
        assert text is not None and content_words(text) <= content_words(BIRDS[0])
        assert not re.search(r"\ba (?:[aeiou]|black wings)", text), text
    assert shortener.draw("this is a bird", draws) is None
    assert shortener.draw("", draws) is None and shortener.draw("!?", draws) is None


def test_a_generated_language_is_cut_without_a_change_of_meaning(painted: list[str]) -> None:
    """Colours stay with their parts: each "colour part" of a short form occurs in the caption too."""
    shortener, draws, cut = Shortener(painted), np.random.default_rng(1), 0
    for caption in painted:
        text = shortener.draw(caption, draws)
        if text is None:
            continue
        cut += 1
        assert len(text.split()) <= len(caption.split()) + 2
        assert content_words(text) <= content_words(caption), (caption, text)
    assert cut > 0.7 * len(painted)


def test_rewordings_are_of_many_forms_and_know_what_they_say(painted: list[str]) -> None:
    told = augmented_captions(painted, seed=0)
    texts, kept = list(told.texts), list(told.words)
    assert len(texts) == len(kept) == len(painted)
    assert texts == list(augmented_captions(painted, seed=0).texts) != list(augmented_captions(painted, seed=1).texts)
    same = [text for caption, text in zip(painted, texts, strict=True) if text == caption]
    assert len(same) < 0.4 * len(texts)
    shorter = np.mean([len(text.split()) < len(c.split()) for c, text in zip(painted, texts, strict=True)])
    assert 0.3 < shorter < 0.8
    words = set(" ".join(texts).split())
    assert len(words & set(MEANINGS)) > 100 and not words & HELD_OUT
    for caption, own in zip(painted, kept, strict=True):
        assert set(own.split()) <= content_words(caption)


def test_captions_without_phrases_are_kept() -> None:
    told = augmented_captions(["??", "x", "of the and"] * 5, seed=0)
    assert set(told.words) == {"", "x"}
    assert all(text in new for text, new in zip(["??", "x", "of the and"] * 5, told.texts, strict=True))
