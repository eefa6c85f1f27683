"""Hard negatives: wrong captions that use the same words as the right one.

"a red bird with black wings" and "a black bird with red wings" consist of the same words: only their order says which
part has which colour. As negatives such captions teach a model to bind colours to parts (NegCLIP, arXiv:2210.01936,
section 4). They come from two sources:

- the caption itself with two words swapped (:func:`swapped_captions`). Which words may be swapped is learned from the
  captions, without a tagger: two words are of one class when they stand between the same neighbours (Harris'
  distributional hypothesis), as colours do, and parts, and sizes;
- captions of other images of another species that use the same words (:func:`nearest_of_other_species`), nearest by
  tf-idf vectors.

The caption encoder's contrast and the discriminators' mismatched captions use both.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stackgan.captions.articles import before_word

__all__ = ["FUNCTION_WORDS", "WordSwaps", "nearest_of_other_species", "swapped_captions", "tf_idf"]

ALIKE = 0.5  # least cosine of two words' neighbours that makes them one class
APART = 3  # least distance of the swapped words: "wings and tail" means the same both ways
SWAP_VOCABULARY = 2000  # most frequent words that are classed
FEWEST_USES = 5  # of a word whose neighbours are counted
TF_IDF_VOCABULARY = 1024  # most frequent words that tf-idf vectors count
CANDIDATES = 256  # nearest images among which those of other species are looked for

# Words that are no attribute: swapped, they make nonsense or the same sentence.
FUNCTION_WORDS = frozenset(
    (
        "a", "an", "the", "this", "that", "these", "those", "there", "it", "its", "is", "are", "was", "were", "be",
        "been", "being", "has", "have", "had", "having", "with", "and", "or", "but", "of", "in", "on", "by", "to",
        "as", "at", "for", "from", "very", "quite", "also", "both", "all", "which", "who", "while",
    )
)  # fmt: skip


class WordSwaps:
    """Word classes learned from captions, and captions with two words of one class swapped.

    Args:
        captions: that the classes are learned from.

    >>> texts = [f"a {one} bird with {two} wings" for one in ("red", "black", "blue") for two in ("red", "black")]
    >>> swaps = WordSwaps(texts)
    >>> swaps.swap("A red bird with black wings.", np.random.default_rng(0))
    'A black bird with red wings.'
    """

    def __init__(self, captions: Sequence[str]) -> None:
        sentences = [[token for token, _ in _tokens(caption)] for caption in captions]
        uses = Counter(token for sentence in sentences for token in sentence)
        kept = sorted((word for word in uses if uses[word] >= FEWEST_USES), key=lambda word: (-uses[word], word))
        self.words = kept[:SWAP_VOCABULARY]
        self.number = {word: i for i, word in enumerate(self.words)}
        self.close = self._classes(sentences)

    def _classes(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
        """(V, V): whether two different words stand between the same neighbours."""
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

    def swap(self, caption: str, draws: np.random.Generator) -> str | None:
        """The caption with two words of one class swapped, or None where it has no such two."""
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


def tf_idf(captions: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """tf-idf vectors of the words that each image's captions use: (N, V), unit rows.

    tf is the share of the image's captions that use the word, so that what most of them name (colours of parts) has
    more weight than what one of them mentions.

    Args:
        captions: of each image.

    >>> vectors = tf_idf([["a red bird, black wings"], ["A black bird; red wings"], ["a green bird"]])
    >>> bool(vectors[0] @ vectors[1] > 0.99), bool(vectors[0] @ vectors[2] > 0.99)
    (True, False)
    """
    uses = [Counter(word for text in texts for word in set(_words(text))) for texts in captions]
    images = Counter(word for used in uses for word in used)
    kept = sorted(images, key=lambda word: (-images[word], word))[:TF_IDF_VOCABULARY]
    column = {word: i for i, word in enumerate(kept)}
    vectors = np.zeros((len(captions), len(kept)), np.float32)
    for row, (used, texts) in enumerate(zip(uses, captions, strict=True)):
        for word, times in used.items():
            if word in column:
                vectors[row, column[word]] = times / len(texts) * math.log(len(captions) / images[word])
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def nearest_of_other_species(
    vectors: NDArray[np.float32], species: NDArray[np.int64], count: int = 24
) -> list[NDArray[np.int64]]:
    """For each image the nearest ones by cosine, one of each of the ``count`` nearest other species.

    Args:
        vectors: (N, V) unit rows.
        species: (N,) numbers.

    Returns: for each image at most ``count`` indices, nearest first; fewer where there are fewer species.

    >>> near = nearest_of_other_species(np.eye(4, 3, dtype=np.float32), np.array([0, 0, 1, 2]), count=2)
    >>> sorted(near[0].tolist())
    [2, 3]
    """
    found: list[NDArray[np.int64]] = []
    looked = min(CANDIDATES, len(vectors))
    for start in range(0, len(vectors), 256):
        close = vectors[start : start + 256] @ vectors.T
        candidates = np.argpartition(-close, looked - 1, axis=1)[:, :looked]
        for row, near in enumerate(candidates):
            near = near[np.argsort(-close[row, near], kind="stable")]
            near = near[species[near] != species[start + row]]
            _, first = np.unique(species[near], return_index=True)
            found.append(near[np.sort(first)[:count]])
    return found
