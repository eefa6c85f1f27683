"""Caption augmentation with synonyms: words of the lexicon, held-out words, and longer sentences."""

import re

import numpy as np
import pytest

from stackgan.captions.lexicon import HELD_OUT, MEANINGS
from stackgan.captions.synonyms import SynonymReplacer, in_a_sentence

CAPTION = "A small red bird with a dark blue belly and an orange beak."


def draws(count: int, **options: object) -> list[tuple[str, str, str | None]]:
    replacer, random = SynonymReplacer(**options), np.random.default_rng(0)  # type: ignore[arg-type]
    return [drawn for _ in range(count) if (drawn := replacer.draw(CAPTION, random)) is not None]


def test_one_word_is_replaced() -> None:
    seen = set()
    for said, meant, wrong in draws(400):
        new = next(word for word in sorted(MEANINGS, key=len, reverse=True) if re.search(rf"\b{word}\b", said))
        head = MEANINGS[new].split()[-1]
        assert head in CAPTION and head in meant and MEANINGS[new] in meant
        assert said != meant and len(said.split()) <= len(meant.split())
        if wrong is not None:
            assert head not in wrong.split() or (head == "blue" and "dark blue" not in wrong)
        seen.add(head)
    assert seen == {"small", "red", "bird", "blue", "belly", "orange", "beak"}


def test_a_whole_meaning_is_replaced_at_once() -> None:
    blues = {said for said, meant, _ in draws(400) if meant == CAPTION and "dark blue" not in said}
    assert "A small red bird with a navy belly and an orange beak." in blues
    assert not any("dark" in said for said in blues)


def test_held_out_words_are_never_used() -> None:
    texts = " ".join(said for said, _, _ in draws(2000))
    assert not HELD_OUT & set(re.findall(r"[a-z]+", texts))
    everything = " ".join(said for said, _, _ in draws(2000, held_out=()))
    assert "minuscule" in everything and "vermilion" in everything


def test_nothing_to_replace() -> None:
    assert SynonymReplacer().draw("the thing is up there", np.random.default_rng(0)) is None


@pytest.mark.parametrize("caption", ["a red bird with white wings.", "This bird is red"])
def test_sentences_around_a_caption(caption: str) -> None:
    random = np.random.default_rng(0)
    wrapped = {in_a_sentence(caption, random) for _ in range(50)}
    assert len(wrapped) > 25 and all(caption.rstrip(".") in text for text in wrapped)
    thing = any(text.startswith("i saw ") for text in wrapped)
    assert thing == caption.startswith("a ")  # as "i saw this bird is red" is not a sentence
