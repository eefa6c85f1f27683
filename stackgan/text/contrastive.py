"""Contrastive training of the compact caption encoder on the images and captions of a prepared split.

A dual encoder: the caption tower and the image tower are trained jointly to classify the photo of a caption among the
batch's photos, and vice versa (CLIP, arXiv:2103.00020, figure 3):

    L = ½ · CE(s · ê v̂ᵀ) + ½ · CE(s · v̂ êᵀ)         ê, v̂ unit vectors (B, T), s the learned inverse temperature

and the same between two captions of one photo. Photos that a caption may describe as well (same species, same words)
are not used as negatives.

In random batches the set of words is enough to identify a caption's photo, and the encoder does not learn which
colour belongs to which part. Batches are therefore made of groups of photos whose captions use the same words (hard
negatives as in VSE++, arXiv:1707.05612, selected by words), and every photo and caption has the caption with two
words swapped as a further negative (NegCLIP, arXiv:2210.01936): the two differ only in word order.

With a teacher (``compact.teacher``, :mod:`stackgan.text.distillation`) the encoder also learns general English: by
the same loss between captions with synonyms (:mod:`stackgan.captions.synonyms`) and their plain wording, and by
regression of the teacher's sentence embeddings. With stored embeddings as the teacher, the caption tower learns them
alone, and the image tower is trained against it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stackgan.captions.distinct import distinct_rows
from stackgan.captions.hard_negatives import nearest_of_other_species, swapped_captions
from stackgan.images.crops import load_side
from stackgan.images.pixels import from_levels
from stackgan.io.spool import SelectedStrings, StringSpool, release, spooled_array
from stackgan.networks.schedules import warm_cosine
from stackgan.runtime.precision import bf16_autocast
from stackgan.text.base import mean_state
from stackgan.text.compact import CaptionTransformer, CompactEncoder, ImageTower, compact_config
from stackgan.text.distillation import EnglishTable, StoredTargets, TeacherTargets, distillation_loss
from stackgan.text.precomputed import stored_name
from stackgan.text.tokenizer import PAD_ID, SPECIAL, UNKNOWN_ID, split_words, token_table, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from stackgan.config import CompactConfig
    from stackgan.data.prepared import PreparedSplit

__all__ = ["contrastive_loss", "train_compact_encoder"]

DROPOUT = 0.0  # accuracy on held-out combinations after 500 steps: 0.76 without dropout, 0.65 with (one seed)
WORD_DROPOUT = 0.1  # share of tokens replaced by [UNK] in training, so that [UNK] becomes neutral
GROUP = 8  # photos per group with captions of the same words
NEAR = 24  # nearest photos that a group is drawn from
MAX_SCALE = 100.0  # CLIP's bound on the inverse temperature
AUGMENTED_EVERY = 3  # with a teacher, one in three captions of a batch is used with a synonym
LENGTH_PARTS = 2  # with a teacher, captions are encoded in two parts by length
WARM_UP = 0.05  # share of the steps


def train_compact_encoder(
    split: PreparedSplit,
    settings: CompactConfig,
    *,
    seed: int,
    progress: bool,
    device: torch.device | str = "cpu",
) -> CompactEncoder:
    """Train a tokenizer and both towers on the split's captions and photos; returned on the CPU.

    Args:
        split: training photos and captions; photos without captions are left out.
        settings: sizes and length of training; ``dim`` is that of the stored embeddings if they are the teacher.
        seed: of initialisation, batches and crops: the same seed gives the same encoder up to rounding.
        progress: show a bar with the loss and the retrieval accuracy within the batch.
        device: to train on.

    Raises:
        ValueError: fewer than two photos have captions.
        FileNotFoundError: the teacher is ``precomputed:NAME``, and the split has no embeddings of that name.
    """
    counts = np.diff(split.offsets)
    with_captions = np.flatnonzero(counts)
    if len(with_captions) < 2:
        raise ValueError(f"{split.path}: {len(with_captions)} photos have captions, training needs 2 or more")
    tokenizer = train_tokenizer(split.captions, settings.vocabulary)
    targets: TeacherTargets | None = None
    stored: StoredTargets | None = None
    if stored_name(settings.teacher):
        stored = StoredTargets(split, stored_name(settings.teacher))
        settings = replace(settings, dim=len(stored.mean))
    elif settings.teacher:
        targets = TeacherTargets(split.captions, tokenizer, settings, seed=seed, progress=progress, device=device)
        tokenizer = targets.tokenizer
    teacher = targets.teacher if targets is not None else ""
    config = compact_config(settings, tokenizer.get_vocab_size(), DROPOUT, teacher)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        towers = _DualEncoder(config, settings.dim, settings.image_size)
        if targets is not None:
            towers.add_teacher(targets)
        towers.to(device)
        batches = _Batches(split, with_captions, tokenizer, settings, seed)
        _train(towers, batches, settings, torch.device(device), progress, targets or stored)
        towers.to("cpu").eval()
        if targets is not None:
            towers.fold_table()
        if stored is not None:
            stored.fold(towers.projection)
        else:
            _standardise(towers, batches.ids[: batches.captions])
    words = {word for caption in split.captions for word in split_words(tokenizer, caption)}
    if targets is not None:
        words |= {token for token in tokenizer.get_vocab() if token.isalpha()}
    _round_to_half(towers.image)
    return CompactEncoder(towers.text, towers.projection, tokenizer, sorted(words), config, image_tower=towers.image)


def contrastive_loss(
    text: Tensor, other: Tensor, scale: Tensor, same: Tensor, swapped: Tensor, has: Tensor
) -> tuple[Tensor, Tensor]:
    """Symmetric InfoNCE, and the retrieval accuracy from captions to photos.

    Args:
        text: (B, T) of captions; row i belongs to row i of ``other``.
        other: (B, T) of their photos, or of second captions.
        scale: the inverse temperature.
        same: (B, B) bool: pairs that are not negatives of each other (the diagonal is ignored).
        swapped: (B, T) of the captions with two words swapped: a further negative of each row of ``other``.
        has: (B,) bool: rows of ``swapped`` that are valid.
    """
    text, other = F.normalize(text.float(), dim=1), F.normalize(other.float(), dim=1)
    own = torch.eye(len(text), dtype=torch.bool, device=text.device)
    logits = (scale * text @ other.T).masked_fill(same & ~own, float("-inf"))  # (B, B)
    wrong = (scale * (F.normalize(swapped.float(), dim=1) * other).sum(1)).masked_fill(~has, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    back = F.cross_entropy(torch.cat((logits.T, wrong[:, None]), 1), target)
    loss = (F.cross_entropy(logits, target) + back) / 2
    return loss, (logits.argmax(1) == target).float().mean()


class _DualEncoder(nn.Module):
    """The trained modules: caption network, projection, image tower, temperature."""

    def __init__(self, config: dict[str, Any], dim: int, image_size: int) -> None:
        super().__init__()
        self.text = CaptionTransformer(config)
        self.projection = nn.Linear(int(config["hidden_size"]), dim)
        # Embeddings are standardised; after training the statistics are folded into the projection.
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.image = ImageTower(dim, image_size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def add_teacher(self, targets: TeacherTargets) -> None:
        """Make token embeddings a map of the teacher's features; add a head for the teacher's embeddings."""
        self.text.embeddings["word_embeddings"] = EnglishTable(targets.features, self.projection.in_features)
        self.answer: nn.Module = nn.Linear(self.projection.out_features, targets.wanted.shape[1])

    @torch.no_grad()
    def fold_table(self) -> None:
        """Replace the map of the teacher's features by the table of token embeddings that it computes."""
        table = self.text.embeddings["word_embeddings"].table().half().float()
        self.text.embeddings["word_embeddings"] = nn.Embedding.from_pretrained(table)

    def read(self, ids: Tensor, mask: Tensor, parts: int) -> Tensor:
        """Vectors (B, T) of token ids (B, L), not standardised; in ``parts`` of similar length to reduce padding."""
        order = mask.sum(1).argsort() if parts > 1 else torch.arange(len(ids), device=ids.device)
        vectors = []
        for rows in order.chunk(parts):
            longest = int(mask[rows[-1]].sum()) if parts > 1 else ids.shape[1]
            own, there = ids[rows, :longest], mask[rows, :longest]
            with bf16_autocast(ids.device):
                states = self.text(own, there)
            vectors.append(self.pooled(states, there))
        return torch.cat(vectors)[order.argsort()]

    def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Token states (B, L, H) -> vectors (B, T): mean over the tokens and projection, not standardised."""
        return self.projection(mean_state(states.float(), mask))


class _Batches:
    """Random batches of photos, one caption each, crops and flips, from one generator."""

    def __init__(
        self,
        split: PreparedSplit,
        rows: NDArray[np.int64],
        tokenizer: Tokenizer,
        settings: CompactConfig,
        seed: int,
    ) -> None:
        self.split, self.rows, self.size = split, rows, min(settings.batch_size, len(rows))
        self.image_size, self.side = settings.image_size, load_side(settings.image_size)
        self.rng = np.random.default_rng([seed, 0xC0])
        first, self.caption_row = distinct_rows(split.captions)
        distinct = SelectedStrings(split.captions, first)
        swapped = swapped_captions(distinct, seed)
        self.ids = token_table(tokenizer, StringSpool(chain(distinct, swapped)), settings.max_tokens)
        self.captions = len(distinct)  # rows of ids; the swapped form of row i is row i + captions
        self.has_swapped = np.array([caption != "" for caption in swapped])
        self.species = split.species_numbers()
        self.near = nearest_of_other_species(split.image_captions(rows), self.species[rows], NEAR)

    def _photos(self) -> NDArray[np.int64]:
        """Groups of photos of different species whose captions use the same words; B of them, in order."""
        anchors = self.rng.choice(len(self.rows), max(1, self.size // GROUP), replace=False)
        chosen = {int(anchor) for anchor in anchors}
        for anchor in anchors:
            near = self.near[anchor]
            chosen |= {int(i) for i in self.rng.permutation(near[near >= 0])[: GROUP - 1]}
        rest = (int(i) for i in self.rng.permutation(len(self.rows)) if int(i) not in chosen)
        filled = list(islice(chain(sorted(chosen), rest), self.size))
        return np.sort(self.rows[filled])

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """A random batch.

        Returns:
            Images (B, 3, s, s) uint8; token ids (3B, L) of two captions each and of the first with words swapped;
            their mask; which pairs are not negatives of each other (B, B); which swapped rows are valid (B,).
        """
        photos = self._photos()
        first, after = self.split.offsets[photos], self.split.offsets[photos + 1]
        one, two = (self.caption_row[self.rng.integers(first, after)] for _ in range(2))
        self.drawn = np.stack((one, two))  # rows of the captions among the distinct ones, for targets of a teacher
        ids = self.ids[np.concatenate([one, two, one + self.captions])].astype(np.int64)
        ids = ids[:, : int((ids != PAD_ID).sum(1).max())]
        mask = ids != PAD_ID
        dropped = (self.rng.random(ids.shape) < WORD_DROPOUT) & (ids >= len(SPECIAL))
        ids = np.where(dropped, UNKNOWN_ID, ids)
        species = self.species[photos]
        same = (species[:, None] == species[None]) | (one[:, None] == one[None])
        images = self._crops(np.asarray(self.split.images[photos]))
        release(self.split.images)
        has = torch.from_numpy(self.has_swapped[one])
        return images, torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(same), has

    def _crops(self, loaded: NDArray[np.uint8]) -> Tensor:
        images = torch.from_numpy(loaded).permute(0, 3, 1, 2)  # (B, 3, L, L)
        if images.shape[-1] != self.side:
            images = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
        room, size = self.side - self.image_size, self.image_size
        tops, lefts = self.rng.integers(0, room + 1, (2, len(images)))
        flips = self.rng.random(len(images)) < 0.5
        crops = [p[:, t : t + size, x : x + size] for p, t, x in zip(images, tops, lefts, strict=True)]
        crops = [crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips, strict=True)]
        return torch.stack(crops)


def _train(
    towers: _DualEncoder,
    batches: _Batches,
    settings: CompactConfig,
    device: torch.device,
    progress: bool,
    targets: TeacherTargets | StoredTargets | None = None,
) -> None:
    from tqdm import tqdm

    decayed = [p for p in towers.parameters() if p.ndim >= 2]
    others = [p for p in towers.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )
    warm = max(1, round(WARM_UP * settings.steps))
    schedule = warm_cosine(optimiser, settings.steps, warm)
    towers.train()
    towers.to(memory_format=torch.channels_last)
    shown = torch.zeros(2)
    with tqdm(total=settings.steps, desc="caption encoder", disable=not progress) as bar:
        for step in range(settings.steps):
            images, ids, mask, same, has = (tensor.to(device) for tensor in batches.draw())
            images = from_levels(images).contiguous(memory_format=torch.channels_last)
            with bf16_autocast(device):
                vectors = towers.image(images)
            told, scale = towers.read(ids, mask, 1 if targets is None else LENGTH_PARTS), towers.log_scale.exp()
            if isinstance(targets, StoredTargets):
                learned = settings.distil * _regression(told, targets, batches.drawn)
                one, _, swapped = targets.restored(told.detach()).chunk(3)
            else:
                one, two, swapped = towers.norm(told).chunk(3)
                learned = contrastive_loss(one, two, scale, same, swapped, has)[0]
            loss, found = contrastive_loss(one, vectors, scale, same, swapped, has)
            loss = loss + learned
            if isinstance(targets, TeacherTargets):
                loss = loss + _distillation_terms(towers, targets, settings, same, batches.drawn[0])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                towers.log_scale.clamp_(0, math.log(MAX_SCALE))
            now = torch.stack([loss.detach(), found]).cpu()
            shown = now * 0.1 + shown * 0.9 if step else now
            bar.update()
            if step % 10 == 9:
                bar.set_postfix(loss=f"{shown[0]:.2f}", found=f"{shown[1]:.0%}", refresh=False)


def _regression(told: Tensor, targets: StoredTargets, drawn: NDArray[np.int64]) -> Tensor:
    """Mean squared error of the first and second captions' vectors, the first 2B of (3B, T), from the stored ones."""
    wanted = targets.wanted(drawn.ravel()).to(told.device)
    return F.mse_loss(told[: len(wanted)].float(), wanted)


