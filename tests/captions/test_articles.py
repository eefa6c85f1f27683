"""The indefinite article, "a" or "an", by the word that follows."""

from stackgan.captions.articles import before_word, replaced, with_article


def test_articles_are_adjusted() -> None:
    assert replaced("a red bird", (2, 5), "azure") == "an azure bird"
    assert replaced("An orange bird", (3, 9), "teal") == "A teal bird"
    assert replaced("red wings", (0, 3), "teal") == "teal wings"


def test_other_words_are_kept() -> None:
    assert before_word("extra ", "orange") == "extra " and before_word("a, ", "orange") == "a, "
    assert with_article("Orange beak") == "an Orange beak"
