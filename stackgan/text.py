"""Captions in, embeddings out: (B, T) float32, the same for a caption whatever else is in its batch.

Three sources, one interface:

- ``TransformersEncoder``: any transformers text encoder, by hub name or folder, its token states pooled;
- ``CompactEncoder``: the small encoder trained with a run by image–caption contrast (``caption_contrast.py``)
  and shipped inside its checkpoint;
- ``PrecomputedEmbeddings``: arrays that came with the data set; no text is read at all.

``caption_embeddings`` computes a split's embeddings once and keeps them there under the encoder's identity.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
import json
import logging
import math
import os
import re
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stackgan.swaps import swapped_captions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from stackgan.config import CompactConfig
    from stackgan.prepared import PreparedSplit

__all__ = [
    "POOLINGS",
    "CaptionTransformer",
    "CompactEncoder",
    "ImageHalf",
    "Notice",
    "PrecomputedEmbeddings",
    "TextEncoder",
    "TransformersEncoder",
    "caption_embeddings",
    "compact_config",
    "load_text_encoder",
    "split_words",
]

POOLINGS = ("auto", "mean", "cls", "eos", "pooler", "last")
_FORMAT = 1  # of a folder that CompactEncoder.save writes
_COMPACT = "stackgan_compact"  # the section of its config.json that makes the folder ours
_TABLE = "embeddings.word_embeddings.weight"
_CHOICE = "stackgan_text.json"  # pooling and length of a saved TransformersEncoder
_CHUNK = 64  # captions a forward pass
_PAD, _FIRST_POSITION = 1, 2  # MPNet's own: padding is token 1, positions are counted from 2
_PLACES, _FEATURES = 16, 32  # of the image half: colours it reads, further features
_IMAGE_WIDTH = 32  # channels after the image half's first convolution


@dataclass(frozen=True)
class Notice:
    """What a reader of the pictures should know about how caption ``index`` was understood."""

    index: int
    kind: Literal["truncated", "unknown"]
    message: str


class TextEncoder(ABC):
    """Captions to embeddings; frozen, in evaluation mode.

    Attributes:
        dim: T, the length of an embedding.
        identity: names the encoder by content (family, pooling, hash of weights and tokenizer), so that equal
            identities mean equal embeddings up to rounding; fit for a file name.
    """

    dim: int

    @property
    @abstractmethod
    def identity(self) -> str: ...

    @abstractmethod
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Embeddings of the captions, (B, T) float32; up to rounding, a row depends on its caption alone."""

    @abstractmethod
    def notices(self, captions: Sequence[str]) -> list[Notice]:
        """Captions that were cut short and words that were not understood, in the order of the captions."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write a folder that :func:`load_text_encoder` reads back to the same embeddings and identity."""

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the weights; ``encode`` returns its embeddings on that device."""
        return self


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
    folder = _find_folder(name_or_folder, revision)
    config = _read_json(folder / "config.json")
    if _COMPACT in config:
        if pooling not in ("auto", "mean"):
            raise ValueError(f"{folder}: a compact encoder pools by mean, text.pooling is {pooling!r}: use auto")
        return CompactEncoder.load(folder)
    return TransformersEncoder(folder, pooling)


def caption_embeddings(
    split: PreparedSplit, encoder: TextEncoder, *, swapped: bool = False, progress: bool = True, batch: int = 512
) -> NDArray[np.float32]:
    """Embeddings of all captions of a split, (captions, T): read from its cache, or computed and kept there.

    Equal captions are encoded once. The cache is keyed by the encoder's identity. With ``swapped``, of the captions
    with two words swapped (:mod:`stackgan.swaps`); where nothing can be swapped, of the caption itself.

    Raises:
        FileNotFoundError: precomputed embeddings that the split does not hold.
        ValueError: stored embeddings whose length is not the encoder's.
    """
    name = encoder.identity + ("-swapped" if swapped else "")
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

    captions: Sequence[str] = split.captions
    if swapped:
        pairs = zip(captions, swapped_captions(captions, seed=0), strict=True)
        captions = [other or caption for caption, other in pairs]
    distinct = sorted(dict.fromkeys(captions), key=len)  # alike in length, little padding
    row_of = {caption: row for row, caption in enumerate(distinct)}
    rows = np.empty((len(distinct), encoder.dim), np.float32)
    with tqdm(
        total=len(distinct), desc=f"embedding {'swapped ' * swapped}{split.name} captions", disable=not progress
    ) as bar:
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


# ------------------------------------------------------------------------------------------------- compact


class CaptionTransformer(nn.Module):
    """MPNet's encoder (arXiv:2004.09297) in plain torch, parameters named as in transformers.

    Attention scores carry a learned bias by distance (arXiv:1910.10683), which starts as "look one word back",
    "one word on", "look around": a colour finds its part from the first step. ``MPNetModel.from_pretrained``
    reads the same folder to the same token states (a test holds the two together); importing transformers,
    however, takes longer than making a picture, and a checkpoint should start at once.

    Args:
        config: the fields of an ``MPNetConfig``.
    """

    embeddings: Any  # dictionaries of modules, as transformers names them
    encoder: Any

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, epsilon = int(config["hidden_size"]), float(config["layer_norm_eps"])
        self.heads = int(config["num_attention_heads"])
        self.dropout = float(config["hidden_dropout_prob"])
        self.buckets = int(config["relative_attention_num_buckets"])
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(int(config["vocab_size"]), width),
                "position_embeddings": nn.Embedding(int(config["max_position_embeddings"]), width),
                "LayerNorm": nn.LayerNorm(width, epsilon),
            }
        )
        inner, layers = int(config["intermediate_size"]), int(config["num_hidden_layers"])
        self.encoder = nn.ModuleDict(
            {
                "layer": nn.ModuleList(_block(width, inner, epsilon) for _ in range(layers)),
                "relative_attention_bias": nn.Embedding(self.buckets, self.heads),
            }
        )
        self.apply(_initialise)
        with torch.no_grad():
            self.embeddings["position_embeddings"].weight.zero_()
            self.encoder["relative_attention_bias"].weight.copy_(_neighbourly(self.buckets, self.heads))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token states (B, L, H) of token ids (B, L); mask (B, L) is true where there is a token."""
        length = ids.shape[1]
        embeddings = self.embeddings
        positions = embeddings["position_embeddings"].weight[_FIRST_POSITION : _FIRST_POSITION + length]
        states = self._drop(embeddings["LayerNorm"](embeddings["word_embeddings"](ids) + positions))
        bias = self.encoder["relative_attention_bias"](_distances(length, self.buckets).to(ids.device))
        bias = bias.permute(2, 0, 1)[None]  # (1, heads, L, L)
        bias = bias.masked_fill(~mask[:, None, None, :], torch.finfo(bias.dtype).min)
        for block in self.encoder["layer"]:
            states = self._layer(block, states, bias)
        return states

    def _layer(self, block: Any, states: Tensor, bias: Tensor) -> Tensor:
        attention, output = block["attention"], block["output"]
        query, key, value = (
            attention["attn"][name](states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("q", "k", "v")
        )  # (B, heads, L, H / heads) each
        # Written out: torch's fused kernel is several times slower at a caption's length on a CPU.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias  # (B, heads, L, L)
        mixed = scores.softmax(-1).to(value.dtype) @ value
        mixed = attention["attn"]["o"](mixed.transpose(1, 2).flatten(-2))  # (B, L, H)
        states = attention["LayerNorm"](states + self._drop(mixed))
        inner = F.relu(block["intermediate"]["dense"](states))
        return output["LayerNorm"](states + self._drop(output["dense"](inner)))

    def _drop(self, states: Tensor) -> Tensor:
        return F.dropout(states, self.dropout, self.training)


def _block(width: int, inner: int, epsilon: float) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict(
                {
                    "attn": nn.ModuleDict({name: nn.Linear(width, width) for name in "qkvo"}),
                    "LayerNorm": nn.LayerNorm(width, epsilon),
                }
            ),
            "intermediate": nn.ModuleDict({"dense": nn.Linear(width, inner)}),
            "output": nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, epsilon)}),
        }
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):  # wider than BERT's 0.02, which needs far more steps to start binding words
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _distances(length: int, buckets: int, farthest: int = 128) -> Tensor:
    """T5's bucket of the distance from each token to each, (L, L): exact when near, logarithmic when far."""
    offset = torch.arange(length)[None] - torch.arange(length)[:, None]  # row looks, column is looked at
    half = buckets // 2
    exact = half // 2
    distance = offset.abs()
    far = exact + ((distance.clamp_min(1) / exact).log() / math.log(farthest / exact) * (half - exact)).long()
    return torch.where(offset > 0, half, 0) + torch.where(distance < exact, distance, far.clamp_max(half - 1))


