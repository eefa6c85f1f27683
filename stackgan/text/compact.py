"""Compact text encoder: trained with a run by contrastive learning on images and captions, part of its checkpoint."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stackgan.images.pixels import from_levels
from stackgan.io.files import atomic_folder
from stackgan.io.json_reader import Fields, check_json, read_json
from stackgan.io.weights import read_tensors, sized_for
from stackgan.text.base import (
    CaptionWarning,
    TextEncoder,
    by_length,
    fill_module,
    hash_tensors,
    mean_state,
    quoted_word,
    write_json,
    write_tensors,
)
from stackgan.text.tokenizer import PAD_ID, pad_tokens, split_words, truncate, truncation_warning

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from stackgan.config import CompactConfig

__all__ = [
    "COMPACT",
    "CaptionTransformer",
    "CompactEncoder",
    "ImageTower",
    "compact_config",
]

COMPACT = "stackgan_compact"  # section of config.json that identifies a compact encoder's folder
_ADVICE = "copy the whole folder from the checkpoint again"
_LARGEST = 2**20
_SQUARED = {"max_position_embeddings": 2**12, "image size": 2**10}  # memory grows with their square
_SIZES = (
    "hidden_size",
    "num_attention_heads",
    "relative_attention_num_buckets",
    "vocab_size",
    "max_position_embeddings",
    "intermediate_size",
    "num_hidden_layers",
)
_CONFIG = Fields(
    {
        **dict.fromkeys(_SIZES, int),
        "layer_norm_eps": float,
        "hidden_dropout_prob": float,
        COMPACT: Fields({"dim": int, "image": Fields({"size": int, "width": int})}, {"teacher": str}),
    }
)
_FORMAT = 1  # format version of the folder that CompactEncoder.save writes
_TABLE = "embeddings.word_embeddings.weight"
_FIRST_POSITION = 2  # MPNet numbers positions from padding index + 1 = 2
_FARTHEST = 128  # tokens: larger distances share a bucket
_PLACES, _FEATURES = 16, 32  # of the image tower: attention maps, further features
_IMAGE_WIDTH = 32  # channels after the image tower's first convolution


class CaptionTransformer(nn.Module):
    """MPNet's encoder (arXiv:2004.09297) in plain torch, parameters named as in transformers.

    Attention scores have a learned bias by distance (arXiv:1910.10683), initialised so that heads attend to the token
    before, the token after, and three on either side: a colour is associated with its part from the first step.
    ``MPNetModel.from_pretrained`` gives the same token states from the same folder (checked by a test). It is not
    used here because importing transformers takes longer than generating an image.

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
            self.encoder["relative_attention_bias"].weight.copy_(_initial_bias(self.buckets, self.heads))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token states (B, L, H) of token ids (B, L); mask (B, L) is true where there is a token."""
        length = ids.shape[1]
        embeddings = self.embeddings
        words = embeddings["word_embeddings"](ids)
        states = self._drop(embeddings["LayerNorm"](words + self.positions(length)))
        bias = self.distance_bias(length)
        bias = bias.masked_fill(~mask[:, None, None, :], torch.finfo(bias.dtype).min)
        for block in self.encoder["layer"]:
            states = self._layer(block, states, bias)
        return states

    def positions(self, length: int) -> Tensor:
        """Embeddings (L, H) of the first positions."""
        return self.embeddings["position_embeddings"].weight[_FIRST_POSITION : _FIRST_POSITION + length]

    def distance_bias(self, length: int) -> Tensor:
        """Bias (1, heads, L, L) of the attention scores, by the distance between tokens."""
        table = self.encoder["relative_attention_bias"]
        bias: Tensor = table(_distances(length, self.buckets).to(table.weight.device))  # (L, L, heads)
        return bias.permute(2, 0, 1)[None]

    def _layer(self, block: Any, states: Tensor, bias: Tensor) -> Tensor:
        attention, output = block["attention"], block["output"]
        query, key, value = (
            attention["attn"][name](states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("q", "k", "v")
        )  # (B, heads, L, H / heads) each
        # Not torch's fused kernel, which is several times slower on a CPU at the length of captions.
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
    if isinstance(module, nn.Linear):  # larger than BERT's 0.02, which trains more slowly
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _distances(length: int, buckets: int) -> Tensor:
    """T5's buckets of the distances between tokens, (L, L): exact for short, logarithmic for long distances."""
    offset = torch.arange(length)[None] - torch.arange(length)[:, None]  # row: query token, column: key token
    half = buckets // 2
    exact = half // 2
    distance = offset.abs()
    far = exact + ((distance.clamp_min(1) / exact).log() / math.log(_FARTHEST / exact) * (half - exact)).long()
    return torch.where(offset > 0, half, 0) + torch.where(distance < exact, distance, far.clamp_max(half - 1))


