"""Checkpoints: the files of trained models, which generate images.

A checkpoint holds ``config.json`` (format, configuration, facts), ``model.safetensors`` (the EMA weights), ``text/``
(the caption encoder, if there is one), ``caption_statistics.json`` (of the training captions, to detect out-of-domain
ones), ``README.md`` (the model card), and optionally ``realism.safetensors`` (to choose among candidates) and
``discriminators.safetensors`` (for further training). A run
writes one to RUN/checkpoint whenever it saves; :mod:`stackgan.tools.publish` writes one for distribution, in the same
format.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from stackgan.captions.word_statistics import CaptionStatistics
from stackgan.config import Config
from stackgan.config.facts import CheckpointFacts
from stackgan.config.model_card import with_metadata
from stackgan.io.checkpoint_names import find_checkpoint
from stackgan.io.files import atomic_folder, write_atomic
from stackgan.io.hub import upload
from stackgan.io.json_reader import read_json
from stackgan.io.weights import read_tensors
from stackgan.networks.realism import RealismNetwork
from stackgan.text.base import TextEncoder
from stackgan.version import __version__

__all__ = [
    "CAPTION_STATISTICS",
    "CARD",
    "DISCRIMINATORS",
    "FORMAT",
    "REALISM",
    "Checkpoint",
    "check_replaceable",
    "load_checkpoint",
    "load_description",
    "push_checkpoint",
    "save_checkpoint",
    "stored_discriminators",
]

CARD = "README.md"
CAPTION_STATISTICS = "caption_statistics.json"
DISCRIMINATORS = "discriminators.safetensors"
REALISM = "realism.safetensors"
FORMAT = 1  # format version of checkpoints; incremented on incompatible changes


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint folder.

    Attributes:
        weights: those of :class:`stackgan.model.StackGAN`, float32.
        facts: entries of ``config.json`` besides the configuration.
        statistics: of the training captions; None where the checkpoint has none.
        realism: network that scores candidates; None where the checkpoint has none.
    """

    folder: Path
    config: Config
    weights: dict[str, Tensor]
    facts: CheckpointFacts
    fingerprint: str
    statistics: CaptionStatistics | None = None
    realism: RealismNetwork | None = None

    @property
    def card(self) -> str:
        """The model card; empty if there is none."""
        file = self.folder / CARD
        return file.read_text("utf-8", errors="replace") if file.is_file() else ""

    @property
    def card_images(self) -> list[Path]:
        """The image files of the folder that the card shows."""
        shown = dict.fromkeys(re.findall(r"!\[[^\]]*\]\(([\w.-]+)\)", self.card))
        return [self.folder / name for name in shown if (self.folder / name).is_file()]

    @property
    def text_folder(self) -> Path | None:
        folder = self.folder / "text"
        return folder if folder.is_dir() else None


def stored_discriminators(folder: Path) -> dict[str, Tensor] | None:
    """State dict of the discriminators in a checkpoint, float32; None if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / DISCRIMINATORS
    return _load_tensors(file) if file.is_file() else None


def _load_tensors(file: Path) -> dict[str, Tensor]:
    stored = read_tensors(file, advice="download it again")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}


def _without_paths(config: Config) -> Config:
    """The configuration without local folders, as checkpoints are distributed and contain what they need."""

    def name(value: str) -> str:
        return Path(value).name if Path(value).is_absolute() else value

    return replace(
        config,
        text=replace(config.text, encoder=name(config.text.encoder)),
        compact=replace(config.compact, teacher=name(config.compact.teacher)),
        eval=replace(config.eval, features=""),
    )


def check_replaceable(folder: Path) -> None:
    """Raise what :func:`save_checkpoint` would raise at ``folder``: before the work whose result it stores.

    Raises:
        FileExistsError: ``folder`` exists and is not a checkpoint.
        PermissionError: nothing may be written there.
    """
    if folder.exists() or folder.is_symlink():
        files = ("config.json", "model.safetensors")  # a run has the first one, too
        if not folder.is_dir() or (any(folder.iterdir()) and not all((folder / name).is_file() for name in files)):
            raise FileExistsError(
                f"{folder} exists and is not a checkpoint, so it is not replaced: name another folder"
            )
    parent = next(each for each in folder.absolute().parents if each.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise PermissionError(f"{folder} cannot be created, as {parent} is not a folder that can be written to")


def save_checkpoint(
    folder: Path,
    config: Config,
    weights: Mapping[str, Tensor],
    text_encoder: TextEncoder | None,
    *,
    facts: CheckpointFacts,
    card: str,
    dtype: torch.dtype = torch.float32,
    discriminators: Mapping[str, Tensor] | None = None,
    statistics: CaptionStatistics | None = None,
    realism: RealismNetwork | None = None,
    images: Sequence[Path] = (),
    keep: Sequence[str] = (),
) -> None:
    """Write a checkpoint at ``folder`` atomically, replacing an existing one.

    Args:
        weights: state dict of StackGAN. Floating-point tensors, also of the discriminators, are stored as ``dtype``
            unless they have values beyond its range.
        facts: other entries of ``config.json`` (data, length of training, example captions).
        card: the model card, Markdown.
        discriminators: their state dict, for further training; not needed to generate.
        statistics: of the training captions, for warnings of out-of-domain captions.
        realism: network that scores candidates.
        images: files that the card shows, to copy.
        keep: names of existing files in ``folder`` to keep, such as the card's images.

    Raises:
        FileExistsError: ``folder`` exists and is not a checkpoint.
        PermissionError: nothing may be written there.
    """
    check_replaceable(folder)
    with atomic_folder(folder) as partial:
        _save_tensors(weights, partial / "model.safetensors", dtype)
        if discriminators is not None:
            _save_tensors(discriminators, partial / DISCRIMINATORS, dtype)
        if realism is not None:
            _save_tensors(realism.state_dict(), partial / REALISM, dtype)
        header = {
            "format": FORMAT,
            "stackgan": __version__,
            "config": _without_paths(config).to_dict(),
            **facts.to_dict(),
        }
        (partial / "config.json").write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (partial / CARD).write_text(card, "utf-8")
        if statistics is not None:
            (partial / CAPTION_STATISTICS).write_text(statistics.to_json(), "utf-8")
        if text_encoder is not None:
            text_encoder.save(partial / "text")
        for image in images:
            shutil.copyfile(image, partial / image.name)
        for name in keep:
            copy = shutil.copytree if (folder / name).is_dir() else shutil.copyfile
            copy(folder / name, partial / name)
        mode = (partial / CARD).stat().st_mode
        for file in partial.rglob("*"):
            if file.is_file():  # safetensors makes its files readable by their owner only
                file.chmod(mode)


def _save_tensors(tensors: Mapping[str, Tensor], file: Path, dtype: torch.dtype) -> None:
    stored = {name: _narrowed(tensor.detach().cpu(), dtype).contiguous() for name, tensor in tensors.items()}
    save_file(stored, file, metadata={"format": "pt"})


def _narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` as ``dtype`` if all values are in its range: a variance may exceed half precision's 65,504."""
    if not tensor.is_floating_point():
        return tensor
    narrow = tensor.to(dtype)
    return narrow if torch.equal(narrow.isfinite(), tensor.isfinite()) else tensor