def _neighbourly(buckets: int, heads: int) -> Tensor:
    """The bias (buckets, heads) to start from: one word back, one on, three around, everywhere, in turn."""
    half = buckets // 2
    bias = torch.zeros(buckets, heads)
    for head in range(heads):
        near = ([1], [half + 1], [1, 2, 3, half + 1, half + 2, half + 3], [])[head % 4]
        bias[near, head] = 4.0
    return bias


class ImageHalf(nn.Module):
    """The image half of the contrast: where it looks is learned by convolutions, what it sees there is raw colour.

        a = softmax over places of convolutions(x)      (B, K, places)      K places to look at
        v = W · [a · x, pooled features]                 normalised, (B, T)

    A vector that is linear in colours puts pink between red and white whatever part is pink, so that a caption's
    embedding has a sensible place for a part in a colour that no photo had.

    Args:
        dim: T.
        size: side in pixels at which it looks; a multiple of 16.
        width: channels after the first convolution.
    """

    def __init__(self, dim: int, size: int, width: int = _IMAGE_WIDTH) -> None:
        super().__init__()
        self.size = size
        widths = [3, width, 2 * width, 3 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4 if before == 3 else 3, stride=2, padding=1)
            for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, after) for after in widths[1:])
        self.near = nn.Conv2d(2 * width, _PLACES, 1)
        self.context = nn.Conv2d(4 * width, _PLACES, 1)
        self.features = nn.Linear(4 * width, _FEATURES)
        self.head = nn.Linear(3 * _PLACES + _FEATURES, dim)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors (B, T) of images (B, 3, s, s) in [-1, 1]; differentiable."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        states, scales = images, []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            states = F.relu(norm(convolution(states)))
            scales.append(states)
        near = self.near(scales[1])  # (B, K, s / 4, s / 4)
        look = near + F.interpolate(self.context(states), near.shape[-2:], mode="bilinear")
        places = look.flatten(2).float().softmax(-1)  # (B, K, s² / 16)
        colours = F.avg_pool2d(images, 4).flatten(2).float()  # (B, 3, s² / 16)
        seen = torch.einsum("bkp,bcp->bkc", places, colours).flatten(1)
        other = self.features(states.mean((2, 3))).float()
        return F.normalize(self.head(torch.cat([seen, other], 1)).float(), dim=1)


