"""Table of text encoders, and cached caption embeddings, (N, T) float32.

``ENCODERS`` is the table for config key ``text.encoder``. To add an encoder, write a class with the interface of
:class:`~stackgan.text.base.TextEncoder` in a separate file, and a row.

``caption_embeddings`` computes a split's embeddings once and stores them there under the encoder's identity.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stackgan.captions.distinct import distinct_rows
from stackgan.config import POOLINGS
from stackgan.io.json_reader import read_json
from stackgan.io.spool import SelectedStrings, release, spooled_array
from stackgan.text.base import TextEncoder
from stackgan.text.compact import COMPACT, CompactEncoder
from stackgan.text.precomputed import PrecomputedEmbeddings
from stackgan.text.pretrained import TransformersEncoder, find_folder

if TYPE_CHECKING:
    from stackgan.config import Config
    from stackgan.data.prepared import PreparedSplit

__all__ = [
    "ENCODERS",
    "EncoderKind",
    "caption_embeddings",
    "encoder_kind",
    "load_text_encoder",
    "new_text_encoder",
    "stored_embeddings",
]


def _train_compact(argument: str, split: PreparedSplit, config: Config) -> TextEncoder:
    from stackgan.text.contrastive import train_compact_encoder  # not needed to generate images

    return train_compact_encoder(split, config.compact, seed=config.train.seed, progress=True)


def _load_compact(folder: Path, pooling: str) -> TextEncoder:
    if pooling not in ("auto", "mean"):
        raise ValueError(f"{folder}: a compact encoder pools by mean, text.pooling is {pooling!r}: use auto")
    return CompactEncoder.load(folder)


def _read_pretrained(argument: str, split: PreparedSplit, config: Config) -> TextEncoder:
    return load_text_encoder(argument, config.text.pooling)


@dataclass(frozen=True)
class EncoderKind:
    """A row of :data:`ENCODERS`: how encoders of one kind are created and loaded.

    Attributes:
        create: (argument after the colon in text.encoder, training split, configuration) -> the encoder of a new run;
            None for training without text.
        load: (folder, pooling) -> the encoder that its ``save`` wrote there. None for kinds without weights, which
            are not saved.
        section: key of the saved folder's config.json that identifies the kind.
        image_tower: whether the encoder embeds images too, as needed for loss.contrast.
    """

    create: Callable[[str, PreparedSplit, Config], TextEncoder | None]
    load: Callable[[Path, str], TextEncoder] | None = None
    section: str = ""
    image_tower: bool = False


ANY_OTHER = "*"  # a hub name or folder
ENCODERS: dict[str, EncoderKind] = {
    "compact": EncoderKind(_train_compact, _load_compact, section=COMPACT, image_tower=True),
    "none": EncoderKind(lambda argument, split, config: None),
    "precomputed": EncoderKind(lambda argument, split, config: PrecomputedEmbeddings(argument)),
    ANY_OTHER: EncoderKind(_read_pretrained, TransformersEncoder),
}


def encoder_kind(setting: str) -> tuple[EncoderKind, str]:
    """Row and argument for a value of text.encoder: the part after the colon, or a model's name or folder.

    >>> encoder_kind("precomputed:char-cnn-rnn")[1], encoder_kind("owner/model")[1], encoder_kind("compact")[1]
    ('char-cnn-rnn', 'owner/model', '')
    """
    name, _, argument = setting.partition(":")
    return (ENCODERS[name], argument) if name in ENCODERS else (ENCODERS[ANY_OTHER], setting)


def new_text_encoder(split: PreparedSplit, config: Config) -> TextEncoder | None:
    """The text encoder of a new run, trained on the split or loaded; None for text.encoder=none."""
    kind, argument = encoder_kind(config.text.encoder)
    return kind.create(argument, split, config)


def load_text_encoder(name_or_folder: str, pooling: str = "auto") -> TextEncoder:
    """The encoder in a local folder, or the transformers model of that hub name.

    Args:
        name_or_folder: a folder (ours, a transformers model, or a sentence-transformers model), a hub name
            such as ``sentence-transformers/all-MiniLM-L6-v2``, or ``precomputed:NAME``.
        pooling: how token states become one vector: ``auto`` (as the model was trained, by family), ``mean``,
            ``cls`` (first token), ``eos`` (first end-of-sequence token), ``last`` (last token), or ``pooler``
            (the model's own head; for CLIP the projection into its joint space).

    Raises:
        FileNotFoundError: no folder, and no model of that name at the hub or in its local cache.
        ValueError: an unknown pooling, or a model that cannot be read as a text encoder.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"text.pooling is {pooling!r}: it must be one of {', '.join(POOLINGS)}")
    kind, _, name = name_or_folder.partition(":")
    if kind == "precomputed":
        return PrecomputedEmbeddings(name)
    if name_or_folder in ("", *ENCODERS):
        raise ValueError(
            f"text encoder {name_or_folder!r} is not a model: give a folder or a hub name "
            "(a trained compact encoder is in its checkpoint's folder text)"
        )
    folder = find_folder(name_or_folder)
    config: dict[str, Any] = read_json(folder / "config.json", advice="copy the text encoder's folder again")
    load = next((row.load for row in ENCODERS.values() if row.section in config), ENCODERS[ANY_OTHER].load)
    assert load is not None  # kinds with a section have it
    return load(folder, pooling)