def load_checkpoint(name: str | Path, revision: str | None = None) -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        name, revision: a folder, a bundled checkpoint or a hub repository
            (:func:`stackgan.io.checkpoint_names.find_checkpoint`).

    Raises:
        FileNotFoundError: no such checkpoint, or one of its files is missing.
        ValueError: another format version, unknown or mistyped config keys or facts, unreadable weights.
    """
    folder = find_checkpoint(name, revision)
    config, facts = load_description(folder)
    weights = _load_tensors(folder / "model.safetensors")
    return Checkpoint(
        folder, config, weights, facts, _fingerprint(folder), _load_statistics(folder), _load_realism(folder)
    )


def load_description(folder: Path) -> tuple[Config, CheckpointFacts]:
    """Read and check ``config.json`` of a checkpoint folder; the errors are those of :func:`load_checkpoint`."""
    for file in ("config.json", "model.safetensors"):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder}: not a checkpoint, {file} is missing")
    header_file = folder / "config.json"
    header = read_json(header_file, advice="download the checkpoint again")
    if "format" not in header:
        raise ValueError(f"{header_file}: has no 'format' key, so it is not a checkpoint of this program")
    if header["format"] != FORMAT:
        raise ValueError(
            f"{header_file}: checkpoint format {header['format']!r}, this version reads {FORMAT}; "
            "use the version of stackgan that wrote it, or a checkpoint published with this one"
        )
    config = Config.from_dict(header.get("config"), where=str(header_file))
    others = {key: value for key, value in header.items() if key not in ("format", "stackgan", "config")}
    return config, CheckpointFacts.from_dict(others, where=str(header_file))


def push_checkpoint(
    folder: Path,
    config: Config,
    repository: str,
    *,
    message: str,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Upload the checkpoint in ``folder`` to the hub and return its address; its card gets the hub's metadata.

    The repository's files of an earlier checkpoint are replaced, others are kept. The arguments are those of
    :func:`stackgan.io.hub.upload`.
    """
    card = folder / CARD
    write_atomic(card, with_metadata(card.read_text("utf-8"), config).encode())
    replaced = ("config.json", "*.safetensors", CAPTION_STATISTICS, "text/*")
    return upload(
        folder, repository, message=message, replaced=replaced, revision=revision, private=private, token=token
    )


def _load_statistics(folder: Path) -> CaptionStatistics | None:
    file = folder / CAPTION_STATISTICS
    if not file.is_file():
        return None
    values = read_json(file, object, advice="download the checkpoint again")
    return CaptionStatistics.from_dict(values, where=str(file))


def _load_realism(folder: Path) -> RealismNetwork | None:
    file = folder / REALISM
    return RealismNetwork.from_weights(_load_tensors(file), file) if file.is_file() else None


def _fingerprint(folder: Path) -> str:
    """sha256 over everything that determines the images: config, weights, caption encoder; not the card."""
    digest = hashlib.sha256()
    files = [folder / "config.json", folder / "model.safetensors"]
    files += sorted(file for file in (folder / "text").rglob("*") if file.is_file())
    for file in files:
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