class CompactEncoder(TextEncoder):
    """The small caption encoder that ships in a checkpoint: WordPiece, a few layers, mean, projection.

        e = W · mean over tokens of network(caption) + b        standardised over the training captions

    Words that the training captions never held become ``[UNK]`` unless trained pieces make them up, and are
    reported by :meth:`notices`. One that had a teacher (:mod:`stackgan.distil`) knows the teacher's words as well.

    Args:
        network: the token states.
        projection: (H -> T), its outputs standardised.
        tokenizer: WordPiece whose vocabulary holds only pieces that occur in the training captions.
        words: the words it knows: of the training captions, and of its teacher's vocabulary as far as it has that.
        config: what config.json holds.
        image_half: the other side of the contrast, if at hand; read from ``folder`` when first asked for.
    """

    def __init__(
        self,
        network: CaptionTransformer,
        projection: nn.Linear,
        tokenizer: Tokenizer,
        words: Sequence[str],
        config: dict[str, Any],
        *,
        image_half: ImageHalf | None = None,
        folder: Path | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.projection = projection.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.words = sorted(words)
        self.config = config
        self.dim = projection.out_features
        self.max_tokens = int(config["max_position_embeddings"]) - _FIRST_POSITION
        self._image_half = image_half.eval().requires_grad_(False) if image_half is not None else None
        self._folder = folder

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    @property
    def has_teacher(self) -> bool:
        """Whether it learned words of a sentence encoder besides those of captions."""
        return "teacher" in self.config[_COMPACT]

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256(self.tokenizer.to_str().encode())
        _hash_tensors(digest, self._state())
        return f"compact-mean-{digest.hexdigest()[:24]}"

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        rows = [self._ids(caption) for caption in captions]
        out = torch.empty(len(rows), self.dim, device=self.device)
        for chunk in _by_length(rows):
            ids, mask = _pad([rows[i] for i in chunk], _PAD, self.device)
            out[chunk] = self.project(self.network(ids, mask), mask)
        return out

    def project(self, states: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, T) of token states (B, L, H)."""
        return self.projection(_mean(states, mask))

    def notices(self, captions: Sequence[str]) -> list[Notice]:
        found = []
        for index, caption in enumerate(captions):
            encoding = self.tokenizer.encode(caption)
            if len(encoding.ids) > self.max_tokens:
                starts = [start for start, _ in encoding.offsets[1:-1]]
                found.append(_truncation(index, caption, starts, self.max_tokens - 2))
            for word in dict.fromkeys(self._split(caption)):
                if word not in self._known and any(map(str.isalnum, word)):
                    near = difflib.get_close_matches(word, self.words, n=1, cutoff=0.75)
                    nobody = ": no training caption has it" + ", nor its English" * self.has_teacher
                    hint = f': did you mean "{near[0]}"?' if near else nobody
                    found.append(Notice(index, "unknown", f'unknown word "{word}"{hint}'))
        return found

    def save(self, folder: Path) -> None:
        with _filled(folder) as target:
            _write_json(target / "config.json", self.config)
            state = self._state()
            if self.has_teacher:  # most of the file, and rounded when it was made
                state[_TABLE] = state[_TABLE].half()
            _write_tensors(target / "model.safetensors", state)
            half = {name: tensor.half() for name, tensor in self.image_half.state_dict().items()}
            _write_tensors(target / "image.safetensors", half)
            self.tokenizer.save(str(target / "tokenizer.json"), pretty=False)
            tokens = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
            facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.max_tokens}
            _write_json(target / "tokenizer_config.json", facts | tokens)
            (target / "words.txt").write_text("".join(word + "\n" for word in self.words), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> CompactEncoder:
        """Read a folder that :meth:`save` wrote; raises ``ValueError`` naming the file that does not fit."""
        from tokenizers import Tokenizer

        config = _read_json(folder / "config.json")
        version = config.get(_COMPACT, {}).get("format")
        if version != _FORMAT:
            raise ValueError(
                f"{folder / 'config.json'}: compact encoder of format {version!r}, this code reads {_FORMAT}"
            )
        for name in ("model.safetensors", "tokenizer.json", "words.txt"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name}: missing; copy the whole folder from the checkpoint again")
        network = CaptionTransformer(config)
        projection = nn.Linear(int(config["hidden_size"]), int(config[_COMPACT]["dim"]))
        tensors = _read_tensors(folder / "model.safetensors")
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith("projection.")}
        _fill(projection, {name.removeprefix("projection."): value for name, value in own.items()}, folder)
        _fill(network, tensors, folder)
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{folder / 'tokenizer.json'}: not a tokenizer ({error})") from None
        words = (folder / "words.txt").read_text(encoding="utf-8").split()
        return cls(network, projection, tokenizer, words, config, folder=folder)

    @property
    def image_half(self) -> ImageHalf:
        """The image side of the contrast, read when first asked for."""
        if self._image_half is None:
            if self._folder is None or not (self._folder / "image.safetensors").is_file():
                raise FileNotFoundError(f"{self._folder}: holds no image.safetensors, the image half of this encoder")
            section = self.config[_COMPACT]["image"]
            half = ImageHalf(self.dim, int(section["size"]), int(section["width"]))
            _fill(half, _read_tensors(self._folder / "image.safetensors"), self._folder)
            self._image_half = half.eval().requires_grad_(False).to(self.device)
        return self._image_half

    def encode_images(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Unit vectors (B, T) of images; their cosine with :meth:`encode`'s rows says how well they agree.

        Args:
            images: (B, h, w, 3) uint8, or (B, 3, h, w) float in [-1, 1], through which gradients flow.
        """
        values = torch.as_tensor(np.array(images)) if isinstance(images, np.ndarray) else images
        if values.dtype == torch.uint8:
            values = values.permute(0, 3, 1, 2).to(self.device, torch.float32) / 127.5 - 1
        if values.ndim != 4 or values.shape[1] != 3:
            raise ValueError(f"images of shape {tuple(images.shape)}: give (B, h, w, 3) uint8 or (B, 3, h, w) float")
        return self.image_half(values)

    def to(self, device: torch.device | str) -> CompactEncoder:
        for module in (self.network, self.projection, self._image_half):
            if module is not None:
                module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.projection.weight.device

    def _state(self) -> dict[str, Tensor]:
        state = {f"projection.{name}": tensor for name, tensor in self.projection.state_dict().items()}
        return {name: tensor.cpu().contiguous() for name, tensor in (self.network.state_dict() | state).items()}

    def _ids(self, caption: str) -> list[int]:
        ids = self.tokenizer.encode(caption).ids
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def _split(self, caption: str) -> list[str]:
        return split_words(self.tokenizer, caption)


def compact_config(settings: CompactConfig, vocabulary: int, dropout: float, teacher: str = "") -> dict[str, Any]:
    """What config.json of a compact encoder holds: an ``MPNetConfig``, and a section of our own.

    Args:
        teacher: identity of the sentence encoder it learned from, if any.
    """
    config: dict[str, Any] = {
        "model_type": "mpnet",
        "architectures": ["MPNetModel"],
        "vocab_size": vocabulary,
        "hidden_size": settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": 2 * settings.width,
        "hidden_act": "relu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": settings.max_tokens + _FIRST_POSITION,
        "relative_attention_num_buckets": 32,
        "pad_token_id": _PAD,
        "bos_token_id": 2,
        "eos_token_id": 3,
        _COMPACT: {
            "format": _FORMAT,
            "dim": settings.dim,
            "image": {"size": settings.image_size, "width": _IMAGE_WIDTH},
        },
    }
    if teacher:
        config["dtype"] = "float32"  # its table is kept in half precision, the rest is not
        config[_COMPACT]["teacher"] = teacher
    return config


def split_words(tokenizer: Tokenizer, caption: str) -> list[str]:
    """The words of a caption as the tokenizer sees them: lower case, punctuation apart, not yet in pieces."""
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(caption))]


