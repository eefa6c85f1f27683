"""Training batches from a prepared folder: real images, mismatched pairs, one random caption per image.

Pixels stay uint8 until they are on the training device: crops are copied from the memory map, and batches are
converted to floats and averaged down there (:func:`stackgan.images.pixels.to_stages`). The next batch is prepared
during a step.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stackgan.captions.augmentation import content_words
from stackgan.captions.hard_negatives import nearest_of_other_species
from stackgan.data.prepared import PreparedSplit
from stackgan.io.spool import release

__all__ = ["AugmentedCaptions", "Batch", "Sampler", "WrongPairs", "check_trainable"]


REDRAWS = 64  # of images of the wrong species, before the others are listed
MAPPED = 256 << 20  # bytes of images that stay mapped


@dataclass(frozen=True)
class Batch:
    """Data of one step: images (B, S, S, 3) uint8, embeddings (B, T); ``wrong`` ones are of another species.

    B is the batch size, or this process's share of it.
    """

    real: Tensor
    embedding: Tensor | None = None
    wrong: Tensor | None = None
    wrong_embedding: Tensor | None = None


@dataclass(frozen=True)
class AugmentedCaptions:
    """Augmented captions (:mod:`stackgan.captions.augmentation`), one for each caption of the split, in order.

    Attributes:
        embeddings: (captions of the split, T).
        words: content words of the caption that its augmented version keeps, separated by spaces.
        share: of sampled captions that are replaced by their augmented version.
    """

    embeddings: NDArray[np.float32]
    words: Sequence[str]
    share: float


@dataclass(frozen=True)
class WrongPairs:
    """Settings of the mismatched (image, caption) pairs of a batch.

    Attributes:
        mismatch: a wrong ``photo`` beside the caption, or a wrong ``caption`` beside the photo.
        hard: share of hard negatives: half of them the image's own caption with two words swapped, if ``swapped`` has
            it, the others captions or photos of an image whose captions use the same words.
        swapped: (captions of the split, T), embeddings of the captions with two words swapped; equal to the caption's
            own embedding if it has no such swap.
    """

    mismatch: str = "caption"
    hard: float = 0.0
    swapped: NDArray[np.float32] | None = None


class Sampler:
    """Sampler of batches; the batch of step t depends only on (seed, t), so that a run resumes exactly.

    Every epoch is a new permutation of the images; each is cropped at random from its load size, flipped with
    probability ½, and paired with one of its captions at random. A thread prepares the next batch in advance.

    Args:
        split: the prepared split.
        embeddings: (captions of the split, T) float32, or None for unconditional training.
        size: side of the crops in pixels, at most the split's load side.
        wrong: settings of mismatched pairs; ignored without embeddings.
        augmented: versions that replace some of the true and wrong captions. A wrong caption is not replaced if its
            version keeps only words of the image's own captions, as it might then describe the image.
        device: of the batches; copies to a GPU are asynchronous, from pinned memory. None for the CPU.
        share: (r, W), where W processes share a batch: this one gets rows r, r + W, r + 2W, …

    Raises:
        ValueError: the split cannot be trained on (:func:`check_trainable`).
    """

    def __init__(
        self,
        split: PreparedSplit,
        embeddings: NDArray[np.float32] | None,
        *,
        size: int,
        batch_size: int,
        seed: int,
        wrong: WrongPairs | None = None,
        augmented: AugmentedCaptions | None = None,
        device: torch.device | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.split, self.embeddings = split, embeddings
        self.size, self.batch_size, self.seed, self.wrong = size, batch_size, seed, wrong or WrongPairs()
        check_trainable(split, batch_size, with_text=embeddings is not None)
        self.species = split.species_numbers()
        self.device = device
        self.own = slice(share[0], None, share[1])
        self._pixels = split.images.view("V3")[..., 0]  # (N, L, L), three bytes per element: a flip moves pixels
        self._order = lru_cache(maxsize=2)(self._permutation)  # a batch spans two epochs at most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._next: tuple[int, Future[Batch]] | None = None
        self.augmented = augmented
        self._mapped = 0  # bytes of images since they were last unmapped
        if embeddings is not None and self.wrong.hard:
            self.near = nearest_of_other_species(split.image_captions(), self.species)

    def batch(self, step: int) -> Batch:
        """The batch of ``step`` (from 0); starts preparing that of ``step + 1``."""
        ready, self._next = self._next, None
        batch = ready[1].result() if ready is not None and ready[0] == step else self._make(step)
        self._next = step + 1, self._thread.submit(self._make, step + 1)
        return batch

    def _make(self, step: int) -> Batch:
        batch = self._draw(step)
        if self.device is None or self.device.type == "cpu":
            return batch
        there = {name: _send(value, self.device) for name, value in vars(batch).items() if value is not None}
        return replace(batch, **there)

    def _draw(self, step: int) -> Batch:
        draws = np.random.default_rng((self.seed, 1, step))
        chosen = self._indices(step)
        real = self._crops(chosen, draws)
        if self.embeddings is None:
            return Batch(real)
        others = self._other_species(chosen, draws)
        captions = self._captions(chosen, draws)
        plain = _rows(self.embeddings, captions)
        embedding = self._embedded(captions, plain, draws)
        if self.wrong.mismatch == "photo":
            return Batch(real, embedding[self.own], wrong=self._crops(others, draws))
        wrong_captions = self._captions(others, draws)
        wrong = self._embedded(wrong_captions, _rows(self.embeddings, wrong_captions), draws, of=chosen)
        if self.wrong.swapped is not None:
            own = _rows(self.wrong.swapped, captions)
            use = torch.from_numpy(draws.random(len(chosen)) < self.wrong.hard / 2) & (own != plain).any(1)
            wrong = torch.where(use[:, None], own, wrong)
        return Batch(real, embedding[self.own], wrong_embedding=wrong[self.own])

    def _indices(self, step: int) -> NDArray[np.int64]:
        """Indices of the batch in the infinite concatenation of permutations."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, rows = np.divmod(places, len(self.split))
        return np.array([self._order(epoch)[row] for epoch, row in zip(epochs.tolist(), rows.tolist(), strict=True)])

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.split))

    def _other_species(self, chosen: NDArray[np.int64], draws: np.random.Generator) -> NDArray[np.int64]:
        others = draws.integers(len(self.split), size=len(chosen))
        for _ in range(REDRAWS):
            same = self.species[others] == self.species[chosen]
            if not same.any():
                break
            others[same] = draws.integers(len(self.split), size=int(same.sum()))
        for row in np.flatnonzero(self.species[others] == self.species[chosen]):  # nearly all are of one species
            others[row] = draws.choice(np.flatnonzero(self.species != self.species[chosen[row]]))
        if self.wrong.hard:
            share = (
                self.wrong.hard if self.wrong.swapped is None else self.wrong.hard / (2 - self.wrong.hard)
            )  # of those not swapped
            for row in np.flatnonzero(draws.random(len(chosen)) < share):
                near = self.near[chosen[row]]
                near = near[near >= 0]
                if len(near):
                    others[row] = near[draws.integers(len(near))]
        return others

    def _captions(self, chosen: NDArray[np.int64], draws: np.random.Generator) -> NDArray[np.int64]:
        """Index of a random caption of each image."""
        return draws.integers(self.split.offsets[chosen], self.split.offsets[chosen + 1])

    def _embedded(
        self,
        captions: NDArray[np.int64],
        plain: Tensor,
        draws: np.random.Generator,
        of: NDArray[np.int64] | None = None,
    ) -> Tensor:
        """Embeddings of captions ``plain``, some of augmented versions that do not describe the images ``of``."""
        if self.augmented is None:
            return plain
        use = draws.random(len(captions)) < self.augmented.share
        if of is not None:
            for row in np.flatnonzero(use):
                words = self.augmented.words[captions[row]].split()
                use[row] = not content_words(" ".join(self.split.records[of[row]].captions)).issuperset(words)
        return torch.where(torch.from_numpy(use)[:, None], _rows(self.augmented.embeddings, captions), plain)

    def _crops(self, chosen: NDArray[np.int64], draws: np.random.Generator) -> Tensor:
        """Crops of this process's share of the images, drawn for all of them."""
        margin = self.split.images.shape[1] - self.size
        corners = draws.integers(margin + 1, size=(len(chosen), 2))[self.own]
        flips = (draws.random(len(chosen)) < 0.5)[self.own]
        chosen = chosen[self.own]
        out = np.empty((len(chosen), self.size, self.size), dtype=self._pixels.dtype)
        drawn = zip(out, chosen.tolist(), corners.tolist(), flips.tolist(), strict=True)
        for place, index, (y, x), flip in drawn:
            crop = self._pixels[index, y : y + self.size, x : x + self.size]
            place[:] = crop[:, ::-1] if flip else crop
        self._mapped += len(chosen) * self.split.images[0].nbytes
        if self._mapped > MAPPED:
            self._mapped = 0
            release(self.split.images)
            if self.embeddings is not None:
                release(self.embeddings)
        return torch.from_numpy(out.view(np.uint8).reshape(*out.shape, 3))


def check_trainable(split: PreparedSplit, batch_size: int, *, with_text: bool) -> None:
    """Raise a ``ValueError`` that says what is missing if the split is too small or uniform to train on.

    Args:
        with_text: training on captions, which needs mismatched pairs.
    """
    if len(split) < 2:
        raise ValueError(f"{split.path}: a single image, training needs two or more; add photos")
    if with_text:
        bare = np.flatnonzero(np.diff(split.offsets) == 0)
        if len(bare):
            raise ValueError(
                f"{split.path}: {len(bare)} images have no caption (first: {split.records[bare[0]].id!r}); "
                "add captions or train with text.encoder=none"
            )
        if split.species_numbers().max() == 0:
            raise ValueError(
                f"{split.path}: every image is of species {split.records[0].species!r}, so that there is no wrong "
                "pair of image and caption; prepare without species, add another one or train with text.encoder=none"
            )
    if len(split) < batch_size:
        raise ValueError(
            f"{split.path}: {len(split)} images, fewer than optim.batch_size={batch_size}; add photos or train with "
            f"optim.batch_size={len(split)}"
        )


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def _rows(embeddings: NDArray[np.float32], places: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(embeddings[places], dtype=np.float32))