def _initial_bias(buckets: int, heads: int) -> Tensor:
    """Initial bias (buckets, heads): heads attend in turn to the token before, the one after, three around, all."""
    half = buckets // 2
    bias = torch.zeros(buckets, heads)
    for head in range(heads):
        near = ([1], [half + 1], [1, 2, 3, half + 1, half + 2, half + 3], [])[head % 4]
        bias[near, head] = 4.0
    return bias


class ImageTower(nn.Module):
    """Image tower of the dual encoder: convolutional attention maps over the pixels' colours.

        a = softmax over positions of convolutions(x)   (B, K, positions)   K attention maps
        v = W · [a · x, pooled features]                 normalised, (B, T)

    As v is linear in colours, pink is between red and white for every part, so that embeddings extrapolate to
    combinations of part and colour without training photos.

    Args:
        dim: T.
        size: side in pixels to which images are resized; a multiple of 16.
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


@lru_cache(maxsize=1000)  # it takes milliseconds
def _nearest(word: str, known: frozenset[str]) -> str:
    """The known word that is most similar to an unknown one, or nothing."""
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.75)), "")


class CompactEncoder(TextEncoder):
    """Small caption encoder stored in checkpoints: WordPiece, a few transformer layers, mean pooling, projection.

        e = W · mean over tokens of network(caption) + b        standardised over the training captions

    Words without occurrence in training captions are split into trained pieces or become ``[UNK]``, and are reported
    by :meth:`warnings`. The vocabulary of an encoder distilled from a teacher (:mod:`stackgan.text.distillation`)
    also contains words of the teacher.

    Args:
        network: computes the token states.
        projection: (H -> T), its outputs standardised.
        tokenizer: WordPiece with only pieces that occur in the training captions.
        words: known words: those of the training captions and those taken from the teacher's vocabulary.
        config: content of config.json.
        image_tower: the image tower if in memory; otherwise it is read from ``folder`` at first use.
    """

    def __init__(
        self,
        network: CaptionTransformer,
        projection: nn.Linear,
        tokenizer: Tokenizer,
        words: Sequence[str],
        config: dict[str, Any],
        *,
        image_tower: ImageTower | None = None,
        folder: Path | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.projection = projection.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.words = sorted(words)
        self.config = config
        self.dim = projection.out_features
        self.max_tokens = int(config["max_position_embeddings"]) - _FIRST_POSITION
        self._image_tower = image_tower.eval().requires_grad_(False) if image_tower is not None else None
        self._folder = folder

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    @property
    def has_teacher(self) -> bool:
        """Whether it was distilled from a sentence encoder, so that it has words without occurrence in captions."""
        return "teacher" in self.config[COMPACT]

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256(self.tokenizer.to_str().encode())
        hash_tensors(digest, self._state())
        return f"compact-mean-{digest.hexdigest()[:24]}"

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        rows = [truncate(self.tokenizer.encode(caption).ids, self.max_tokens) for caption in captions]
        out = torch.empty(len(rows), self.dim, device=self.device)
        for chunk in by_length(rows):
            ids, mask = (tensor.to(self.device) for tensor in pad_tokens([rows[i] for i in chunk]))
            out[chunk] = self.project(self.network(ids, mask), mask)
        return out

    def project(self, states: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, T) of token states (B, L, H)."""
        return self.projection(mean_state(states, mask))

    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        found = []
        for index, caption in enumerate(captions):
            encoding = self.tokenizer.encode(caption)
            if len(encoding.ids) > self.max_tokens:
                starts = [start for start, _ in encoding.offsets[1:-1]]
                found.append(truncation_warning(index, caption, starts, self.max_tokens - 2))
            for word in dict.fromkeys(split_words(self.tokenizer, caption)):
                if word not in self._known and any(map(str.isalnum, word)):
                    near = _nearest(word, self._known)
                    unseen = ": no training caption has it" + ", nor does the English vocabulary" * self.has_teacher
                    hint = f': did you mean "{near}"?' if near else unseen
                    found.append(CaptionWarning(index, "unknown", f"unknown word {quoted_word(word)}{hint}"))
        return found

    def save(self, folder: Path) -> None:
        with atomic_folder(Path(folder), merge=True) as target:
            write_json(target / "config.json", self.config)
            state = self._state()
            if self.has_teacher:  # the table is most of the file, and was already rounded after training
                state[_TABLE] = state[_TABLE].half()
            write_tensors(target / "model.safetensors", state)
            half = {name: tensor.half() for name, tensor in self.image_tower.state_dict().items()}
            write_tensors(target / "image.safetensors", half)
            self.tokenizer.save(str(target / "tokenizer.json"), pretty=False)
            tokens = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
            facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.max_tokens}
            write_json(target / "tokenizer_config.json", facts | tokens)
            (target / "words.txt").write_text("".join(word + "\n" for word in self.words), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> CompactEncoder:
        """Read a folder that :meth:`save` wrote; raises ``ValueError`` naming an invalid file."""
        from tokenizers import Tokenizer

        file = folder / "config.json"
        config = read_json(file, Fields({COMPACT: Fields({"format": int})}), advice=_ADVICE)
        version = config[COMPACT]["format"]
        if version != _FORMAT:
            raise ValueError(f"{file}: compact encoder of format {version!r}, this code reads {_FORMAT}")
        check_json(config, str(file), _CONFIG, advice=_ADVICE)
        sizes = {name: config[name] for name in _SIZES} | {"image size": config[COMPACT]["image"]["size"]}
        for name, size in sizes.items():
            largest = _SQUARED.get(name, _LARGEST)
            if not 1 <= size <= largest:
                raise ValueError(f"{file}: {name} is {size}, expected 1 to {largest}; {_ADVICE}")
        for name in ("model.safetensors", "tokenizer.json", "words.txt"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name}: missing; copy the whole folder from the checkpoint again")
        tensors = read_tensors(folder / "model.safetensors")
        with sized_for(tensors.values(), file):
            network = CaptionTransformer(config)
            projection = nn.Linear(config["hidden_size"], config[COMPACT]["dim"])
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith("projection.")}
        fill_module(projection, {name.removeprefix("projection."): value for name, value in own.items()}, folder)
        fill_module(network, tensors, folder)
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{folder / 'tokenizer.json'}: not a tokenizer ({error})") from None
        words = (folder / "words.txt").read_text(encoding="utf-8").split()
        return cls(network, projection, tokenizer, words, config, folder=folder)

    @property
    def image_tower(self) -> ImageTower:
        """The image tower, loaded at first use."""
        if self._image_tower is None:
            if self._folder is None or not (self._folder / "image.safetensors").is_file():
                raise FileNotFoundError(
                    f"{self._folder}: holds no image.safetensors, the image tower of this encoder"
                )
            section = self.config[COMPACT]["image"]
            with torch.random.fork_rng([]):  # initial weights draw: a resumed run would go on with other numbers
                tensors = read_tensors(self._folder / "image.safetensors")
                with sized_for(tensors.values(), self._folder / "config.json"):
                    half = ImageTower(self.dim, section["size"], section["width"])
            fill_module(half, tensors, self._folder)
            self._image_tower = half.eval().requires_grad_(False).to(self.device)
        return self._image_tower

    def encode_images(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Unit vectors (B, T) of images; their cosine with rows of :meth:`encode` measures image–text agreement.

        Args:
            images: (B, h, w, 3) uint8, or (B, 3, h, w) float in [-1, 1], which is differentiable.
        """
        values = torch.as_tensor(np.array(images)) if isinstance(images, np.ndarray) else images
        if values.dtype == torch.uint8:
            values = from_levels(values.to(self.device).permute(0, 3, 1, 2))
        if values.ndim != 4 or values.shape[1] != 3:
            raise ValueError(f"images of shape {tuple(images.shape)}: give (B, h, w, 3) uint8 or (B, 3, h, w) float")
        return self.image_tower(values)

    def to(self, device: torch.device | str) -> CompactEncoder:
        for module in (self.network, self.projection, self._image_tower):
            if module is not None:
                module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.projection.weight.device

    def _state(self) -> dict[str, Tensor]:
        state = {f"projection.{name}": tensor for name, tensor in self.projection.state_dict().items()}
        return {name: tensor.cpu().contiguous() for name, tensor in (self.network.state_dict() | state).items()}


def compact_config(settings: CompactConfig, vocabulary: int, dropout: float, teacher: str = "") -> dict[str, Any]:
    """Content of a compact encoder's config.json: the keys of an ``MPNetConfig``, and our own section.

    Args:
        teacher: identity of the sentence encoder that it is distilled from, if any.
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
        "pad_token_id": PAD_ID,
        "bos_token_id": 2,
        "eos_token_id": 3,
        COMPACT: {
            "format": _FORMAT,
            "dim": settings.dim,
            "image": {"size": settings.image_size, "width": _IMAGE_WIDTH},
        },
    }
    if teacher:
        config["dtype"] = "float32"  # only the embedding table is stored in half precision
        config[COMPACT]["teacher"] = teacher
    return config
