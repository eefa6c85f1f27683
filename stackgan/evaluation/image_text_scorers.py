"""Image–text scorers: networks that embed captions and images in a joint space, compared by cosine.

- ``own``: the checkpoint's compact dual encoder. A generator trained on its embeddings may score high without images
  that match the captions;
- ``independent``: a compact dual encoder with another seed that is not used in training generators. It is trained
  once on the train split and stored in the prepared folder's cache (:mod:`stackgan.evaluation.cache`);
- ``clip``: any CLIP in transformers' format.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stackgan.config import CompactConfig
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.cache import evaluation_cache
from stackgan.images.pixels import to_pil
from stackgan.io.files import atomic_folder
from stackgan.io.hub import first_line
from stackgan.io.json_reader import read_json, round_trip
from stackgan.pipeline import StackGANPipeline
from stackgan.text.base import TextEncoder
from stackgan.text.compact import CompactEncoder
from stackgan.text.contrastive import train_compact_encoder

__all__ = [
    "SETTINGS",
    "ClipScorer",
    "CompactScorer",
    "ImageTextScorer",
    "choose_scorers",
    "load_or_train_dual_encoder",
]

# On 5,600 photos of CUB with a tenth held out: R-precision of held-out photos 13 % among 100 captions (chance: 1 %),
# 4 % among those of their species (chance: 2 %); of training photos 20 %, so that more steps would improve little.
SETTINGS = CompactConfig(teacher="")
SEED = 1051  # differs from the small seeds of training runs, whose encoders thus have another initialisation
VERSION = 1  # of the training: cached encoders of other versions are trained again
FACTS = "trained-with.json"  # in the cached folder: settings of the training


class ImageTextScorer(Protocol):
    """Embeds captions and images in a joint space, compared by cosine."""

    def embed_captions(self, texts: Sequence[str]) -> Tensor:
        """(N, T) on the CPU."""

    def embed_images(self, images: Tensor) -> Tensor:
        """(N, T) on the CPU, of images (N, 3, s, s) in [−1, 1]."""


class CompactScorer:
    """A compact dual encoder: caption encoder and image tower.

    Raises:
        FileNotFoundError: its folder has no image tower.
    """

    def __init__(self, encoder: CompactEncoder) -> None:
        self.encoder = _with_image_tower(encoder)

    def embed_captions(self, texts: Sequence[str]) -> Tensor:
        return self.encoder.encode(texts).float().cpu()

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        return self.encoder.encode_images(images.to(self.encoder.device)).float().cpu()


class ClipScorer:
    """A CLIP (arXiv:2103.00020) with its tokenizer and image processor.

    Args:
        name: a folder that ``CLIPModel.save_pretrained`` and its processor wrote, or a hub name such as
            ``openai/clip-vit-base-patch32``. Weights are read from safetensors only.

    Raises:
        FileNotFoundError: the folder or model does not exist.
        ValueError: the folder has no complete CLIP, or torchvision is not installed.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        if find_spec("torchvision") is None:  # transformers' image processor imports it
            raise ValueError('--clip needs the package torchvision: pip install "stackgan[eval]"')
        import transformers

        path = Path(name).expanduser()
        if not path.is_dir() and (path.is_absolute() or name.startswith(".") or name.count("/") != 1):
            raise FileNotFoundError(f"--clip {name}: no such folder; give a CLIP's folder or a hub name, owner/model")
        where = str(path) if path.is_dir() else name
        if path.is_dir() and not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path / 'config.json'}: missing; --clip takes the folder of a CLIP")
        try:
            loader: Any = transformers.CLIPModel
            model, info = loader.from_pretrained(
                where, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
            self.processor = transformers.CLIPImageProcessor.from_pretrained(where)
        except Exception as error:  # transformers raises many types for damaged files and failed downloads
            reason = first_line(error)
            if path.is_dir():
                raise ValueError(f"{path}: cannot be read as a CLIP: {reason}") from None
            raise FileNotFoundError(
                f"--clip {name}: no such folder, and it could not be downloaded ({reason}); "
                f"give a local folder, or download it once with network access: hf download {name}"
            ) from None
        missing = sorted(info["missing_keys"])
        if missing:
            raise ValueError(f"{where}: {len(missing)} weights of a CLIP are missing, first {missing[0]!r}")
        self.model = model.eval().requires_grad_(False).to(device)
        self.max_tokens = int(model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def embed_captions(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ids, mask = (tokens[key].to(self.model.device) for key in ("input_ids", "attention_mask"))
        return _pooled(self.model.get_text_features(input_ids=ids, attention_mask=mask))

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        pixels = self.processor(images=to_pil(images), return_tensors="pt")["pixel_values"]
        return _pooled(self.model.get_image_features(pixel_values=pixels.to(self.model.device)))


def _pooled(features: Any) -> Tensor:
    """Projected vectors: returned directly by transformers 4, as a field of the output by transformers 5."""
    return (features if isinstance(features, Tensor) else features.pooler_output).float().cpu()


def choose_scorers(
    pipe: StackGANPipeline,
    prepared: PreparedFolder,
    *,
    scorer: Path | None = None,
    clip: ClipScorer | None = None,
) -> dict[str, ImageTextScorer]:
    """The scorers by name.

    ``own`` if the checkpoint's encoder has an image tower, ``independent`` always
    (:func:`load_or_train_dual_encoder`, from the folder ``scorer`` if given), ``clip`` if given.
    """
    found: dict[str, ImageTextScorer] = {}
    own = _own(pipe.text_encoder)
    if own is not None:
        found["own"] = own
    found["independent"] = CompactScorer(load_or_train_dual_encoder(prepared, scorer, device=pipe.device))
    if clip is not None:
        found["clip"] = clip
    return found


def _own(encoder: TextEncoder | None) -> CompactScorer | None:
    if not isinstance(encoder, CompactEncoder):
        return None
    try:
        return CompactScorer(encoder)
    except FileNotFoundError:
        return None


def load_or_train_dual_encoder(
    prepared: PreparedFolder, folder: Path | None = None, *, device: torch.device | str = "cpu"
) -> CompactEncoder:
    """The independent dual encoder: from ``folder``, or from the cache, trained and cached if necessary.

    Raises:
        FileNotFoundError: ``folder`` has no compact encoder with an image tower.
        ValueError: there is no split "train" to train it on.
    """
    if folder is not None:
        return _with_image_tower(CompactEncoder.load(folder)).to(device)
    cache = evaluation_cache(prepared.path) / "image-text-scorer"
    facts = {"version": VERSION, "seed": SEED, "data": prepared.identity, "settings": asdict(SETTINGS)}
    if _facts(cache) == round_trip(facts):
        return _with_image_tower(CompactEncoder.load(cache)).to(device)
    if "train" not in prepared.splits:
        raise ValueError(
            f"{prepared.path}: has no split 'train' to train an image–text scorer on: give one with --scorer"
        )
    encoder = train_compact_encoder(prepared.splits["train"], SETTINGS, seed=SEED, progress=True, device=device)
    try:
        _keep(encoder, cache, facts)
    except OSError as error:  # the evaluation does not need the cache
        warnings.warn(f"{cache}: cannot be written to ({error}); it will be trained again", stacklevel=2)
    return encoder.to(device)


def _with_image_tower(encoder: CompactEncoder) -> CompactEncoder:
    _ = encoder.image_tower  # loaded first, to report a missing file before anything is generated
    return encoder


def _facts(cache: Path) -> Any:
    try:
        return read_json(cache / FACTS)
    except (OSError, ValueError):
        return None


def _keep(encoder: CompactEncoder, cache: Path, facts: Mapping[str, Any]) -> None:
    with atomic_folder(cache) as partial:
        encoder.save(partial)
        (partial / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
