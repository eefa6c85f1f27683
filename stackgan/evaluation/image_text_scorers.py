"""Image–text scorers: networks that map captions and images to vectors of one space, compared by cosine.

- ``own``: the checkpoint's own compact dual encoder. A generator that was trained on these embeddings may agree with
  it without showing what the caption says;
- ``independent``: a compact dual encoder of another seed that no generator was trained with. It is trained once on
  the train split and kept in the prepared folder's cache (:mod:`stackgan.evaluation.cache`);
- ``clip``: any CLIP in transformers' format.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stackgan.config import CompactConfig
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.cache import evaluation_cache
from stackgan.io.files import atomic_folder
from stackgan.pipeline import StackGANPipeline, to_pil
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

# On 5,600 photos of CUB, a tenth of them held out: R-precision of held-out photos 13 % among 100 captions (chance:
# 1 %), 4 % among those of their species (chance: 2 %); of training photos 20 %, so that more steps would gain little.
SETTINGS = CompactConfig(teacher="")
SEED = 1051  # training runs use small seeds: no encoder of theirs has the same initialisation
VERSION = 1  # of the training: a cached encoder of another version is trained again
FACTS = "trained-with.json"  # in the cached folder: what the encoder was trained with


class ImageTextScorer(Protocol):
    """Captions and images to vectors of one space, compared by cosine."""

    def embed_captions(self, texts: Sequence[str]) -> Tensor:
        """(N, T) on the CPU."""

    def embed_images(self, images: Tensor) -> Tensor:
        """(N, T) on the CPU, of images (N, 3, s, s) in [−1, 1]."""


class CompactScorer:
    """A compact dual encoder: caption encoder and image tower.

    Raises:
        FileNotFoundError: its folder holds no image tower.
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
        FileNotFoundError: no such folder or model. ValueError: a folder that holds no whole CLIP.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        import transformers

        path = Path(name).expanduser()
        if not path.is_dir() and (path.is_absolute() or name.startswith(".") or name.count("/") != 1):
            raise FileNotFoundError(f"--clip {name}: no such folder; give a CLIP's folder or a hub name, owner/model")
        where = str(path) if path.is_dir() else name
        if path.is_dir() and not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path / 'config.json'}: missing; --clip takes a folder of a CLIP")
        try:
            loader: Any = transformers.CLIPModel
            model, info = loader.from_pretrained(
                where, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(where)
            self.processor = transformers.CLIPImageProcessor.from_pretrained(where)
        except Exception as error:  # transformers raises many kinds for broken files and failed downloads
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            if path.is_dir():
                raise ValueError(f"{path}: cannot be read as a CLIP: {reason}") from None
            raise FileNotFoundError(
                f"--clip {name}: no such folder here, and it could not be fetched ({reason}); "
                f"give a local folder, or fetch it once where there is a network: hf download {name}"
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
    """transformers 4 gives the projected vectors themselves, 5 an output that holds them."""
    return (features if isinstance(features, Tensor) else features.pooler_output).float().cpu()


def choose_scorers(
    pipe: StackGANPipeline,
    prepared: PreparedFolder,
    *,
    scorer: Path | None = None,
    clip: ClipScorer | None = None,
) -> dict[str, ImageTextScorer]:
    """The scorers by name: ``own`` where the checkpoint's encoder has an image tower, ``independent`` always
    (:func:`load_or_train_dual_encoder`, of the folder ``scorer`` if that is given), ``clip`` where one is given."""
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
    """The independent dual encoder: that of ``folder``, or the cached one, trained and cached if need be.

    Raises:
        FileNotFoundError: ``folder`` holds no compact encoder with an image tower.
        ValueError: there is no split "train" to train one on.
    """
    if folder is not None:
        return _with_image_tower(CompactEncoder.load(folder)).to(device)
    cache = evaluation_cache(prepared.path) / "image-text-scorer"
    facts = {"version": VERSION, "seed": SEED, "data": prepared.identity, "settings": asdict(SETTINGS)}
    if _facts(cache) == json.loads(json.dumps(facts)):
        return _with_image_tower(CompactEncoder.load(cache)).to(device)
    if "train" not in prepared.splits:
        raise ValueError(
            f"{prepared.path}: has no split 'train' to train an image–text scorer on: give one with --scorer"
        )
    encoder = train_compact_encoder(prepared.splits["train"], SETTINGS, seed=SEED, progress=True, device=device)
    try:
        _keep(encoder, cache, facts)
    except OSError as error:  # not being able to write there is no reason not to measure
        warnings.warn(f"{cache}: cannot be written to ({error}); trained again next time", stacklevel=2)
    return encoder.to(device)


def _with_image_tower(encoder: CompactEncoder) -> CompactEncoder:
    _ = encoder.image_tower  # loaded now, so that a missing file is reported before anything is generated
    return encoder


def _facts(cache: Path) -> Any:
    try:
        return json.loads((cache / FACTS).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _keep(encoder: CompactEncoder, cache: Path, facts: Mapping[str, Any]) -> None:
    with atomic_folder(cache) as partial:
        encoder.save(partial)
        (partial / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
