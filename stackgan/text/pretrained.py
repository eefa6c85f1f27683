"""Transformers text encoders by hub name or folder, with token states pooled to one vector."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackgan.io.files import atomic_folder
from stackgan.io.hub import first_line, snapshot
from stackgan.io.json_reader import Fields, ListOf, OneOf, read_json
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
from stackgan.text.tokenizer import pad_tokens, truncation_warning, word_at

__all__ = [
    "TransformersEncoder",
    "find_folder",
]

_ADVICE = "copy the text encoder's folder again"
_CHOICES = Fields({}, {"pooling": str, "normalise": bool, "max_tokens": int, "dense": ListOf(str)})
_DENSE = Fields({"in_features": int, "out_features": int}, {"bias": bool, "activation_function": str})
_CHOICE = "stackgan_text.json"  # pooling and length of a saved TransformersEncoder

# The pooling that each family was trained with; other families use the mean.
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
# These number positions from pad_token_id + 1, which leaves fewer for tokens.
_SHIFTED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl", "longformer")
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # downloaded from the hub
_TOKENIZER_FILES = (
    "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model",
)  # fmt: skip


class TransformersEncoder(TextEncoder):
    """Transformers text encoder in a local folder, with token states pooled to one vector.

    A sentence-transformers folder is used with its own pooling, dense layers and normalisation unless a pooling is
    given; of an encoder–decoder the encoder is used, of a CLIP checkpoint the text tower.

    Args:
        folder: config.json, safetensors weights, tokenizer files.
        pooling: see :func:`load_text_encoder`.

    Raises:
        ValueError: weights are missing or pickled, or the model has no token states.
    """

    def __init__(self, folder: Path, pooling: str = "auto") -> None:
        self.folder = folder
        config = read_json(folder / "config.json", Fields({}, {"model_type": str}), advice=_ADVICE)
        self.family = config.get("model_type", "")
        choice = read_json(folder / _CHOICE, _CHOICES, advice=_ADVICE) if (folder / _CHOICE).is_file() else {}
        if pooling not in ("auto", choice.get("pooling")):
            choice = {}
        plan = _sentence_plan(folder) if pooling == "auto" and not choice else _Plan()
        if pooling == "auto":
            pooling = choice.get("pooling") or plan.pooling or _POOLING_BY_FAMILY.get(self.family, "mean")
        self.pooling = pooling
        self.normalise = choice.get("normalise", plan.normalise)
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
        hash_tensors(digest, self.model.state_dict())
        hash_tensors(digest, self.dense.state_dict())
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
        for chunk in by_length(rows):
            ids, mask = (tensor.to(self.device) for tensor in pad_tokens([rows[i] for i in chunk], pad))
            vectors = self.embed(ids, mask)
            if out is None:
                out = torch.empty(len(rows), vectors.shape[1], device=self.device)
            out[chunk] = vectors
        assert out is not None  # as there is at least one caption
        return out

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, T) of token ids (B, L); mask (B, L) is true where there is a token."""
        vectors = self._pool(ids, mask).float()
        for layer in self.dense:
            vectors = layer(vectors)
        return F.normalize(vectors, dim=1) if self.normalise else vectors

    def warnings(self, captions: Sequence[str]) -> list[CaptionWarning]:
        found = []
        unknown = self.tokenizer.unk_token_id
        special = self.tokenizer.num_special_tokens_to_add()
        for index, caption in enumerate(captions):
            # Larger than any caption: without a maximum length, transformers warns about long captions.
            tokens = self.tokenizer(
                caption,
                add_special_tokens=False,
                return_offsets_mapping=True,
                truncation=True,
                max_length=10**6,
            )
            starts = [start for start, _ in tokens["offset_mapping"]]
            if len(starts) + special > self.max_tokens:
                found.append(truncation_warning(index, caption, starts, self.max_tokens - special))
            spans = [
                span
                for token, span in zip(tokens["input_ids"], tokens["offset_mapping"], strict=True)
                if token == unknown
            ]
            for word in dict.fromkeys(word_at(caption, start) for start, end in spans if end > start):
                found.append(
                    CaptionWarning(
                        index, "unknown", f"unknown word {quoted_word(word)}: the tokenizer has no such characters"
                    )
                )
        return found

    def save(self, folder: Path) -> None:
        with atomic_folder(Path(folder), merge=True) as target:
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
            write_json(target / _CHOICE, choice)

    def to(self, device: torch.device | str) -> TransformersEncoder:
        self.model.to(device)
        self.dense.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _pool(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector per caption, (B, H), for token ids (B, L)."""
        output = self.model(input_ids=ids, attention_mask=mask.long())
        if self.pooling == "pooler":
            pooled = getattr(output, "text_embeds", None)
            pooled = getattr(output, "pooler_output", None) if pooled is None else pooled
            if pooled is None:
                raise ValueError(f"{self.folder}: {self.family} has no pooler: set text.pooling to mean or cls")
            return pooled
        states = getattr(output, "last_hidden_state", None)
        if states is None:
            raise ValueError(f"{self.folder}: {self.family} gives no token states: it is not a text encoder")
        if self.pooling == "mean":
            return mean_state(states, mask)
        last = mask.sum(1) - 1
        position = torch.zeros_like(last)
        if self.pooling in ("last", "eos"):
            position = last
        if self.pooling == "eos" and self.tokenizer.eos_token_id is not None:
            ends = (ids == self.tokenizer.eos_token_id) & mask
            position = torch.where(ends.any(1), ends.int().argmax(1), last)
        return states[torch.arange(ids.shape[0], device=ids.device), position]

    def _longest(self, requested: int | None) -> int:
        config = self.model.config
        limits = [limit for limit in (requested, getattr(self.tokenizer, "model_max_length", None)) if limit]
        positions = getattr(config, "max_position_embeddings", None)
        if positions:
            limits.append(positions - (config.pad_token_id + 1 if self.family in _SHIFTED_POSITIONS else 0))
        return min([positions or 512, *limits])


@dataclass(frozen=True)
class _Plan:
    """The modules of a sentence-transformers folder after its transformer."""

    pooling: str | None = None
    dense: tuple[Path, ...] = ()
    normalise: bool = False
    max_tokens: int | None = None


def _sentence_plan(folder: Path) -> _Plan:
    if not (folder / "modules.json").is_file():
        return _Plan()
    pooling, dense, normalise = None, [], False
    for module in read_json(folder / "modules.json", ListOf(Fields({"type": str, "path": str})), advice=_ADVICE):
        kind, path = module["type"].rsplit(".", 1)[-1], folder / module["path"]
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
                f"{folder / 'modules.json'}: module {kind} is not supported: set text.pooling to ignore the modules"
            )
    length = None
    for name in ("sentence_bert_config.json", "sentence_transformers_config.json"):
        if (folder / name).is_file():
            schema = Fields({}, {"max_seq_length": OneOf(int, None)})
            length = read_json(folder / name, schema, advice=_ADVICE).get("max_seq_length") or length
    return _Plan(pooling, tuple(dense), normalise, length)


def _sentence_pooling(file: Path) -> str:
    config = read_json(file, advice=_ADVICE)
    modes = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else []
    modes += [
        key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on
    ]
    known = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last"}
    if len(modes) != 1 or modes[0] not in known:
        raise ValueError(f"{file}: pooling {' + '.join(modes) or 'none'} is not supported: set text.pooling yourself")
    return known[modes[0]]


class _Dense(nn.Module):
    """Dense layer of a sentence-transformers folder, (B, H) -> (B, H')."""

    activations: ClassVar = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}

    def __init__(self, folder: Path) -> None:
        super().__init__()
        config = read_json(folder / "config.json", _DENSE, advice=_ADVICE)
        self.activation = config.get("activation_function", "Tanh").rsplit(".", 1)[-1]
        if self.activation not in self.activations:
            known = ", ".join(self.activations)
            raise ValueError(f"{folder / 'config.json'}: activation {self.activation} is not one of {known}")
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"{folder}: holds no model.safetensors (pickled weights are not read)")
        sizes = config["in_features"], config["out_features"]
        if min(sizes) < 1:
            raise ValueError(f"{folder / 'config.json'}: layer of {sizes[0]} x {sizes[1]}: {_ADVICE}")
        tensors = read_tensors(folder / "model.safetensors")
        with sized_for(tensors.values(), folder / "config.json"):
            self.linear = nn.Linear(*sizes, bias=config.get("bias", True))
        fill_module(self, tensors, folder)

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
        write_json(folder / "config.json", facts)
        write_tensors(folder / "model.safetensors", self.state_dict())


