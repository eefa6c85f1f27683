"""Sets of images too large for memory: photos of a prepared split, and generated images.

Both are read in shards of :data:`SHARD` images. Generated shards and the features of both are stored when computed,
so that an interrupted evaluation is resumed; the name of a shard contains a digest of everything it depends on.

    REPORT/cache/painted-000500-<digest>.npy                        (500, s, s, 3) uint8
    REPORT/cache/<network>-000500-<digest>.safetensors              features of those
    PREPARED/cache/evaluation/features/<split>/…                    the same for photos
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from stackgan.data.prepared import PreparedSplit
from stackgan.evaluation.cache import evaluation_cache, keep
from stackgan.evaluation.features import FeatureNetwork, FeatureSet
from stackgan.evaluation.image_source import ImageSource, embeddings_of
from stackgan.images.pixels import centre_crops, from_levels, to_levels

__all__ = [
    "GeneratedImages",
    "ImageSet",
    "Photos",
    "clear_others",
    "images_of_captions",
    "images_without_text",
    "real_images",
]

SHARD = 500
BATCH = 50  # images generated at a time
_CACHED = re.compile(r".+-\d{6}-[0-9a-f]{16}\.(npy|safetensors)")


class ImageSet(ABC):
    """``count`` images of equal size, read in shards.

    Args:
        name: shown by progress bars.
        folder: for cached features; None for no cache.
    """

    def __init__(self, name: str, count: int, side: int, folder: Path | None) -> None:
        self.name, self.count, self.side, self.folder = name, count, side, folder

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def shard(self, start: int, stop: int) -> Tensor:
        """Images start … stop, (B, 3, s, s) uint8."""

    @abstractmethod
    def rows(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Some images, (len(rows), s, s, 3)."""

    @abstractmethod
    def key(self, start: int, stop: int) -> str:
        """Digest of everything that images start … stop depend on."""

    def spans(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.count, SHARD):
            yield start, min(start + SHARD, self.count)

    def chunks(self, task: str) -> Iterator[Tensor]:
        """All images in shards, (B, 3, s, s) in [−1, 1], with a progress bar named ``task``."""
        with tqdm(total=self.count, desc=f"{task}, {self.name}", unit="image", leave=False) as bar:
            for start, stop in self.spans():
                yield from_levels(self.shard(start, stop))
                bar.update(stop - start)

    def small(self, side: int) -> Tensor:
        """All images averaged down to ``side`` px, (N, 3 · side²) in [−1, 1]."""
        chunks = self.chunks(f"shrinking to {side} px")
        return torch.cat([F.adaptive_avg_pool2d(chunk, side).flatten(1) for chunk in chunks])

    def features(self, network: FeatureNetwork, mirrored: bool = False) -> FeatureSet:
        """Features of all images, or of their mirror images; cached per shard."""
        found = []
        task = f"features ({network.name}), {self.name}{', mirrored' * mirrored}"
        with tqdm(total=self.count, desc=task, unit="image", leave=False) as bar:
            for start, stop in self.spans():
                found.append(self._features(network, start, stop, mirrored))
                bar.update(stop - start)
        return FeatureSet.join(found)

    def _features(self, network: FeatureNetwork, start: int, stop: int, mirrored: bool) -> FeatureSet:
        file = None
        if self.folder is not None:
            name = _slug(network.identity + ("-mirrored" if mirrored else ""))
            file = self.folder / f"{name}-{start:06d}-{self.key(start, stop)}.safetensors"
            stored = _load(file)
            if stored is not None:
                return stored
        levels = self.shard(start, stop)
        found = network.extract(levels.flip(3) if mirrored else levels)
        if file is not None:
            tensors = {"features": found.features.contiguous()}
            if found.log_probs is not None:
                tensors["log_probs"] = found.log_probs.contiguous()
            keep(file, save(tensors))
        return found


