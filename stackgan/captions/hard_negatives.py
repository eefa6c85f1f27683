"""Captions with two words swapped: the same words, another picture.

"a red bird with black wings" and "a black bird with red wings" are told apart by no bag of words. As negatives such
pairs teach who has what (NegCLIP, arXiv:2210.01936, section 4). Which words may be swapped is learned from the
captions themselves, without a tagger: two words are of a kind when they stand between the same neighbours (Harris'
distributional hypothesis), as colours do, and parts, and sizes.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stackgan.captions.lexicon import before_word

__all__ = ["WordSwaps", "swapped_captions"]

ALIKE = 0.5  # least cosine of two words' neighbours
APART = 3  # words between which the swap is to mean something: not "wings and tail", which reads the same both ways
MOST_WORDS = 2000
FEWEST_USES = 5  # of a word whose neighbours are to be known

# Words that carry no attribute: swapped, they make nonsense or the same sentence.
FUNCTION_WORDS = frozenset(
    (
        "a", "an", "the", "this", "that", "these", "those", "there", "it", "its", "is", "are", "was", "were", "be",
        "been", "being", "has", "have", "had", "having", "with", "and", "or", "but", "of", "in", "on", "by", "to",
        "as", "at", "for", "from", "very", "quite", "also", "both", "all", "which", "who", "while",
    )
)  # fmt: skip


class WordSwaps:
    """What words of the captions are of a kind, and captions with two of them swapped.

    Args:
        captions: that the kinds are learned from.

    >>> texts = [f"a {one} bird with {two} wings" for one in ("red", "black", "blue") for two in ("red", "black")]
    >>> swaps = WordSwaps(texts)
    >>> swaps.alike("red")
    ['black']
    >>> swaps.swap("A red bird with black wings.", np.random.default_rng(0))
    'A black bird with red wings.'
    """

    def __init__(self, captions: Sequence[str]) -> None:
        sentences = [[token for token, _ in _tokens(caption)] for caption in captions]
        uses = Counter(token for sentence in sentences for token in sentence)
        kept = sorted((word for word in uses if uses[word] >= FEWEST_USES), key=lambda word: (-uses[word], word))
        self.words = kept[:MOST_WORDS]
        self.number = {word: i for i, word in enumerate(self.words)}
        self.close = self._kinds(sentences)

    def _kinds(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
        """(V, V): which two different words stand between the same neighbours."""
        count = len(self.words)
        neighbours = np.zeros((count + 1, 2 * (count + 1)), np.float32)  # the last row: rare words, sentence ends
        for sentence in sentences:
            numbers = np.array([count, *(self.number.get(token, count) for token in sentence), count])
            np.add.at(neighbours, (numbers[1:], numbers[:-1]), 1)
            np.add.at(neighbours, (numbers[:-1], count + 1 + numbers[1:]), 1)
        rows = np.sqrt(neighbours[:count])
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        carries = np.array([word.isalpha() and word not in FUNCTION_WORDS for word in self.words], dtype=bool)
        close = (rows @ rows.T > ALIKE) & carries[:, None] & carries[None]
        np.fill_diagonal(close, False)
        return close

    def alike(self, word: str) -> list[str]:
        """Words of the same kind, the most used first; none for a word that the captions do not use."""
        number = self.number.get(word)
        return [] if number is None else [self.words[i] for i in np.flatnonzero(self.close[number])]

    def swap(self, caption: str, draws: np.random.Generator) -> str | None:
        """The caption with two words of a kind swapped, or None where there are no such two."""
        tokens = _tokens(caption)
        known = [(self.number[token], span) for token, span in tokens if token in self.number]
        places = np.array([i for i, (token, _) in enumerate(tokens) if token in self.number])
        if len(known) < 2:
            return None
        numbers = np.array([number for number, _ in known])
        can = self.close[numbers[:, None], numbers[None]] & (places[None] - places[:, None] >= APART)
        pairs = np.argwhere(can)
        if not len(pairs):
            return None
        first, second = pairs[draws.integers(len(pairs))]
        (a, b), (c, d) = known[first][1], known[second][1]
        one, other = caption[a:b], caption[c:d]
        left, middle, right = caption[:a], caption[b:c], caption[d:]
        return before_word(left, other) + other + before_word(middle, one) + one + right


def swapped_captions(captions: Sequence[str], seed: int) -> list[str | None]:
    """One swapped version of every caption (None where nothing can be swapped); equal captions get equal ones."""
    distinct = list(dict.fromkeys(captions))
    swaps, draws = WordSwaps(distinct), np.random.default_rng((seed, 0x5A))
    swapped = {caption: swaps.swap(caption, draws) for caption in distinct}
    return [swapped[caption] for caption in captions]


def _tokens(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Lower-case words and single signs with their places."""
    return [(match[0].lower(), match.span()) for match in re.finditer(r"[^\W_]+|[^\w\s]", text)]
