"""Captions in, embeddings out: (B, T) float32, the same for a caption whatever else is in its batch.

Three sources, one interface:

- ``TransformersEncoder``: any transformers text encoder, by hub name or folder, its token states pooled;
- ``CompactEncoder``: the small encoder trained with a run by image–caption contrast (``contrastive.py``)
  and shipped inside its checkpoint;
- ``PrecomputedEmbeddings``: arrays that came with the data set; no text is read at all.

``caption_embeddings`` computes a split's embeddings once and keeps them there under the encoder's identity.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stackgan.text.base import TextEncoder, read_json
from stackgan.text.compact import COMPACT, CompactEncoder
from stackgan.text.precomputed import PrecomputedEmbeddings
from stackgan.text.pretrained import TransformersEncoder, find_folder

if TYPE_CHECKING:
    from stackgan.data.prepared import PreparedSplit

__all__ = [
    "POOLINGS",
    "caption_embeddings",
    "load_text_encoder",
]

POOLINGS = ("auto", "mean", "cls", "eos", "pooler", "last")


def load_text_encoder(name_or_folder: str, pooling: str = "auto", revision: str | None = None) -> TextEncoder:
    """The encoder in a local folder, or the transformers model of that hub name.

    Args:
        name_or_folder: a folder (ours, a transformers model, or a sentence-transformers model), a hub name
            such as ``sentence-transformers/all-MiniLM-L6-v2``, or ``precomputed:NAME``.
        pooling: how token states become one vector: ``auto`` (as the model was trained, by family), ``mean``,
            ``cls`` (first token), ``eos`` (first end-of-sequence token), ``last`` (last token), or ``pooler``
            (the model's own head; for CLIP the projection into its joint space).
        revision: branch, tag or commit of a hub model.

    Raises:
        FileNotFoundError: no such folder, and no such model at the hub or in its local cache.
        ValueError: an unknown pooling, or a model that cannot be read as a text encoder.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"text.pooling is {pooling!r}: it must be one of {', '.join(POOLINGS)}")
    if name_or_folder in ("compact", "none", ""):
        raise ValueError(
            f"text encoder {name_or_folder!r} names no model: give a folder or a hub name "
            "(a trained compact encoder lies in its checkpoint's folder text)"
        )
    kind, _, name = name_or_folder.partition(":")
    if kind == "precomputed":
        return PrecomputedEmbeddings(name)
    folder = find_folder(name_or_folder, revision)
    config = read_json(folder / "config.json")
    if COMPACT in config:
        if pooling not in ("auto", "mean"):
            raise ValueError(f"{folder}: a compact encoder pools by mean, text.pooling is {pooling!r}: use auto")
        return CompactEncoder.load(folder)
    return TransformersEncoder(folder, pooling)


def caption_embeddings(
    split: PreparedSplit,
    encoder: TextEncoder,
    *,
    told: tuple[str, Sequence[str]] | None = None,
    progress: bool = True,
    batch: int = 512,
) -> NDArray[np.float32]:
    """Embeddings of all captions of a split, (captions, T): read from its cache, or computed and kept there.

    Equal captions are encoded once. The cache is keyed by the encoder's identity.

    Args:
        told: other texts in place of the captions, one for each, with a name: the cache is keyed by them as well.

    Raises:
        FileNotFoundError: precomputed embeddings that the split does not hold.
        ValueError: stored embeddings whose length is not the encoder's.
    """
    what, captions = told or ("", split.captions)
    name = encoder.identity
    if told:
        name += f"-{what}-{hashlib.sha256(chr(10).join(captions).encode()).hexdigest()[:12]}"
    if isinstance(encoder, PrecomputedEmbeddings):
        encoder.dim = int(split.embeddings(name).shape[1])
    if name in split.embedding_names() or isinstance(encoder, PrecomputedEmbeddings):
        stored = split.embeddings(name)
        if stored.shape[1] != encoder.dim:
            raise ValueError(
                f"{split.path}: embeddings {name!r} are {stored.shape[1]} long, the encoder's are "
                f"{encoder.dim}: delete that file, it is made again"
            )
        return stored
    from tqdm import tqdm

    distinct = sorted(dict.fromkeys(captions), key=len)  # alike in length, little padding
    row_of = {caption: row for row, caption in enumerate(distinct)}
    rows = np.empty((len(distinct), encoder.dim), np.float32)
    title = " ".join(["embedding", *what.split(), split.name, "captions"])
    with tqdm(total=len(distinct), desc=title, disable=not progress) as bar:
        for start in range(0, len(distinct), batch):
            chunk = distinct[start : start + batch]
            rows[start : start + len(chunk)] = encoder.encode(chunk).cpu().numpy()
            bar.update(len(chunk))
    array = rows[[row_of[caption] for caption in captions]]
    try:
        split.store_embeddings(name, array)
    except OSError as error:  # a prepared folder somebody else owns is no reason not to train
        warnings.warn(
            f"{split.path}: cannot keep the embeddings there ({error}); computed anew next time", stacklevel=2
        )
    return array