# --------------------------------------------------------------------------------------------- transformers

# How each family was trained to be read; families not named here are pooled by mean.
_POOLING_BY_FAMILY = {
    "clip": "eos",
    "clip_text_model": "eos",
    "gpt2": "last",
    "gpt_neo": "last",
    "gpt_neox": "last",
    "llama": "last",
    "mistral": "last",
    "opt": "last",
    "qwen2": "last",
    "qwen3": "last",
}
# Positions are counted from pad_token_id + 1 in these, so that fewer are left for tokens.
_SHIFTED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl", "longformer")
_TOKENIZER_FILES = (
    "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model",
)  # fmt: skip


class TransformersEncoder(TextEncoder):
    """Any transformers text encoder in a local folder, its token states pooled to one vector.

    A sentence-transformers folder is read with its own pooling, dense layers and normalisation unless a
    pooling is named; an encoder–decoder gives its encoder; a CLIP checkpoint gives its text half.

    Args:
        folder: config.json, safetensors weights, tokenizer files.
        pooling: see :func:`load_text_encoder`.

    Raises:
        ValueError: weights that are missing or pickled, or a model that gives no token states.
    """

    def __init__(self, folder: Path, pooling: str = "auto") -> None:
        self.folder = folder
        config = _read_json(folder / "config.json")
        self.family = str(config.get("model_type", ""))
        choice = _read_json(folder / _CHOICE) if (folder / _CHOICE).is_file() else {}
        if pooling not in ("auto", choice.get("pooling")):
            choice = {}
        plan = _sentence_plan(folder) if pooling == "auto" and not choice else _Plan()
        if pooling == "auto":
            pooling = choice.get("pooling") or plan.pooling or _POOLING_BY_FAMILY.get(self.family, "mean")
        self.pooling = pooling
        self.normalise = bool(choice.get("normalise", plan.normalise))
        self.model = _load_model(folder, self.family, pooling)
        self.dense = nn.ModuleList(_Dense(path) for path in plan.dense)
        if choice.get("dense"):
            self.dense = nn.ModuleList(_Dense(folder / name) for name in choice["dense"])
        self.dense.eval().requires_grad_(False)
        self.tokenizer = _load_tokenizer(folder)
        self._tokenizer_files = {file.name: file.read_bytes() for file in _tokenizer_files(folder)}
        self.max_tokens = int(choice.get("max_tokens") or self._longest(plan.max_tokens))
        self.dim = int(self.encode(["a bird"]).shape[1])

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for name, content in self._tokenizer_files.items():
            digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\0".encode())
        digest.update(f"{self.max_tokens} {self.normalise}".encode())
        _hash_tensors(digest, self.model.state_dict())
        _hash_tensors(digest, self.dense.state_dict())
        for layer in self.dense:
            digest.update(cast(_Dense, layer).activation.encode())
        return f"{self.family}-{self.pooling}-{digest.hexdigest()[:24]}"

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        if not captions:
            return torch.empty(0, self.dim, device=self.device)
        rows = self.tokenizer(list(captions), truncation=True, max_length=self.max_tokens)["input_ids"]
        pad = self.tokenizer.pad_token_id or 0
        out: Tensor | None = None
        for chunk in _by_length(rows):
            ids, mask = _pad([rows[i] for i in chunk], pad, self.device)
            vectors = self._pool(ids, mask).float()
            for layer in self.dense:
                vectors = layer(vectors)
            if self.normalise:
                vectors = F.normalize(vectors, dim=1)
            if out is None:
                out = torch.empty(len(rows), vectors.shape[1], device=self.device)
            out[chunk] = vectors
        assert out is not None  # there was at least one caption
        return out

    def notices(self, captions: Sequence[str]) -> list[Notice]:
        found = []
        unknown = self.tokenizer.unk_token_id
        special = self.tokenizer.num_special_tokens_to_add()
        for index, caption in enumerate(captions):
            # A length given and not reached: asking for all tokens would otherwise be warned about.
            tokens = self.tokenizer(
                caption,
                add_special_tokens=False,
                return_offsets_mapping=True,
                truncation=True,
                max_length=10**6,
            )
            starts = [start for start, _ in tokens["offset_mapping"]]
            if len(starts) + special > self.max_tokens:
                found.append(_truncation(index, caption, starts, self.max_tokens - special))
            spans = [
                span
                for token, span in zip(tokens["input_ids"], tokens["offset_mapping"], strict=True)
                if token == unknown
            ]
            for word in dict.fromkeys(_word_at(caption, start) for start, end in spans if end > start):
                found.append(Notice(index, "unknown", f'unknown word "{word}": the tokenizer has no such characters'))
        return found

    def save(self, folder: Path) -> None:
        with _filled(folder) as target:
            with _quiet_transformers():
                self.model.save_pretrained(target)
            for name, content in self._tokenizer_files.items():
                (target / name).write_bytes(content)
            names = [f"dense_{number}" for number in range(len(self.dense))]
            for name, layer in zip(names, self.dense, strict=True):
                cast(_Dense, layer).save(target / name)
            choice = {
                "pooling": self.pooling,
                "normalise": self.normalise,
                "max_tokens": self.max_tokens,
                "dense": names,
            }
            _write_json(target / _CHOICE, choice)

    def to(self, device: torch.device | str) -> TransformersEncoder:
        self.model.to(device)
        self.dense.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _pool(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector a caption, (B, H), of token ids (B, L)."""
        output = self.model(input_ids=ids, attention_mask=mask.long())
        if self.pooling == "pooler":
            pooled = getattr(output, "text_embeds", None)
            pooled = getattr(output, "pooler_output", None) if pooled is None else pooled
            if pooled is None:
                raise ValueError(f"{self.folder}: {self.family} has no pooler: set text.pooling to mean or cls")
            return pooled
        states = getattr(output, "last_hidden_state", None)
        if states is None:
            raise ValueError(f"{self.folder}: {self.family} gives no token states: it is no text encoder")
        if self.pooling == "mean":
            return _mean(states, mask)
        last = mask.sum(1) - 1
        position = torch.zeros_like(last)
        if self.pooling in ("last", "eos"):
            position = last
        if self.pooling == "eos" and self.tokenizer.eos_token_id is not None:
            ends = (ids == self.tokenizer.eos_token_id) & mask
            position = torch.where(ends.any(1), ends.int().argmax(1), last)
        return states[torch.arange(len(ids), device=ids.device), position]

    def _longest(self, asked: int | None) -> int:
        config = self.model.config
        limits = [limit for limit in (asked, getattr(self.tokenizer, "model_max_length", None)) if limit]
        positions = getattr(config, "max_position_embeddings", None)
        if positions:
            limits.append(positions - (config.pad_token_id + 1 if self.family in _SHIFTED_POSITIONS else 0))
        return min([positions or 512, *limits])


@dataclass(frozen=True)
class _Plan:
    """What a sentence-transformers folder does after its transformer."""

    pooling: str | None = None
    dense: tuple[Path, ...] = ()
    normalise: bool = False
    max_tokens: int | None = None


def _sentence_plan(folder: Path) -> _Plan:
    if not (folder / "modules.json").is_file():
        return _Plan()
    pooling, dense, normalise = None, [], False
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        kind, path = str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"])
        if kind == "Transformer":
            continue
        if kind == "Pooling":
            pooling = _sentence_pooling(path / "config.json")
        elif kind == "Dense":
            dense.append(path)
        elif kind == "Normalize":
            normalise = True
        else:
            raise ValueError(
                f"{folder / 'modules.json'}: module {kind} is not supported: set text.pooling to go without"
            )
    length = None
    for name in ("sentence_bert_config.json", "sentence_transformers_config.json"):
        if (folder / name).is_file():
            length = _read_json(folder / name).get("max_seq_length") or length
    return _Plan(pooling, tuple(dense), normalise, length)


def _sentence_pooling(file: Path) -> str:
    config = _read_json(file)
    modes = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else []
    modes += [
        key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on
    ]
    known = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last"}
    if len(modes) != 1 or modes[0] not in known:
        raise ValueError(f"{file}: pooling {' + '.join(modes) or 'none'} is not supported: set text.pooling yourself")
    return known[modes[0]]


class _Dense(nn.Module):
    """A dense layer of a sentence-transformers folder, (B, H) -> (B, H')."""

    activations: ClassVar = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}

    def __init__(self, folder: Path) -> None:
        super().__init__()
        config = _read_json(folder / "config.json")
        self.activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
        if self.activation not in self.activations:
            known = ", ".join(self.activations)
            raise ValueError(f"{folder / 'config.json'}: activation {self.activation} is not one of {known}")
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"{folder}: holds no model.safetensors (pickled weights are not read)")
        sizes = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(*sizes, bias=bool(config.get("bias", True)))
        _fill(self, _read_tensors(folder / "model.safetensors"), folder)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.activations[self.activation]()(self.linear(vectors))

    def save(self, folder: Path) -> None:
        folder.mkdir()
        facts = {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": f"torch.nn.modules.activation.{self.activation}",
        }
        _write_json(folder / "config.json", facts)
        _write_tensors(folder / "model.safetensors", self.state_dict())


