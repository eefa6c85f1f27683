"""Synonym accuracy of a text encoder: words that do not occur in captions.

In captions with one basic colour word, the word is replaced by a synonym. Among the caption with each basic colour,
the nearest by cosine of standardised embeddings should be the original caption:

    accuracy = share of captions with  argmax_K cos(e(synonym), e(K)) = the original colour
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stackgan.captions.articles import replaced
from stackgan.captions.lexicon import BASIC_COLOURS, MEANINGS, SPELLINGS
from stackgan.text.base import TextEncoder

__all__ = ["basic_colours", "synonym_accuracy"]

MEASURED = 1000  # captions for mean and standard deviation of embeddings


def basic_colours(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The basic colour words of a text with their positions; gray is returned as grey.

    >>> basic_colours("A gray bird, red wings")
    [('grey', (2, 6)), ('red', (13, 16))]
    """
    found = re.finditer(r"\b(?:gray|" + "|".join(BASIC_COLOURS) + r")\b", text, re.IGNORECASE)
    return [(SPELLINGS[match[0].lower()], match.span()) for match in found]


def synonym_accuracy(
    encoder: TextEncoder,
    captions: Sequence[str],
    words: Sequence[str],
    *,
    count: int = 25,
    meanings: Mapping[str, str] = MEANINGS,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy of each colour word with the meaning of a basic colour; chance is 1/11.

    Args:
        captions: of a test split.
        words: synonyms; the last word of each one's meaning is a basic colour.
        count: captions per word.

    Raises:
        ValueError: a word without a basic colour as meaning, or a colour without a caption that names only this one.
    """
    colours = {word: meanings.get(word, "").rpartition(" ")[2] for word in words}
    for word, colour in colours.items():
        if colour not in BASIC_COLOURS:
            raise ValueError(
                f"{word!r} stands for {colour or 'nothing'}: it must be one of {', '.join(BASIC_COLOURS)}"
            )
    distinct = list(dict.fromkeys(captions))
    draws = np.random.default_rng(seed)
    measured = encoder.encode([distinct[i] for i in draws.permutation(len(distinct))[:MEASURED]]).float()
    mean, spread = measured.mean(0), measured.std(0).clamp_min(1e-6)

    def embed(texts: Sequence[str]) -> Tensor:
        return F.normalize((encoder.encode(texts).float() - mean) / spread, dim=1)

    alone = [(caption, *found[0]) for caption in distinct if len(found := basic_colours(caption)) == 1]
    accuracy: dict[str, float] = {}
    for colour in dict.fromkeys(colours.values()):
        own = [(caption, span) for caption, there, span in alone if there == colour]
        if not own:
            raise ValueError(f"no caption has {colour} as its only colour word: give more captions")
        some = [own[i] for i in draws.permutation(len(own))[:count]]
        others = [replaced(caption, span, other) for caption, span in some for other in BASIC_COLOURS]
        told = embed(others).view(len(some), len(BASIC_COLOURS), -1)  # (N, K, T)
        for word in (word for word in words if colours[word] == colour):
            said = embed([replaced(caption, span, word) for caption, span in some])  # (N, T)
            nearest = torch.einsum("nt,nkt->nk", said, told).argmax(1)
            accuracy[word] = (nearest == BASIC_COLOURS.index(colour)).float().mean().item()
    return accuracy
