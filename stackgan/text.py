"""Captions in, embeddings out: (B, T) float32, the same for a caption whatever else is in its batch.

Three sources, one interface:

- ``TransformersEncoder``: any transformers text encoder, by hub name or local folder, its token states pooled;
- ``CompactEncoder``: the small encoder trained with a run by image–caption contrast (``caption_contrast.py``) and
  shipped inside its checkpoint;
- ``PrecomputedEmbeddings``: arrays that came with the data set; no text is read at all.

``caption_embeddings`` computes a split's embeddings once and keeps them there under the encoder's identity.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import logging
import os
import re
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

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
_CHOICE = "stackgan_text.json"  # pooling and length of a saved TransformersEncoder
_CHUNK = 64  # captions a forward pass
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
        """Embeddings of the captions, (B, T) float32; a row depends on its own caption alone, up to rounding."""

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
        name_or_folder: a folder (ours, a transformers model, or a sentence-transformers model), a hub name such
            as ``sentence-transformers/all-MiniLM-L6-v2``, or ``precomputed:NAME``.
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
            raise ValueError(
                f"{folder}: a compact encoder pools by mean, text.pooling is {pooling!r}: use auto"
            )
        return CompactEncoder.load(folder)
    return TransformersEncoder(folder, pooling)


def caption_embeddings(
    split: PreparedSplit, encoder: TextEncoder, *, progress: bool = True, batch: int = 512
) -> NDArray[np.float32]:
    """Embeddings of all captions of a split, (captions, T): read from its cache, or computed and kept there.

    Equal captions are encoded once. The cache is keyed by the encoder's identity.

    Raises:
        FileNotFoundError: precomputed embeddings that the split does not hold.
        ValueError: stored embeddings whose length is not the encoder's.
    """
    name = encoder.identity
    if isinstance(encoder, PrecomputedEmbeddings):
        encoder.dim = int(split.embeddings(name).shape[1])
    if name in split.embedding_names() or isinstance(encoder, PrecomputedEmbeddings):
        stored = split.embeddings(name)
        if stored.shape[1] != encoder.dim:
            raise ValueError(
                f"{split.path}: embeddings {name!r} are {stored.shape[1]} long, the encoder's are {encoder.dim}: "
                "delete that file, it is made again"
            )
        return stored
    from tqdm import tqdm

    row_of = {caption: row for row, caption in enumerate(dict.fromkeys(split.captions))}
    distinct = list(row_of)
    rows = np.empty((len(distinct), encoder.dim), np.float32)
    with tqdm(total=len(distinct), desc=f"embedding {split.name} captions", disable=not progress) as bar:
        for start in range(0, len(distinct), batch):
            chunk = distinct[start : start + batch]
            rows[start : start + len(chunk)] = encoder.encode(chunk).cpu().numpy()
            bar.update(len(chunk))
    array = rows[[row_of[caption] for caption in split.captions]]
    try:
        split.store_embeddings(name, array)
    except OSError as error:  # a prepared folder somebody else owns is no reason not to train
        warnings.warn(
            f"{split.path}: cannot keep the embeddings there ({error}); computed anew next time", stacklevel=2
        )
    return array


# ------------------------------------------------------------------------------------------------- compact


class CaptionTransformer(nn.Module):
    """BERT's encoder (arXiv:1810.04805) in plain torch, parameter for parameter as transformers' ``BertModel``.

    ``BertModel.from_pretrained`` reads the same folder to the same token states (a test holds the two together);
    importing transformers, however, takes longer than making a picture, and a checkpoint should start at once.

    Args:
        config: the fields of a ``BertConfig``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, epsilon = int(config["hidden_size"]), float(config["layer_norm_eps"])
        self.heads = int(config["num_attention_heads"])
        self.dropout = float(config["hidden_dropout_prob"])
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(int(config["vocab_size"]), width),
                "position_embeddings": nn.Embedding(int(config["max_position_embeddings"]), width),
                "token_type_embeddings": nn.Embedding(1, width),
                "LayerNorm": nn.LayerNorm(width, epsilon),
            }
        )
        blocks = [
            _block(width, int(config["intermediate_size"]), epsilon)
            for _ in range(config["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(blocks)})
        self.apply(_init_bert)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token states (B, L, H) of token ids (B, L); mask (B, L) is true where there is a token."""
        embeddings = self.embeddings
        states = embeddings["word_embeddings"](ids) + embeddings["position_embeddings"].weight[: ids.shape[1]]
        states = embeddings["LayerNorm"](states + embeddings["token_type_embeddings"].weight[0])
        states = self._drop(states)
        for block in self.encoder["layer"]:
            states = self._layer(block, states, mask)
        return states

    def _layer(self, block: Any, states: Tensor, mask: Tensor) -> Tensor:
        attention = block["attention"]
        heads = [
            attention["self"][name](states)
            .unflatten(-1, (self.heads, -1))
            .transpose(1, 2)  # (B, heads, L, H/heads)
            for name in ("query", "key", "value")
        ]
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask[:, None, None, :])
        mixed = mixed.transpose(1, 2).flatten(-2)  # (B, L, H)
        output = attention["output"]
        states = output["LayerNorm"](states + self._drop(output["dense"](mixed)))
        inner = F.gelu(block["intermediate"]["dense"](states))
        output = block["output"]
        return output["LayerNorm"](states + self._drop(output["dense"](inner)))

    def _drop(self, states: Tensor) -> Tensor:
        return F.dropout(states, self.dropout, self.training)


def _block(width: int, inner: int, epsilon: float) -> nn.ModuleDict:
    attention = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict({"self": attention, "output": _dense_and_norm(width, width, epsilon)}),
            "intermediate": nn.ModuleDict({"dense": nn.Linear(width, inner)}),
            "output": _dense_and_norm(inner, width, epsilon),
        }
    )


def _dense_and_norm(inputs: int, width: int, epsilon: float) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inputs, width), "LayerNorm": nn.LayerNorm(width, epsilon)})


def _init_bert(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


class ImageHalf(nn.Module):
    """The image half of the contrast: a small convolutional network, images to unit vectors of length T.

    Args:
        dim: T.
        size: side in pixels at which it looks.
        width: channels after the first convolution.
    """

    def __init__(self, dim: int, size: int, width: int = _IMAGE_WIDTH) -> None:
        super().__init__()
        self.size = size
        widths = [3, width, 2 * width, 3 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4 if before == 3 else 3, stride=2, padding=1)
            for before, after in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, after) for after in widths[1:])
        self.head = nn.Linear(2 * widths[-1], dim)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors (B, T) of images (B, 3, s, s) in [-1, 1]; differentiable."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        states = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            states = F.gelu(norm(convolution(states)))
        pooled = torch.cat([states.mean((2, 3)), states.amax((2, 3))], dim=1)  # (B, 8 width)
        return F.normalize(self.head(pooled).float(), dim=1)


class CompactEncoder(TextEncoder):
    """The small caption encoder that ships in a checkpoint: WordPiece, a few BERT layers, mean, projection.

        e = W · mean over tokens of BERT(caption) + b        standardised over the training captions

    Words that the training captions never held become ``[UNK]`` unless trained pieces make them up, and are
    reported by :meth:`notices`.

    Args:
        network: the token states.
        projection: (H -> T), its outputs standardised.
        tokenizer: WordPiece whose vocabulary holds only pieces that occur in the training captions.
        words: the words of the training captions.
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
        self.max_tokens = int(config["max_position_embeddings"])
        self._image_half = image_half.eval().requires_grad_(False) if image_half is not None else None
        self._folder = folder

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

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
            ids, mask = _pad([rows[i] for i in chunk], 0, self.device)
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
                    hint = f': did you mean "{near[0]}"?' if near else ": no training caption has it"
                    found.append(Notice(index, "unknown", f'unknown word "{word}"{hint}'))
        return found

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        with _filled(folder) as target:
            (target / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
            save_file(self._state(), target / "model.safetensors", {"format": "pt"})
            save_file(
                {name: tensor.half().contiguous() for name, tensor in self.image_half.state_dict().items()},
                target / "image.safetensors",
                {"format": "pt"},
            )
            self.tokenizer.save(str(target / "tokenizer.json"), pretty=False)
            (target / "tokenizer_config.json").write_text(
                json.dumps(
                    {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.max_tokens}
                    | {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")},
                    indent=2,
                )
                + "\n",
                encoding="utf-8",
            )
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
                raise FileNotFoundError(
                    f"{folder / name}: missing; copy the whole folder from the checkpoint again"
                )
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
                raise FileNotFoundError(
                    f"{self._folder}: holds no image.safetensors, the image half of this encoder"
                )
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
            raise ValueError(
                f"images of shape {tuple(images.shape)}: give (B, h, w, 3) uint8 or (B, 3, h, w) float"
            )
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
        return {
            name: tensor.cpu().contiguous() for name, tensor in (self.network.state_dict() | state).items()
        }

    def _ids(self, caption: str) -> list[int]:
        ids = self.tokenizer.encode(caption).ids
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def _split(self, caption: str) -> list[str]:
        return split_words(self.tokenizer, caption)


def compact_config(settings: CompactConfig, vocabulary: int, dropout: float) -> dict[str, Any]:
    """What config.json of a compact encoder holds: a ``BertConfig``, and a section of our own."""
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary,
        "hidden_size": settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": 2 * settings.width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": settings.max_tokens,
        "type_vocab_size": 1,
        "pad_token_id": 0,
        _COMPACT: {
            "format": _FORMAT,
            "dim": settings.dim,
            "image": {"size": settings.image_size, "width": _IMAGE_WIDTH},
        },
    }


def split_words(tokenizer: Tokenizer, caption: str) -> list[str]:
    """The words of a caption as the tokenizer sees them before it looks for pieces: lower case, no punctuation stuck."""
    return [
        word
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(caption))
    ]


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

    A sentence-transformers folder is read with its own pooling, dense layers and normalisation unless a pooling
    is named; an encoder–decoder gives its encoder; a CLIP checkpoint gives its text half.

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
        plan = _sentence_plan(folder) if pooling == "auto" and not choice else _Plan()
        if pooling == "auto":
            pooling = choice.get("pooling") or plan.pooling or _POOLING_BY_FAMILY.get(self.family, "mean")
        self.pooling = pooling
        self.normalise = bool(choice.get("normalise", plan.normalise))
        self.model = _load_model(folder, self.family, pooling)
        self.dense = nn.ModuleList(_load_dense(path) for path in plan.dense)
        if choice.get("dense"):
            self.dense = nn.ModuleList(_load_dense(folder / name) for name in choice["dense"])
        self.dense.eval().requires_grad_(False)
        self.tokenizer = _load_tokenizer(folder)
        self.max_tokens = int(choice.get("max_tokens") or self._longest(plan.max_tokens))
        self.dim = int(self.encode(["a bird"]).shape[1])

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for file in _tokenizer_files(self.folder):
            digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
        digest.update(f"{self.max_tokens} {self.normalise}".encode())
        _hash_tensors(digest, self.model.state_dict())
        _hash_tensors(digest, self.dense.state_dict())
        for layer in self.dense:
            digest.update(type(layer[1]).__name__.encode())  # type: ignore[index]
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
                found.append(
                    Notice(index, "unknown", f'unknown word "{word}": the tokenizer has no such characters')
                )
        return found

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        with _filled(folder) as target:
            self.model.save_pretrained(target)
            for file in _tokenizer_files(self.folder):
                shutil.copyfile(file, target / file.name)
            names = []
            for number, layer in enumerate(self.dense):
                names.append(f"dense_{number}")
                (target / names[-1]).mkdir()
                linear, activation = layer  # type: ignore[misc]
                facts = {
                    "in_features": linear.in_features,
                    "out_features": linear.out_features,
                    "bias": linear.bias is not None,
                    "activation_function": f"torch.nn.modules.{type(activation).__name__}",
                }
                (target / names[-1] / "config.json").write_text(
                    json.dumps(facts, indent=2) + "\n", encoding="utf-8"
                )
                tensors = {f"linear.{name}": value.cpu() for name, value in linear.state_dict().items()}
                save_file(tensors, target / names[-1] / "model.safetensors", {"format": "pt"})
            choice = {
                "pooling": self.pooling,
                "normalise": self.normalise,
                "max_tokens": self.max_tokens,
                "dense": names,
            }
            (target / _CHOICE).write_text(json.dumps(choice, indent=2) + "\n", encoding="utf-8")

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
                raise ValueError(
                    f"{self.folder}: {self.family} has no pooler: set text.pooling to mean or cls"
                )
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
        return min([512 if not positions else positions, *limits])


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
                f"{folder / 'modules.json'}: module {kind} is not supported: name a text.pooling to go without"
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
        key.removeprefix("pooling_mode_")
        for key, on in config.items()
        if key.startswith("pooling_mode_") and on
    ]
    known = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last"}
    if len(modes) != 1 or modes[0] not in known:
        raise ValueError(
            f"{file}: pooling {' + '.join(modes) or 'none'} is not supported: name a text.pooling to go without"
        )
    return known[modes[0]]


def _load_dense(folder: Path) -> nn.Sequential:
    config = _read_json(folder / "config.json")
    activations = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}
    name = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if name not in activations:
        raise ValueError(
            f"{folder / 'config.json'}: activation {name} is not one of {', '.join(activations)}"
        )
    if not (folder / "model.safetensors").is_file():
        raise ValueError(f"{folder}: holds no model.safetensors (pickled weights are not read)")
    linear = nn.Linear(
        int(config["in_features"]), int(config["out_features"]), bool(config.get("bias", True))
    )
    tensors = _read_tensors(folder / "model.safetensors")
    _fill(linear, {key.removeprefix("linear."): value for key, value in tensors.items()}, folder)
    return nn.Sequential(linear, activations[name]())


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
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{folder}: cannot be read as a text encoder: {_first_line(error)}") from None
    missing = [
        name for name in info["missing_keys"] if not (name.startswith("pooler.") and pooling != "pooler")
    ]
    if missing or info.get("mismatched_keys"):
        names = sorted(missing) or sorted(str(key) for key in info["mismatched_keys"])
        raise ValueError(
            f"{folder}: {len(names)} weights are missing or of another shape, first {names[0]!r}"
        )
    if (
        model.config.is_encoder_decoder
        and hasattr(model, "get_encoder")
        and family not in ("t5", "mt5", "umt5")
    ):
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
        raise FileNotFoundError(
            f"{path}: no such folder; give a model's folder or a hub name such as owner/model"
        )
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name,
            revision=revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
            ignore_patterns=["onnx/*", "openvino/*"],
        )
    except (
        Exception
    ) as error:  # no network, no such model, a name the hub does not allow: all the same to the user
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
                os.replace(file, folder / file.name)
            target.rmdir()
        else:
            os.replace(target, folder)
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