def _load_model(folder: Path, family: str, pooling: str) -> Any:
    """The text encoder of the model in a folder, float32 and frozen; every weight must be in the file."""
    import transformers

    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder}: holds no *.safetensors weights (pickled .bin weights are not read): "
            "convert it once with save_pretrained, or use a model that has them"
        )
    kind: Any = transformers.AutoModel
    if family in ("clip", "clip_text_model"):
        kind = transformers.CLIPTextModelWithProjection if pooling == "pooler" else transformers.CLIPTextModel
    elif family in ("t5", "mt5", "umt5"):
        kind = {"t5": transformers.T5EncoderModel, "mt5": transformers.MT5EncoderModel}.get(
            family, transformers.UMT5EncoderModel
        )
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors")) // 2  # elements, of two bytes or more
    with _quiet_transformers():
        try:
            with sized_for(stored, folder / "config.json"):
                model, info = kind.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except Exception as error:  # damaged files raise many types
            raise ValueError(f"{folder}: cannot be read as a text encoder: {first_line(error)}") from None
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
        except Exception as error:  # damaged files raise many types
            raise ValueError(f"{folder}: its tokenizer cannot be read: {first_line(error)}") from None
    if not tokenizer.is_fast:
        raise ValueError(
            f"{folder}: has no fast tokenizer (tokenizer.json): save one with AutoTokenizer(use_fast=True)"
        )
    return tokenizer


def _tokenizer_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)})


def find_folder(name: str) -> Path:
    """The folder of a text encoder: a local one, or that of a hub model, downloaded unless in the local cache."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path}: holds no config.json, so it is not a text encoder's folder")
        return path
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1 or path.exists():
        raise FileNotFoundError(f"{path}: no such folder; give a model's folder or a hub name such as owner/model")
    try:
        return snapshot(name, allow=_MODEL_FILES, ignore=("onnx/*", "openvino/*"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"text encoder {name!r}: no such folder, and it could not be downloaded ({error}); "
            f"give a local folder, or download it once with network access: hf download {name}"
        ) from None


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence progress bars and reports of unused weights: a CLIP's image tower is left out on purpose."""
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
