"""Sets of pictures too large for memory: photos of a prepared split, and what a checkpoint paints.

Both are read in shards of :data:`SHARD` pictures. Painted shards are stored as they are made, and so are the
features of either, so that what was stopped goes on where it was; a shard's name holds a digest of all it depends on.

    REPORT/cache/painted-000500-<digest>.npy                        (500, s, s, 3) uint8
    REPORT/cache/<network>-000500-<digest>.safetensors              features of those
    PREPARED/<split>/features/<network>-000500-<digest>.safetensors the same for photos
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
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
from stackgan.evaluation.features import Described, Features
from stackgan.images.pixels import from_levels, to_levels
from stackgan.io.files import write_atomic
from stackgan.pipeline import StackGANPipeline
from stackgan.text.precomputed import PrecomputedEmbeddings

__all__ = ["Painted", "Photos", "PictureSet", "caption_rows", "embeddings_of", "painted_captions", "spread_rows"]

SHARD = 500
BATCH = 50  # pictures painted at a time
_CACHED = re.compile(r".+-\d{6}-[0-9a-f]{16}\.(npy|safetensors)")


class PictureSet(ABC):
    """``count`` pictures of one side, shard after shard.

    Args:
        name: said by progress bars.
        folder: where features are kept; None: nowhere.
    """

    def __init__(self, name: str, count: int, side: int, folder: Path | None) -> None:
        self.name, self.count, self.side, self.folder = name, count, side, folder

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def shard(self, start: int, stop: int) -> Tensor:
        """Pictures start … stop as levels (B, 3, s, s) uint8."""

    @abstractmethod
    def rows(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Some pictures, (len(rows), s, s, 3)."""

    @abstractmethod
    def key(self, start: int, stop: int) -> str:
        """Digest of all that pictures start … stop depend on."""

    def spans(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.count, SHARD):
            yield start, min(start + SHARD, self.count)

    def chunks(self, words: str) -> Iterator[Tensor]:
        """All pictures shard after shard, (B, 3, s, s) in [−1, 1], under a progress bar that says ``words``."""
        with tqdm(total=self.count, desc=f"{words}, {self.name}", unit="picture", leave=False) as bar:
            for start, stop in self.spans():
                yield from_levels(self.shard(start, stop))
                bar.update(stop - start)

    def small(self, side: int) -> Tensor:
        """All pictures at ``side`` px (means of areas), (N, 3 · side²) in [−1, 1]."""
        chunks = self.chunks(f"shrinking to {side} px")
        return torch.cat([F.adaptive_avg_pool2d(chunk, side).flatten(1) for chunk in chunks])

    def features(self, network: Features, mirrored: bool = False) -> Described:
        """What ``network`` sees in all pictures, or in their mirror images; cached shard by shard."""
        found = []
        words = f"features ({network.name}), {self.name}{', mirrored' * mirrored}"
        with tqdm(total=self.count, desc=words, unit="picture", leave=False) as bar:
            for start, stop in self.spans():
                found.append(self._features(network, start, stop, mirrored))
                bar.update(stop - start)
        return Described.join(found)

    def _features(self, network: Features, start: int, stop: int, mirrored: bool) -> Described:
        file = None
        if self.folder is not None:
            name = _slug(network.identity + ("-mirrored" if mirrored else ""))
            file = self.folder / f"{name}-{start:06d}-{self.key(start, stop)}.safetensors"
            stored = _load(file)
            if stored is not None:
                return stored
        levels = self.shard(start, stop)
        described = network.describe(levels.flip(3) if mirrored else levels)
        if file is not None:
            tensors = {"features": described.features.contiguous()}
            if described.log_probs is not None:
                tensors["log_probs"] = described.log_probs.contiguous()
            _store(file, save(tensors))
        return described