class Photos(ImageSet):
    """Centre crops of a prepared split's images, which training crops at random positions and flips.

    Args:
        side: of the crop in pixels, at most the split's load side.

    Features are stored in the prepared folder's cache (:mod:`stackgan.evaluation.cache`).
    """

    def __init__(self, split: PreparedSplit, side: int) -> None:
        folder = evaluation_cache(split.path.parent) / "features" / split.name
        super().__init__(f"{split.name} photos", len(split), side, folder)
        self.split = split

    def shard(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self._crops(slice(start, stop))).permute(0, 3, 1, 2)

    def rows(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        return self._crops(np.asarray(rows, dtype=np.int64))

    def key(self, start: int, stop: int) -> str:
        return _digest(self.split.facts["pixels_sha256"], self.side, start, stop)

    def _crops(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        edge = (self.split.images.shape[1] - self.side) // 2
        return np.array(self.split.images[rows, edge : edge + self.side, edge : edge + self.side])


class GeneratedImages(ImageSet):
    """Images that are generated at first use.

    Args:
        generate: start, stop -> (B, 3, s, s) in [−1, 1]; image i must depend only on i.
        facts: start, stop -> everything they depend on, as JSON.
        folder: for cached images and features; without it, images are generated again at every use.
    """

    def __init__(
        self,
        name: str,
        count: int,
        side: int,
        generate: Callable[[int, int], Tensor],
        facts: Callable[[int, int], Any],
        folder: Path | None,
    ) -> None:
        super().__init__(name, count, side, folder)
        self.generate, self.facts = generate, facts

    def shard(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self._stored(start, stop)).permute(0, 3, 1, 2)

    def rows(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        out = np.empty((len(rows), self.side, self.side, 3), np.uint8)
        chosen = np.asarray(rows, dtype=np.int64)
        for start, stop in self.spans():
            inside = (chosen >= start) & (chosen < stop)
            if inside.any():
                out[inside] = self._stored(start, stop)[chosen[inside] - start]
        return out

    def key(self, start: int, stop: int) -> str:
        return _digest(self.facts(start, stop))

    def generate_all(self) -> None:
        """Generate images that are not stored yet, with a progress bar."""
        with tqdm(total=self.count, desc=f"generating, {self.name}", unit="image") as bar:
            for start, stop in self.spans():
                self._stored(start, stop, bar)

    def names(self) -> set[str]:
        """Suffixes of the names of this set's cached files."""
        return {f"-{start:06d}-{self.key(start, stop)}" for start, stop in self.spans()}

    def _stored(self, start: int, stop: int, bar: Any = None) -> NDArray[np.uint8]:
        file = self.folder / f"painted-{start:06d}-{self.key(start, stop)}.npy" if self.folder is not None else None
        if file is not None and file.is_file():
            try:
                stored: NDArray[np.uint8] = np.load(file, allow_pickle=False)
                if stored.shape == (stop - start, self.side, self.side, 3) and stored.dtype == np.uint8:
                    if bar is not None:
                        bar.update(stop - start)
                    return stored
            except (ValueError, EOFError, OSError):
                pass  # incomplete file: generated again
        images = self._generate_shard(start, stop, bar)
        if file is not None:
            stream = io.BytesIO()
            np.save(stream, images)
            keep(file, stream.getvalue())
        return images

    @torch.inference_mode()
    def _generate_shard(self, start: int, stop: int, bar: Any) -> NDArray[np.uint8]:
        parts = []
        for first in range(start, stop, BATCH):
            last = min(first + BATCH, stop)
            parts.append(to_levels(self.generate(first, last)).permute(0, 2, 3, 1).cpu().numpy())
            if bar is not None:
                bar.update(last - first)
        return np.ascontiguousarray(np.concatenate(parts))


def images_of_captions(
    source: ImageSource, split: PreparedSplit, rows: Sequence[int], seed: int, folder: Path | None
) -> GeneratedImages:
    """One image for every caption in ``rows`` (of ``split.captions``), with seeds seed, seed + 1, …"""
    pipe, places = source.pipe, np.asarray(rows, dtype=np.int64)

    def generate(start: int, stop: int) -> Tensor:
        embeddings = embeddings_of(pipe, split, places[start:stop].tolist())
        return source.images(embeddings, range(seed + start, seed + stop))

    def facts(start: int, stop: int) -> Any:
        captions = [split.captions[row] for row in places[start:stop]] if pipe.conditional else None
        return ["captions", pipe.fingerprint, source.truncation, seed + start, stop - start, captions]

    return GeneratedImages("generated images", len(places), pipe.sizes[-1], generate, facts, folder)


def images_without_text(
    source: ImageSource, count: int, seed: int, folder: Path | None, *, standard_normal: bool = False
) -> GeneratedImages:
    """``count`` images without text, from c ~ p(c), or with ``standard_normal`` from c ~ N(0, I)."""
    name = "without text, c ~ N(0, I)" if standard_normal else "without text"

    def generate(start: int, stop: int) -> Tensor:
        return source.without_text(range(seed + start, seed + stop), standard_normal=standard_normal)

    def facts(start: int, stop: int) -> Any:
        return [name, source.pipe.fingerprint, source.truncation, seed + start, stop - start]

    return GeneratedImages(name, count, source.pipe.sizes[-1], generate, facts, folder)


def real_images(split: PreparedSplit, count: int, side: int) -> Tensor:
    """Centre crops of the split's first images, (count, 3, side, side) in [−1, 1]."""
    return centre_crops(split.images[:count], side)


def clear_others(folder: Path, kept: Sequence[GeneratedImages]) -> None:
    """Delete shards in ``folder`` that do not belong to ``kept``: those of other checkpoints or settings."""
    names = set().union(*(images.names() for images in kept))
    for file in sorted(folder.glob("*-*")):
        if _CACHED.fullmatch(file.name) and not any(file.stem.endswith(name) for name in names):
            file.unlink(missing_ok=True)


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:16]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def _load(file: Path) -> FeatureSet | None:
    if not file.is_file():
        return None
    try:
        tensors = load(file.read_bytes())
        return FeatureSet(tensors["features"], tensors.get("log_probs"))
    except (SafetensorError, KeyError, OSError):
        return None  # incomplete file: computed again