def _load_model(folder: Path, family: str, pooling: str) -> Any:
    """The text half of the model in a folder, float32, frozen; every weight comes from the file."""
    import transformers

    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder}: holds no *.safetensors weights (pickled .bin weights are not read): "
            "convert it once with save_pretrained, or take a model that has them"
        )
    kind: Any = transformers.AutoModel
    if family in ("clip", "clip_text_model"):
        kind = transformers.CLIPTextModelWithProjection if pooling == "pooler" else transformers.CLIPTextModel
    elif family in ("t5", "mt5", "umt5"):
        kind = {"t5": transformers.T5EncoderModel, "mt5": transformers.MT5EncoderModel}.get(
            family, transformers.UMT5EncoderModel
        )
    with _quiet_transformers():
        try:
            model, info = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # broken files surface as many kinds
            raise ValueError(f"{folder}: cannot be read as a text encoder: {_first_line(error)}") from None
    missing = [name for name in info["missing_keys"] if not (name.startswith("pooler.") and pooling != "pooler")]
    if missing or info.get("mismatched_keys"):
        names = sorted(missing) or sorted(str(key) for key in info["mismatched_keys"])
        raise ValueError(f"{folder}: {len(names)} weights are missing or of another shape, first {names[0]!r}")
    if model.config.is_encoder_decoder and hasattr(model, "get_encoder") and family not in ("t5", "mt5", "umt5"):
        model = model.get_encoder()
    if pooling != "pooler" and getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> Any:
    import transformers

    with _quiet_transformers():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, use_fast=True, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:  # broken files surface as many kinds
            raise ValueError(f"{folder}: its tokenizer cannot be read: {_first_line(error)}") from None
    if not tokenizer.is_fast:
        raise ValueError(
            f"{folder}: has no fast tokenizer (tokenizer.json): save one with AutoTokenizer(use_fast=True)"
        )
    return tokenizer