def stored_embeddings(split: PreparedSplit, setting: str) -> NDArray[np.float32]:
    """All embeddings (captions, T) of the split for text.encoder=precomputed:NAME.

    Raises:
        FileNotFoundError: the split has no embeddings of that name.
    """
    return split.embeddings(encoder_kind(setting)[1])


def caption_embeddings(
    split: PreparedSplit,
    encoder: TextEncoder,
    *,
    texts: tuple[str, Sequence[str]] | None = None,
    progress: bool = True,
    batch: int = 512,
) -> NDArray[np.float32]:
    """Embeddings of all captions of a split, (captions, T), read from its cache or computed and stored there.

    Equal captions are encoded once. The cache is keyed by the encoder's identity.

    Args:
        texts: a name, and texts that replace the captions; both are part of the cache's key.

    Raises:
        FileNotFoundError: precomputed embeddings are missing in the split.
        ValueError: stored embeddings have another dimension than the encoder's.
    """
    what, captions = texts or ("", split.captions)
    name = encoder.identity
    if texts:
        name += f"-{what}-{_digest(captions)[:12]}"
    if isinstance(encoder, PrecomputedEmbeddings):
        encoder.dim = int(split.embeddings(name).shape[1])
    if name in split.embedding_names() or isinstance(encoder, PrecomputedEmbeddings):
        stored = split.embeddings(name)
        if stored.shape[1] != encoder.dim:
            raise ValueError(
                f"{split.path}: embeddings {name!r} are {stored.shape[1]} long, the encoder's are "
                f"{encoder.dim}: delete that file, it will be computed again"
            )
        return stored
    from tqdm import tqdm

    first, number = distinct_rows(captions)
    lengths = np.fromiter(map(len, SelectedStrings(captions, first)), np.int64, len(first))
    order = np.argsort(lengths, kind="stable")  # similar lengths together, to reduce padding
    uses = np.bincount(number, minlength=len(first))
    rows, ends = np.argsort(number, kind="stable"), np.cumsum(uses)  # the rows of caption i: rows[ends - uses : ends]
    array = spooled_array((len(captions), encoder.dim), np.float32)
    title = " ".join(["embedding", *what.split(), split.name, "captions"])
    with tqdm(total=len(first), desc=title, disable=not progress) as bar:
        for start in range(0, len(order), batch):
            chunk = order[start : start + batch]
            vectors = encoder.encode([captions[row] for row in first[chunk].tolist()]).cpu().numpy()
            places = np.concatenate(
                [rows[end - count : end] for end, count in zip(ends[chunk], uses[chunk], strict=True)]
            )
            array[places] = np.repeat(vectors, uses[chunk], axis=0)
            release(array)
            bar.update(len(chunk))
    try:
        split.store_embeddings(name, array)
    except OSError as error:  # e.g. a prepared folder owned by another user
        warnings.warn(
            f"{split.path}: embeddings cannot be stored there ({error}); they will be computed again", stacklevel=2
        )
    release(array)
    return array


def _digest(texts: Sequence[str]) -> str:
    """sha256 of the texts with line breaks between them."""
    digest, between = hashlib.sha256(), b""
    for text in texts:
        digest.update(between + text.encode())
        between = b"\n"
    return digest.hexdigest()
