"""Which pictures have captions that use the same words: where learning who-has-what has to happen.

A red bird with black wings and a black bird with red wings are told apart by no bag of words. Pairs like these are
the hard negatives of the caption encoder's contrast and of the discriminators' mismatched captions.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bags_of_words", "nearest_others"]

MOST_WORDS = 1024  # that bags are made of
CANDIDATES = 256  # closest pictures that are looked through for different species


def bags_of_words(captions: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """What words each picture's captions use: (N, V) unit rows of tf · idf.

    tf is the share of the picture's captions that use the word, so that what most of them name (colours of parts)
    counts for more than what one of them happens to mention.

    Args:
        captions: of each picture.

    >>> bags = bags_of_words([["a red bird, black wings"], ["A black bird; red wings"], ["a green bird"]])
    >>> bool(bags[0] @ bags[1] > 0.99), bool(bags[0] @ bags[2] > 0.99)
    (True, False)
    """
    uses = [Counter(word for text in texts for word in set(_words(text))) for texts in captions]
    pictures = Counter(word for used in uses for word in used)
    kept = sorted(pictures, key=lambda word: (-pictures[word], word))[:MOST_WORDS]
    column = {word: i for i, word in enumerate(kept)}
    bags = np.zeros((len(captions), len(kept)), np.float32)
    for row, (used, texts) in enumerate(zip(uses, captions, strict=True)):
        for word, times in used.items():
            if word in column:
                bags[row, column[word]] = times / len(texts) * math.log(len(captions) / pictures[word])
    length = np.linalg.norm(bags, axis=1, keepdims=True)
    return np.divide(bags, length, out=np.zeros_like(bags), where=length > 0)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def nearest_others(bags: NDArray[np.float32], species: NDArray[np.int64], count: int = 24) -> list[NDArray[np.int64]]:
    """For each picture the ``count`` closest ones by their bags, each of another species, none of its own.

    Args:
        bags: (N, V) unit rows.
        species: (N,) numbers.

    Returns: for each picture at most ``count`` indices, closest first; fewer where there are fewer species.

    >>> near = nearest_others(np.eye(4, 3, dtype=np.float32), np.array([0, 0, 1, 2]), count=2)
    >>> sorted(near[0].tolist())
    [2, 3]
    """
    found: list[NDArray[np.int64]] = []
    looked = min(CANDIDATES, len(bags))
    for start in range(0, len(bags), 256):
        close = bags[start : start + 256] @ bags.T
        candidates = np.argpartition(-close, looked - 1, axis=1)[:, :looked]
        for row, near in enumerate(candidates):
            near = near[np.argsort(-close[row, near], kind="stable")]
            near = near[species[near] != species[start + row]]
            _, first = np.unique(species[near], return_index=True)
            found.append(near[np.sort(first)[:count]])
    return found
