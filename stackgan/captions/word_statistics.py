"""Word statistics of training captions, and the out-of-domain test that they allow.

A generator follows a caption as far as its training captions used the same words. The score of a caption is the mean
log document frequency of its words; what is low is decided by what fragments of the training captions score, by
length, each left out of the counts that it is scored with. So a short caption in common words ("a red bird") passes
although no training caption is as short, and an everyday sentence on another subject does not.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CaptionStatistics", "caption_words", "measure_captions"]

FEWEST = 200  # captions: fewer say too little about the words that a model can follow
LENGTHS = 16  # fragments of 1 to so many words get a threshold of their own; longer captions share the last one
FRAGMENTS = 5000  # of each length, at most
FALSE_ALARMS = 1e-3  # share of the fragments below the threshold
SMOOTHING = 0.5  # captions that an unseen word counts as
NAMED = 3  # rarest words that a message names

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class CaptionStatistics:
    """How many training captions hold each word, and the least score of a caption in their domain.

    Attributes:
        captions: how many were counted.
        words: word -> number of captions that hold it, casefolded; words of a single caption are left out.
        thresholds: least score of captions of 1, 2, … words; of the last entry's for longer ones.
    """

    captions: int
    words: Mapping[str, int]
    thresholds: tuple[float, ...]

    def score(self, caption: str) -> float:
        """Mean over the words w of log((n(w) + ½) / (N + 1)); nan for a caption without words."""
        words = caption_words(caption)
        if not words:
            return math.nan
        return sum(math.log((self.words.get(word, 0) + SMOOTHING) / (self.captions + 1)) for word in words) / len(
            words
        )

    def margin(self, caption: str) -> float:
        """Score minus the threshold for captions of this length: negative for an out-of-domain caption."""
        words = caption_words(caption)
        if not words:
            return -math.inf
        return self.score(caption) - self.thresholds[min(len(words), len(self.thresholds)) - 1]

    def warning(self, caption: str) -> str | None:
        """A message for an out-of-domain caption, which names its rarest words; None for any other."""
        if self.margin(caption) >= 0:
            return None
        words = list(dict.fromkeys(caption_words(caption)))
        rare = sorted(words, key=lambda word: self.words.get(word, 0))[:NAMED]
        rare = [word for word in words if word in rare and self.words.get(word, 0) < self.captions / 1000]
        which = f" (rare or absent there: {', '.join(rare)})" if rare else ""
        return f"out of domain: the training captions use other words{which}; the image may not follow this caption"

    def to_json(self) -> str:
        """A JSON object; the same statistics give the same bytes."""
        values = {
            "captions": self.captions,
            "thresholds": [round(value, 4) for value in self.thresholds],
            "words": {word: self.words[word] for word in sorted(self.words)},
        }
        return json.dumps(values, ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_dict(cls, values: Any, where: str) -> CaptionStatistics:
        """What :meth:`to_json` wrote, parsed.

        Raises:
            ValueError: anything else; the message begins with ``where``.
        """
        wanted = "an object with captions, thresholds and words"
        if not isinstance(values, dict) or values.keys() != {"captions", "thresholds", "words"}:
            raise ValueError(f"{where}: caption statistics are {wanted}")
        captions, thresholds, words = values["captions"], values["thresholds"], values["words"]
        if not _is_count(captions):
            raise ValueError(f"{where}: captions is {captions!r}: it must be a whole number from 1")
        if not isinstance(thresholds, list) or not thresholds or not all(map(_is_finite, thresholds)):
            raise ValueError(f"{where}: thresholds must be a list of finite numbers")
        if not isinstance(words, dict) or not all(map(_is_count, words.values())):
            raise ValueError(f"{where}: words must map words to whole numbers from 1")
        return cls(captions, words, tuple(map(float, thresholds)))


def caption_words(caption: str) -> list[str]:
    """The runs of letters of a caption, casefolded, without accents and invisible marks, as encoders read them.

    >>> caption_words("A small bird's RED crown, 2 wings")
    ['a', 'small', 'bird', 's', 'red', 'crown', 'wings']
    >>> caption_words("a caf\u00e9-au-lait bi\u00adrd")
    ['a', 'cafe', 'au', 'lait', 'bird']
    """
    if not caption.isascii():
        marks = unicodedata.normalize("NFD", caption)
        caption = "".join(mark for mark in marks if unicodedata.category(mark) not in ("Mn", "Cf"))
    return _WORD.findall(caption.casefold())


def measure_captions(captions: Sequence[str]) -> CaptionStatistics | None:
    """Statistics of training captions; None where they are fewer than ``FEWEST`` different ones, too few to warn by.

    Thresholds are the ``FALSE_ALARMS`` quantile of the scores of random fragments of each length, every fragment
    without its own caption, and never fall with length. The same captions always give the same statistics.
    """
    rows, counts, different = array("q"), Counter[str](), set[str]()
    for row, words in enumerate(map(caption_words, captions)):
        if words:
            rows.append(row)
            counts.update(set(words))
            if len(different) < FEWEST:
                different.add(" ".join(words))
    if len(different) < FEWEST:
        return None
    draws = np.random.default_rng(0)
    drawn = [caption_words(captions[rows[row]]) for row in draws.permutation(len(rows))[:FRAGMENTS]]
    least = []
    for length in range(1, LENGTHS + 1):
        scores = []
        for words in drawn:
            if length < LENGTHS and len(words) > length:
                start = int(draws.integers(len(words) - length + 1))
                words = words[start : start + length]
            if length == LENGTHS or len(words) == length:
                logs = [math.log((counts[word] - 1 + SMOOTHING) / len(rows)) for word in words]
                scores.append(sum(logs) / len(logs))
        least.append(float(np.quantile(scores, FALSE_ALARMS)) if scores else math.inf)
    monotone = np.minimum.accumulate(least[::-1])[::-1]
    kept = {word: count for word, count in counts.items() if count > 1}
    return CaptionStatistics(len(rows), kept, tuple(float(value) for value in monotone))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
