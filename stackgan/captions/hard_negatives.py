"""Hard negatives: wrong captions that use the same words as the right one.

"a red bird with black wings" and "a black bird with red wings" consist of the same words: only the order determines
which part has which colour. With such captions as negatives, a model learns to associate colours with parts (NegCLIP,
arXiv:2210.01936, section 4). There are two kinds:

- the caption itself with two words swapped (:func:`swapped_captions`). Classes of exchangeable words are estimated
  from the captions, without a tagger: two words are in one class if they occur between the same neighbours (Harris'
  distributional hypothesis), such as colours, parts, or sizes;
- captions of other images of another species that use the same words (:func:`nearest_of_other_species`), nearest by
  tf-idf vectors.

Memory use is a few bytes for each caption, whatever its length: captions are read one after another, and those with
swapped words are stored on the disk (:mod:`stackgan.io.spool`).

The contrastive training of the caption encoder and the discriminators' mismatched captions use both.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stackgan.captions.articles import before_word
from stackgan.captions.distinct import distinct_rows
from stackgan.io.spool import SelectedStrings, StringSpool, spooled_array

__all__ = ["FUNCTION_WORDS", "TfIdf", "WordSwapper", "nearest_of_other_species", "swapped_captions"]

ALIKE = 0.5  # minimum cosine between the neighbour counts of two words in one class
APART = 3  # minimum distance of swapped words, as "wings and tail" and "tail and wings" have the same meaning
SWAP_VOCABULARY = 2000  # number of most frequent words that are classified
FEWEST_USES = 5  # minimum uses of a classified word
TF_IDF_VOCABULARY = 1024  # number of most frequent words in tf-idf vectors
CANDIDATES = 256  # nearest images that are searched for other species
EXACT = 16_384  # up to so many images, each is compared with all others
BLOCK = 4096  # with more images, each is compared with so many, at least half of them

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
        uses = Counter(token for sentence in _sentences(captions) for token in sentence)
        kept = sorted((word for word in uses if uses[word] >= FEWEST_USES), key=lambda word: (-uses[word], word))
        self.words = kept[:SWAP_VOCABULARY]
        self.number = {word: i for i, word in enumerate(self.words)}
        self.close = self._classes(captions)

    def _classes(self, captions: Sequence[str]) -> NDArray[np.bool_]:
        """(V, V): whether two different words occur between the same neighbours."""
        count = len(self.words)
        neighbours = np.zeros((count + 1, 2 * (count + 1)), np.float32)  # the last row: rare words, sentence ends
        for sentence in _sentences(captions):
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


def swapped_captions(captions: Sequence[str], seed: int) -> Sequence[str]:
    """A version of every caption with two words swapped, or "" if impossible; equal captions get equal versions."""
    first, number = distinct_rows(captions)
    distinct = SelectedStrings(captions, first)
    swapper, draws = WordSwapper(distinct), np.random.default_rng((seed, 0x5A))
    return SelectedStrings(StringSpool(swapper.swap(caption, draws) or "" for caption in distinct), number)


def _sentences(captions: Sequence[str]) -> Iterator[list[str]]:
    return ([token for token, _ in _tokens(caption)] for caption in captions)


def _tokens(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Lower-case words and punctuation marks with their positions."""
    return [(match[0].lower(), match.span()) for match in re.finditer(r"[^\W_]+|[^\w\s]", text)]


class TfIdf:
    """tf-idf vectors of the words in each image's captions: (N, V), unit rows, computed where they are needed.

    tf is the share of the image's captions that contain the word, so that words of most captions (colours of parts)
    have more weight than words of a single one.

    Args:
        captions: of each image.

    >>> images = [["a red bird, black wings"], ["A black bird; red wings"], ["a green bird"]]
    >>> vectors = TfIdf(images).vectors([0, 1, 2])
    >>> bool(vectors[0] @ vectors[1] > 0.99), bool(vectors[0] @ vectors[2] > 0.99)
    (True, False)
    """

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        self.captions = captions
        self.images = Counter(word for texts in captions for word in _uses(texts))
        kept = sorted(self.images, key=lambda word: (-self.images[word], word))[:TF_IDF_VOCABULARY]
        self.column = {word: i for i, word in enumerate(kept)}

    def vectors(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Vectors of the images ``rows``, (B, V)."""
        vectors = np.zeros((len(rows), len(self.column)), np.float32)
        for place, row in enumerate(rows):
            texts = self.captions[row]
            for word, times in _uses(texts).items():
                if word in self.column:
                    weight = math.log(len(self.captions) / self.images[word])
                    vectors[place, self.column[word]] = times / len(texts) * weight
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _uses(texts: Sequence[str]) -> Counter[str]:
    """How many of the texts contain each word."""
    return Counter(word for text in texts for word in set(_words(text)))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def nearest_of_other_species(
    captions: Sequence[Sequence[str]], species: NDArray[np.int64], count: int = 24
) -> NDArray[np.int32]:
    """For each image, the nearest images by cosine of their captions, one of each of the nearest other species.

    More than ``EXACT`` images are divided at random into blocks of at most ``BLOCK``, and each image is compared with
    those of its block: time grows with N instead of N².

    Args:
        captions: of each image.
        species: (N,) numbers.

    Returns: (N, count) indices, on the disk, nearest first; −1 at the end of a row if there are fewer species.

    >>> near = nearest_of_other_species([["a"], ["b"], ["a b"], ["c"]], np.array([0, 0, 1, 2]), count=3)
    >>> near.tolist()
    [[2, 3, -1], [2, 3, -1], [0, 3, -1], [0, 2, -1]]
    """
    found = spooled_array((len(captions), count), np.int32)
    found[:] = -1
    weights = TfIdf(captions)
    for rows in _blocks(len(captions)):
        vectors = weights.vectors(rows.tolist())
        looked = min(CANDIDATES, len(rows))
        for start in range(0, len(rows), 256):
            close = vectors[start : start + 256] @ vectors.T
            candidates = np.argpartition(-close, looked - 1, axis=1)[:, :looked]
            for place, near in enumerate(candidates):
                own = rows[start + place]
                near = rows[near[np.argsort(-close[place, near], kind="stable")]]
                near = near[species[near] != species[own]]
                _, first = np.unique(species[near], return_index=True)
                near = near[np.sort(first)[:count]]
                found[own, : len(near)] = near
    return found


def _blocks(images: int) -> list[NDArray[np.int64]]:
    """All numbers below ``images``, in order or in random blocks of similar size."""
    if images <= EXACT:
        return [np.arange(images)] if images else []
    order = np.random.default_rng(0).permutation(images)
    return np.array_split(order, -(-images // BLOCK))
