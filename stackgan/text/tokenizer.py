"""Tokenizer of the compact encoder: lower-casing WordPiece trained on captions; truncation and padding of tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stackgan.io.spool import spooled_array
from stackgan.text.base import CaptionWarning, quoted_word

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "PAD_ID",
    "SPECIAL",
    "UNKNOWN_ID",
    "pad_tokens",
    "split_words",
    "token_ids",
    "token_table",
    "tokenizer_of",
    "train_tokenizer",
    "truncate",
    "truncation_warning",
    "word_at",
]

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL = (UNK, PAD, CLS, SEP)  # the first tokens, in this order
BATCH = 4096  # texts that are split into tokens at a time
UNKNOWN_ID, PAD_ID = SPECIAL.index(UNK), SPECIAL.index(PAD)  # 0 and 1; MPNet pads with 1 as well


def train_tokenizer(captions: Sequence[str], vocabulary: int) -> Tokenizer:
    """Lower-casing WordPiece trained on the captions; deterministic.

    Pieces that no caption uses are removed, as their embeddings would stay untrained. A word that needs such a piece
    is unknown, and reported as such.
    """
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer

    first = _lower_casing(WordPiece(unk_token=UNK))
    trainer = WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    first.train_from_iterator(iter(captions), trainer)
    used = Counter(token for encoding in _encodings(first, captions) for token in encoding.tokens)
    pieces = sorted((token for token in used if token not in SPECIAL), key=lambda token: (-used[token], token))
    return tokenizer_of(pieces)


def _encodings(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Any]:
    """The encoding of each text, computed in batches."""
    texts = iter(texts)
    while batch := list(islice(texts, BATCH)):
        yield from tokenizer.encode_batch(batch)


def tokenizer_of(pieces: Sequence[str]) -> Tokenizer:
    """Lower-casing WordPiece with the special tokens and then these pieces."""
    from tokenizers.models import WordPiece
    from tokenizers.processors import TemplateProcessing

    vocab = {token: index for index, token in enumerate([*SPECIAL, *pieces])}
    tokenizer = _lower_casing(WordPiece(vocab, unk_token=UNK))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(CLS, vocab[CLS]), (SEP, vocab[SEP])]
    )
    return tokenizer


def _lower_casing(model: Any) -> Tokenizer:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def split_words(tokenizer: Tokenizer, caption: str) -> list[str]:
    """The words of a caption before they are split into pieces: lower case, punctuation separated."""
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(caption))]


# --- truncation and padding ---------------------------------------------------------------------------------


def truncate(ids: Sequence[int], longest: int) -> Sequence[int]:
    """At most ``longest`` token ids: the first ones, and the last, which is [SEP].

    >>> truncate([2, 7, 8, 9, 3], 4)
    [2, 7, 8, 3]
    """
    return ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]


def pad_tokens(rows: Sequence[Sequence[int]], pad: int = PAD_ID) -> tuple[Tensor, Tensor]:
    """Token ids (B, L), padded on the right, and a mask (B, L) that is true for tokens.

    >>> pad_tokens([[2, 3], [2, 7, 3]])[0].tolist()
    [[2, 3, 1], [2, 7, 3]]
    """
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], dtype=torch.long)
    return ids, torch.arange(length)[None] < torch.tensor([len(row) for row in rows])[:, None]


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Tensor:
    """Token ids (N, L) of the texts, truncated to ``longest`` and padded."""
    return pad_tokens([truncate(encoding.ids, longest) for encoding in tokenizer.encode_batch(list(texts))])[0]


def token_table(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> NDArray[np.int32]:
    """As :func:`token_ids`, for any number of texts: an array on the disk, memory-mapped."""
    ids = spooled_array((len(texts), longest), np.int32)
    ids[:] = PAD_ID
    length = 0
    for row, encoding in enumerate(_encodings(tokenizer, texts)):
        own = truncate(encoding.ids, longest)
        ids[row, : len(own)] = own
        length = max(length, len(own))
    return ids[:, :length]


def word_at(caption: str, position: int) -> str:
    """The word of a caption at a character position; the next word for a space; empty after the last word."""
    for match in re.finditer(r"\S+", caption):
        if match.end() > position:
            return match.group()
    return ""


def truncation_warning(index: int, caption: str, starts: Sequence[int], kept: int) -> CaptionWarning:
    """The warning for a caption of which only the first ``kept`` tokens are used.

    Args:
        starts: position of the first character of each token, except special ones.
    """
    number = sum(match.start() <= starts[kept] for match in re.finditer(r"\S+", caption))
    word = word_at(caption, starts[kept])
    return CaptionWarning(
        index,
        "truncated",
        f"kept {kept} of {len(starts)} tokens: the text from word {number}, {quoted_word(word)}, on was dropped",
    )