def _distillation_terms(
    towers: _DualEncoder, targets: TeacherTargets, settings: CompactConfig, same: Tensor, drawn: NDArray[np.int64]
) -> Tensor:
    """Losses of captions with synonyms and of the teacher's embeddings for a batch with first captions ``drawn``."""
    some = targets.rng.permutation(len(drawn))[: max(2, len(drawn) // AUGMENTED_EVERY)]
    ids, has, wanted = (tensor.to(same.device) for tensor in targets.draw(drawn[some]))
    vectors = towers.norm(towers.read(ids, ids != PAD_ID, LENGTH_PARTS))
    synonyms, plain, other, answers = vectors.chunk(4)
    same = same[some][:, some]
    paraphrase = contrastive_loss(plain, synonyms, towers.log_scale.exp(), same, other, has)[0]
    return settings.paraphrase * paraphrase + settings.distil * distillation_loss(towers.answer(answers), wanted)


@torch.no_grad()
def _standardise(towers: _DualEncoder, ids: NDArray[np.int32]) -> None:
    """Fold zero mean and unit variance over the distinct training captions into the projection.

    Dimensions without variance, as of a single caption, are only centred.
    """
    vectors = spooled_array((len(ids), towers.projection.out_features), np.float32)
    for start in range(0, len(ids), 512):
        chunk = torch.from_numpy(ids[start : start + 512].astype(np.int64))
        mask = chunk != PAD_ID
        vectors[start : start + 512] = towers.pooled(towers.text(chunk, mask), mask).numpy()
    every = torch.from_numpy(vectors)
    spread, mean = every.std(0, correction=min(1, len(every) - 1)), every.mean(0)
    spread = torch.where(spread > 1e-6, spread, 1.0)
    towers.projection.weight.div_(spread[:, None])
    towers.projection.bias.sub_(mean).div_(spread)


@torch.no_grad()
def _round_to_half(module: nn.Module) -> None:
    """Round to half precision, as stored in the file, so that saved and loaded towers agree exactly."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half().float())