class Photos(PictureSet):
    """The middles of a prepared split's pictures, as training sees them without its random crops and mirroring.

    Args:
        side: of the crop in pixels, at most the split's load side.
        keep: cache features in the prepared folder.
    """

    def __init__(self, split: PreparedSplit, side: int, *, keep: bool = True) -> None:
        super().__init__(f"{split.name} photos", len(split), side, split.path / "features" if keep else None)
        self.split = split

    def shard(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self._middles(slice(start, stop))).permute(0, 3, 1, 2)

    def rows(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        return self._middles(np.asarray(rows, dtype=np.int64))

    def key(self, start: int, stop: int) -> str:
        return _digest(self.split.facts["pixels_sha256"], self.side, start, stop)

    def _middles(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        edge = (self.split.images.shape[1] - self.side) // 2
        return np.array(self.split.images[rows, edge : edge + self.side, edge : edge + self.side])


class Painted(PictureSet):
    """Pictures that are painted when they are first looked at.

    Args:
        paint: start, stop -> (B, 3, s, s) in [−1, 1]; pictures must depend on their place alone.
        facts: start, stop -> all they depend on, as JSON.
        folder: where pictures and features are kept; without one, pictures are painted anew at every look.
    """

    def __init__(
        self,
        name: str,
        count: int,
        side: int,
        paint: Callable[[int, int], Tensor],
        facts: Callable[[int, int], Any],
        folder: Path | None,
    ) -> None:
        super().__init__(name, count, side, folder)
        self.paint, self.facts = paint, facts

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

    def paint_all(self) -> None:
        """Paint what is not stored yet, under a progress bar."""
        with tqdm(total=self.count, desc=f"painting, {self.name}", unit="picture") as bar:
            for start, stop in self.spans():
                self._stored(start, stop, bar)

    def names(self) -> set[str]:
        """The cached files that belong to this set, as the ends of their names."""
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
                pass  # half a file: painted again
        pictures = self._paint_shard(start, stop, bar)
        if file is not None:
            stream = io.BytesIO()
            np.save(stream, pictures)
            _store(file, stream.getvalue())
        return pictures

    @torch.inference_mode()
    def _paint_shard(self, start: int, stop: int, bar: Any) -> NDArray[np.uint8]:
        parts = []
        for first in range(start, stop, BATCH):
            last = min(first + BATCH, stop)
            parts.append(to_levels(self.paint(first, last)).permute(0, 2, 3, 1).cpu().numpy())
            if bar is not None:
                bar.update(last - first)
        return np.ascontiguousarray(np.concatenate(parts))


def caption_rows(split: PreparedSplit, count: int) -> NDArray[np.int64]:
    """Places of ``count`` captions in ``split.captions``: every picture's first, then every picture's second, …

    Where all captions are used up they come again from the start, to be painted with other seeds.

    Raises:
        ValueError: the split has none.
    """
    counts = np.diff(split.offsets)
    if not counts.any():
        raise ValueError(f"{split.path}: holds no captions to paint")
    order = [split.offsets[:-1][counts > turn] + turn for turn in range(int(counts.max()))]
    return np.resize(np.concatenate(order), count)


def spread_rows(total: int, count: int) -> NDArray[np.int64]:
    """``count`` places evenly spread over ``total``, the first being 0; at most ``total``.

    >>> spread_rows(10, 4).tolist()
    [0, 2, 5, 7]
    """
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)


def embeddings_of(pipe: StackGANPipeline, split: PreparedSplit, rows: Sequence[int]) -> Tensor | None:
    """Embeddings (B, T) of captions of the split, by their places; None for a checkpoint without text.

    A checkpoint that was trained on precomputed embeddings takes those that the split holds under that name.

    Raises:
        FileNotFoundError: the split holds none of that name.
    """
    if not pipe.conditional:
        return None
    name = pipe.config.text.encoder.removeprefix("precomputed:")
    if name != pipe.config.text.encoder and (
        pipe.text_encoder is None or isinstance(pipe.text_encoder, PrecomputedEmbeddings)
    ):
        return torch.from_numpy(np.array(split.embeddings(name)[np.asarray(rows)]))
    return pipe.encode([split.captions[row] for row in rows])


def painted_captions(
    pipe: StackGANPipeline,
    split: PreparedSplit,
    rows: Sequence[int],
    seed: int,
    folder: Path | None,
    truncation: float = 1.0,
) -> Painted:
    """One picture of every caption in ``rows`` (places in ``split.captions``), with seeds seed, seed + 1, …"""
    places = np.asarray(rows, dtype=np.int64)

    def paint(start: int, stop: int) -> Tensor:
        e = embeddings_of(pipe, split, places[start:stop].tolist())
        return pipe.paint(e, range(seed + start, seed + stop), truncation, [len(pipe.sizes) - 1])[-1]

    def facts(start: int, stop: int) -> Any:
        captions = [split.captions[row] for row in places[start:stop]] if pipe.conditional else None
        return ["captions", pipe.fingerprint, truncation, seed + start, stop - start, captions]

    return Painted("painted pictures", len(places), pipe.sizes[-1], paint, facts, folder)


def clear_others(folder: Path, kept: Sequence[Painted]) -> None:
    """Delete shards in ``folder`` that belong to none of ``kept``: those of another checkpoint, seed or number."""
    names = set().union(*(pictures.names() for pictures in kept))
    for file in sorted(folder.glob("*-*")):
        if _CACHED.fullmatch(file.name) and not any(file.stem.endswith(name) for name in names):
            file.unlink(missing_ok=True)


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:16]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def _load(file: Path) -> Described | None:
    if not file.is_file():
        return None
    try:
        tensors = load(file.read_bytes())
        return Described(tensors["features"], tensors.get("log_probs"))
    except (SafetensorError, KeyError, OSError):
        return None  # half a file: made again


def _store(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:  # a folder somebody else owns is no reason not to measure
        warnings.warn(f"{file.parent}: cannot keep anything there ({error}); made anew next time", stacklevel=3)
