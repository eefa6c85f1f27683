"""Indefinite articles: "a" or "an" before a phrase, also when a word is replaced."""

import re

__all__ = ["article", "before_word", "replaced", "with_article"]


def article(word: str) -> str:
    """ "a" or "an", depending on the first letter of the next word."""
    return "an" if word[:1].lower() in "aeiou" else "a"


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an".

    >>> with_article("orange beak"), with_article("red crown")
    ('an orange beak', 'a red crown')
    """
    return f"{article(phrase)} {phrase}"


def replaced(text: str, span: tuple[int, int], words: str) -> str:
    """The text with the words at ``span`` replaced, and "a" or "an" before them adjusted.

    >>> replaced("an orange bird", (3, 9), "red")
    'a red bird'
    """
    return before_word(text[: span[0]], words) + words + text[span[1] :]


def before_word(before: str, word: str) -> str:
    """``before`` with its last word, if it is "a" or "an", adjusted to ``word``.

    >>> before_word("this is a ", "orange"), before_word("An ", "red"), before_word("two ", "owls")
    ('this is an ', 'A ', 'two ')
    """
    ending = article(word)[1:]
    return re.sub(r"\b([aA])n?(\s+)$", rf"\g<1>{ending}\2", before)
