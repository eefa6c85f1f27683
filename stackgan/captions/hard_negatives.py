"""Hard negatives: wrong captions that use the same words as the right one.

"a red bird with black wings" and "a black bird with red wings" consist of the same words: only the order determines
which part has which colour. With such captions as negatives, a model learns to associate colours with parts (NegCLIP,
arXiv:2210.01936, section 4). There are two kinds:

- the caption itself with two words swapped (:func:`swapped_captions`). Classes of exchangeable words are estimated
  from the captions, without a tagger: two words are in one class if they occur between the same neighbours (Harris'
  distributional hypothesis), such as colours, parts, or sizes;
- captions of other images of another species that use the same words (:func:`nearest_of_other_species`), nearest by
  tf-idf vectors.

The contrastive training of the caption encoder and the discriminators' mismatched captions use both.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stackgan.captions.articles import before_word

__all__ = ["FUNCTION_WORDS", "WordSwapper", "nearest_of_other_species", "swapped_captions", "tf_idf"]

ALIKE = 0.5  # minimum cosine between the neighbour counts of two words in one class
APART = 3  # minimum distance of swapped words, as "wings and tail" and "tail and wings" have the same meaning
SWAP_VOCABULARY = 2000  # number of most frequent words that are classified
FEWEST_USES = 5  # minimum uses of a classified word
TF_IDF_VOCABULARY = 1024  # number of most frequent words in tf-idf vectors
CANDIDATES = 256  # nearest images that are searched for other species

# Words that are not attributes: swapping them gives nonsense or an equivalent sentence.
FUNCTION_WORDS = frozenset(
    (
        "a", "an", "the", "this", "that", "these", "those", "there", "it", "its", "is", "are", "was", "were", "be",
        "been", "being", "has", "have", "had", "having", "with", "and", "or", "but", "of", "in", "on", "by", "to",
        "as", "at", "for", "from", "very", "quite", "also", "both", "all", "which", "who", "while",
    )
)  # fmt: skip


class WordSwapper:
    """Swaps two words of one class in captions, with word classes estimated from captions.

    Args:
        captions: to estimate the classes from.

    >>> texts = [f"a {one} bird with {two} wings" for one in ("red", "black", "blue") for two in ("red", "black")]
    >>> swapper = WordSwapper(texts)
    >>> swapper.swap("A red bird with black wings.", np.random.default_rng(0))
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
        """(V, V): whether two different words occur between the same neighbours."""
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
        """The caption with two words of one class swapped, or None if it has no such words."""
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
    """A version of every caption with two words swapped, or None if impossible; equal captions get equal versions."""
    distinct = list(dict.fromkeys(captions))
    swapper, draws = WordSwapper(distinct), np.random.default_rng((seed, 0x5A))
    swapped = {caption: swapper.swap(caption, draws) for caption in distinct}
    return [swapped[caption] for caption in captions]


def _tokens(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Lower-case words and punctuation marks with their positions."""
    return [(match[0].lower(), match.span()) for match in re.finditer(r"[^\W_]+|[^\w\s]", text)]


def tf_idf(captions: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """tf-idf vectors of the words in each image's captions: (N, V), unit rows.

    tf is the share of the image's captions that contain the word, so that words of most captions (colours of parts)
    have more weight than words of a single one.

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
    """For each image, the nearest images by cosine, one of each of the ``count`` nearest other species.

    Args:
        vectors: (N, V) unit rows.
        species: (N,) numbers.

    Returns: for each image at most ``count`` indices, nearest first; fewer if there are fewer species.

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