def _tokenizer_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)})


def _find_folder(name: str, revision: str | None) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path}: holds no config.json, so it is no text encoder's folder")
        return path
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1 or path.exists():
        raise FileNotFoundError(f"{path}: no such folder; give a model's folder or a hub name such as owner/model")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name,
            revision=revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
            ignore_patterns=["onnx/*", "openvino/*"],
        )
    except Exception as error:  # no network, no such model, no valid name: all the same to the user
        raise FileNotFoundError(
            f"text encoder {name!r}: no such folder here, and it could not be fetched ({_first_line(error)}); "
            f"give a local folder, or fetch it once where there is a network: hf download {name}"
        ) from None
    return Path(found)


# -------------------------------------------------------------------------------------------------- small


class PrecomputedEmbeddings(TextEncoder):
    """Embeddings that came with the data set, stored in the prepared folder under a name; reads no text.

    ``dim`` is known once :func:`caption_embeddings` has read a split.
    """

    def __init__(self, name: str, dim: int = 0) -> None:
        if not name:
            raise ValueError(
                "text encoder 'precomputed:' needs a name: precomputed:NAME, as the prepared folder has it"
            )
        self.name = name
        self.dim = dim

    @property
    def identity(self) -> str:
        return self.name

    def encode(self, captions: Sequence[str]) -> Tensor:
        raise ValueError(
            f"this model was trained on precomputed embeddings ({self.name}) and has no text encoder: "
            "give embeddings= in place of captions"
        )

    def notices(self, captions: Sequence[str]) -> list[Notice]:
        return []

    def save(self, folder: Path) -> None:
        raise ValueError(f"precomputed embeddings ({self.name}) have no encoder to save")


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of token states (B, L, H) over the tokens that are there, (B, H)."""
    weights = mask.to(states.dtype).unsqueeze(-1)  # (B, L, 1)
    return (states * weights).sum(1) / weights.sum(1)


def _pad(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) padded on the right, and the mask of what is no padding."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], dtype=torch.long)
    mask = torch.arange(length)[None] < torch.tensor([len(row) for row in rows])[:, None]
    return ids.to(device), mask.to(device)


def _by_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of the rows in chunks of like length, so that little is computed for padding."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for start in range(0, len(order), _CHUNK):
        yield order[start : start + _CHUNK]


def _word_at(caption: str, position: int) -> str:
    for match in re.finditer(r"\S+", caption):
        if match.end() > position:
            return match.group()
    return ""


def _truncation(index: int, caption: str, starts: Sequence[int], kept: int) -> Notice:
    number = sum(match.start() <= starts[kept] for match in re.finditer(r"\S+", caption))
    word = _word_at(caption, starts[kept])
    return Notice(
        index,
        "truncated",
        f'kept {kept} of {len(starts)} tokens: the text from word {number}, "{word}", on was dropped',
    )


def _hash_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; it belongs to a text encoder's folder") from None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: holds a {type(values).__name__}, expected a JSON object")
    return values


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    # Written here and not by the library, which makes files that only their owner may read.
    file.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"format": "pt"}))


def _read_tensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: not a safetensors file ({error})") from None


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Load every parameter from the tensors, in the module's own precision."""
    wanted = module.state_dict()
    wrong = sorted(set(wanted) ^ set(tensors)) or sorted(
        name for name in wanted if wanted[name].shape != tensors[name].shape
    )
    if wrong:
        raise ValueError(f"{folder}: weight {wrong[0]!r} is missing, unexpected or of another shape")
    module.load_state_dict(tensors)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """A fresh folder beside ``folder`` to write into; its files move over at a clean exit."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        yield target
        if folder.is_dir():
            for file in sorted(target.iterdir()):
                if file.is_dir():
                    shutil.rmtree(folder / file.name, ignore_errors=True)
                file.replace(folder / file.name)
            target.rmdir()
        else:
            target.replace(folder)
    finally:
        shutil.rmtree(target, ignore_errors=True)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No bars and no reports of unused weights: a CLIP's image half is left out on purpose."""
    from transformers.utils import logging as reports

    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.CRITICAL)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
