"""The compact caption encoder, trained on a prepared split by image–caption contrast.

Both halves learn together: a caption's embedding is to find its own photo among the batch's, and a photo its caption
(CLIP, arXiv:2103.00020, figure 3):

    L = ½ · CE(s · ê v̂ᵀ) + ½ · CE(s · v̂ êᵀ)         ê, v̂ unit vectors (B, T), s the learned inverse temperature

and the same between two captions of one photo. Photos that a caption might mean just as well (same species, same
words) are no negatives.

Which photos meet in a batch decides what is learned. Among random ones, a caption finds its photo by the bag of its
words, and the encoder never learns which colour belongs to which part. Batches are therefore made of groups of
photos whose captions use the same words (VSE++'s hard negatives, arXiv:1707.05612, drawn by words), and every photo
and caption is set against its own caption with two words swapped (NegCLIP, arXiv:2210.01936): only who has what tells
them apart.

With a teacher (``compact.teacher``, :mod:`stackgan.text.distillation`) the encoder learns ordinary English beside it:
captions in other words (:mod:`stackgan.captions.lexicon`) are to mean what they stand for and nothing else, by the
same contrast between captions, and sentences what the teacher says of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stackgan.captions.hard_negatives import swapped_captions
from stackgan.captions.lexicon import Paraphraser
from stackgan.captions.near_captions import bags_of_words, nearest_others
from stackgan.networks.schedules import warm_cosine
from stackgan.text.compact import CaptionTransformer, CompactEncoder, ImageHalf, compact_config, split_words
from stackgan.text.distillation import (
    SPECIALS,
    EnglishTable,
    Teacher,
    caption_axes,
    describe,
    distillation_loss,
    english_vocabulary,
    practice_sentences,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from stackgan.config import CompactConfig
    from stackgan.data.prepared import PreparedSplit

__all__ = ["contrastive_loss", "train_compact_encoder", "train_tokenizer"]

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL = (UNK, PAD, CLS, SEP)  # in this order: padding is token 1
DROPOUT = 0.0  # without it held-out combinations bind sooner: 0.76 against 0.65 after 500 steps (one seed)
WORD_DROPOUT = 0.1  # tokens read as [UNK] in training: no word may be indispensable, and [UNK] means "nothing said"
GROUP = 8  # photos whose captions use the same words
NEAR = 24  # photos that are close enough to be drawn into a group
MAX_SCALE = 100.0  # CLIP's bound on the inverse temperature
SENTENCES = 12000  # that the teacher reads
WRAPPED = 0.5  # of the captions in other words are part of a longer sentence
TAUGHT = 3  # one caption in so many of a batch is said in other words
PARTS = 2  # that captions to be taught are read in, by length
WARM_UP = 0.05  # of the steps


def train_compact_encoder(
    split: PreparedSplit,
    settings: CompactConfig,
    *,
    seed: int,
    progress: bool,
    device: torch.device | str = "cpu",
) -> CompactEncoder:
    """Tokenizer and both halves, trained on the split's captions and photos; returned on the CPU.

    Args:
        split: photos and captions to learn from; photos without captions are left out.
        settings: sizes and length of training.
        seed: of initialisation, batches and crops: the same seed gives the same encoder up to rounding.
        progress: show a bar with the loss and the share of captions that find their photo in the batch.
        device: where to train.

    Raises:
        ValueError: fewer than two photos have captions.
    """
    counts = np.diff(split.offsets)
    with_captions = np.flatnonzero(counts)
    if len(with_captions) < 2:
        raise ValueError(f"{split.path}: {len(with_captions)} photos have captions, contrast needs 2 or more")
    tokenizer = train_tokenizer(split.captions, settings.vocabulary)
    lessons = None
    if settings.teacher:
        lessons = _Lessons(split, tokenizer, settings, seed, progress, device)
        tokenizer = lessons.tokenizer
    teacher = lessons.teacher if lessons is not None else ""
    config = compact_config(settings, tokenizer.get_vocab_size(), DROPOUT, teacher)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        halves = _Halves(config, settings.dim, settings.image_size)
        if lessons is not None:
            halves.learn_english(lessons)
        halves.to(device)
        batches = _Batches(split, with_captions, tokenizer, settings, seed)
        _train(halves, batches, settings, torch.device(device), progress, lessons)
        halves.to("cpu").eval()
        if lessons is not None:
            halves.fold_table()
        _standardise(halves, batches.ids[: batches.captions])
    words = {word for caption in split.captions for word in split_words(tokenizer, caption)}
    if lessons is not None:
        words |= {token for token in tokenizer.get_vocab() if token.isalpha()}
    _round_to_half(halves.image)
    return CompactEncoder(halves.text, halves.projection, tokenizer, sorted(words), config, image_half=halves.image)


def contrastive_loss(
    text: Tensor, other: Tensor, scale: Tensor, same: Tensor, swapped: Tensor, has: Tensor
) -> tuple[Tensor, Tensor]:
    """Symmetric InfoNCE, and the share of captions that find their own photo.

    Args:
        text: (B, T) of captions; row i belongs to row i of ``other``.
        other: (B, T) of their photos, or of second captions.
        scale: the inverse temperature.
        same: (B, B) bool: pairs that are no negatives of each other (the diagonal is ignored).
        swapped: (B, T) of the captions with two words swapped: one more negative of each row of ``other``.
        has: (B,) bool: which rows of ``swapped`` count.
    """
    text, other = F.normalize(text.float(), dim=1), F.normalize(other.float(), dim=1)
    own = torch.eye(len(text), dtype=torch.bool, device=text.device)
    logits = (scale * text @ other.T).masked_fill(same & ~own, float("-inf"))  # (B, B)
    wrong = (scale * (F.normalize(swapped.float(), dim=1) * other).sum(1)).masked_fill(~has, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    back = F.cross_entropy(torch.cat((logits.T, wrong[:, None]), 1), target)
    loss = (F.cross_entropy(logits, target) + back) / 2
    return loss, (logits.argmax(1) == target).float().mean()


def train_tokenizer(captions: Sequence[str], vocabulary: int) -> Tokenizer:
    """Lower-casing WordPiece trained on the captions; deterministic.

    Pieces that the captions never use are taken out again: they would have embeddings nobody trained, so that a
    word made of them is honestly unknown.
    """
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer

    first = _dressed(WordPiece(unk_token=UNK))
    trainer = WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    first.train_from_iterator(sorted(captions), trainer)
    used = Counter(token for encoding in first.encode_batch(list(captions)) for token in encoding.tokens)
    pieces = sorted((token for token in used if token not in SPECIAL), key=lambda token: (-used[token], token))
    return tokenizer_of(pieces)


def tokenizer_of(pieces: Sequence[str]) -> Tokenizer:
    """Lower-casing WordPiece of these pieces, after the special ones."""
    from tokenizers.models import WordPiece
    from tokenizers.processors import TemplateProcessing

    vocab = {token: index for index, token in enumerate([*SPECIAL, *pieces])}
    tokenizer = _dressed(WordPiece(vocab, unk_token=UNK))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(CLS, vocab[CLS]), (SEP, vocab[SEP])]
    )
    return tokenizer


def _dressed(model: Any) -> Tokenizer:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


class _Lessons:
    """What the teacher has to teach: words, sentences with its embeddings, and captions in other words."""

    def __init__(
        self,
        split: PreparedSplit,
        captions_tokenizer: Tokenizer,
        settings: CompactConfig,
        seed: int,
        progress: bool,
        device: torch.device | str,
    ) -> None:
        teacher = Teacher(settings.teacher, device, progress)
        self.teacher = teacher.encoder.identity
        distinct = list(dict.fromkeys(split.captions))
        self.captions = distinct
        self.pieces = english_vocabulary(teacher, split.captions, captions_tokenizer, settings.vocabulary)
        self.tokenizer = tokenizer_of(self.pieces)
        described = describe(teacher, self.pieces, split.captions, captions_tokenizer)
        self.features = torch.cat((torch.zeros(SPECIALS, described.shape[1]), described))
        self.paraphraser = Paraphraser()
        self.sentences = practice_sentences(distinct, self.pieces, self.paraphraser, SENTENCES, seed)
        vectors = teacher.encode(self.sentences)
        mean, axes = caption_axes(vectors[::4])
        self.wanted = (vectors - mean) @ axes.T  # (N, K)
        self.longest = settings.max_tokens
        self.rng = np.random.default_rng([seed, 0xE6])

    def draw(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Of P captions, by their row among the distinct: token ids (4P, L) of them in other words, in plain words,
        saying something else, and of P practice sentences; which rows say something else (P,); what the teacher says
        of the sentences (P, K)."""
        said, meant, wrong = [], [], []
        for caption in (self.captions[row] for row in rows):
            one, two, three = self.paraphraser.draw(caption, self.rng) or (caption, caption, None)
            said.append(self.paraphraser.wrap(one, self.rng) if self.rng.random() < WRAPPED else one)
            meant.append(two)
            wrong.append(three)
        chosen = self.rng.integers(len(self.sentences), size=len(rows))
        texts = [*said, *meant, *(text or "" for text in wrong), *(self.sentences[i] for i in chosen)]
        ids = token_ids(self.tokenizer, texts, self.longest)
        has = torch.tensor([text is not None for text in wrong])
        return ids, has, self.wanted[torch.from_numpy(chosen)]


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Tensor:
    """Token ids (N, L), padded."""
    encodings = tokenizer.encode_batch(list(texts))
    kept = [e.ids if len(e.ids) <= longest else [*e.ids[: longest - 1], e.ids[-1]] for e in encodings]
    ids = torch.full((len(kept), max(map(len, kept))), 1)
    for row, own in zip(ids, kept, strict=True):
        row[: len(own)] = torch.tensor(own)
    return ids


class _Halves(nn.Module):
    """Everything that learns: caption network, projection, image network, temperature."""

    def __init__(self, config: dict[str, Any], dim: int, image_size: int) -> None:
        super().__init__()
        self.text = CaptionTransformer(config)
        self.projection = nn.Linear(int(config["hidden_size"]), dim)
        # Embeddings leave with zero mean and unit variance; the statistics are folded into the projection at the end.
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.image = ImageHalf(dim, image_size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def learn_english(self, lessons: _Lessons) -> None:
        """Read tokens by what the teacher knows about them, and answer what it says of sentences."""
        self.text.embeddings["word_embeddings"] = EnglishTable(lessons.features, self.projection.in_features)
        self.answer: nn.Module = nn.Linear(self.projection.out_features, lessons.wanted.shape[1])

    @torch.no_grad()
    def fold_table(self) -> None:
        """Put an ordinary table in place of the map from the teacher's knowledge."""
        table = self.text.embeddings["word_embeddings"].table().half().float()
        self.text.embeddings["word_embeddings"] = nn.Embedding.from_pretrained(table)

    def read(self, ids: Tensor, mask: Tensor, parts: int) -> Tensor:
        """Vectors (B, T) of token ids (B, L), not yet standardised; in ``parts`` of like length: little padding."""
        order = mask.sum(1).argsort() if parts > 1 else torch.arange(len(ids), device=ids.device)
        vectors = []
        for rows in order.chunk(parts):
            longest = int(mask[rows[-1]].sum()) if parts > 1 else ids.shape[1]
            own, there = ids[rows, :longest], mask[rows, :longest]
            with torch.autocast(ids.device.type, dtype=torch.bfloat16):
                states = self.text(own, there)
            vectors.append(self.pooled(states, there))
        return torch.cat(vectors)[order.argsort()]

    def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Token states (B, L, H) to vectors (B, T): mean over the tokens, projected; not yet standardised."""
        weights = mask.float().unsqueeze(-1)
        return self.projection((states.float() * weights).sum(1) / weights.sum(1))


class _Batches:
    """Draws photos, one caption each, crops and flips; everything from one generator."""

    def __init__(
        self,
        split: PreparedSplit,
        rows: NDArray[np.int64],
        tokenizer: Tokenizer,
        settings: CompactConfig,
        seed: int,
    ) -> None:
        self.split, self.rows, self.size = split, rows, min(settings.batch_size, len(rows))
        self.image_size, self.side = settings.image_size, settings.image_size * 76 // 64
        self.rng = np.random.default_rng([seed, 0xC0])
        distinct = list(dict.fromkeys(split.captions))
        swapped = swapped_captions(distinct, seed)
        encodings = tokenizer.encode_batch([*distinct, *(caption or "" for caption in swapped)])
        longest = settings.max_tokens
        kept = [e.ids if len(e.ids) <= longest else [*e.ids[: longest - 1], e.ids[-1]] for e in encodings]
        row_of = {caption: row for row, caption in enumerate(distinct)}
        self.caption_row = np.array([row_of[caption] for caption in split.captions])
        self.captions = len(distinct)  # rows of ids; each one's swapped version comes as many rows later
        self.has_swapped = np.array([caption is not None for caption in swapped])
        lengths = np.array([len(ids) for ids in kept])
        self.ids = np.full((len(kept), lengths.max()), 1, np.int64)  # padding
        for row, ids in enumerate(kept):
            self.ids[row, : len(ids)] = ids
        self.species = split.species_numbers()
        bags = bags_of_words([split.records[row].captions for row in rows])
        self.near = nearest_others(bags, self.species[rows], NEAR)

    def _photos(self) -> NDArray[np.int64]:
        """Groups of photos of different species whose captions use the same words; B of them, in order."""
        anchors = self.rng.choice(len(self.rows), max(1, self.size // GROUP), replace=False)
        chosen = {int(anchor) for anchor in anchors}
        for anchor in anchors:
            chosen |= {int(i) for i in self.rng.permutation(self.near[anchor])[: GROUP - 1]}
        rest = self.rng.permutation(len(self.rows))
        filled = [*sorted(chosen), *(int(i) for i in rest if int(i) not in chosen)][: self.size]
        return np.sort(self.rows[filled])

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Images (B, 3, s, s) uint8; token ids (3B, L) of two captions each and of the first with words swapped;
        their mask; which pairs are no negatives of each other (B, B); which swapped rows count (B,)."""
        photos = self._photos()
        first, after = self.split.offsets[photos], self.split.offsets[photos + 1]
        one, two = (self.caption_row[self.rng.integers(first, after)] for _ in range(2))
        self.drawn = one  # rows of the first captions among the distinct, for those who say them otherwise
        ids = self.ids[np.concatenate([one, two, one + self.captions])]
        ids = ids[:, : int((ids != 1).sum(1).max())]
        mask = ids != 1
        dropped = (self.rng.random(ids.shape) < WORD_DROPOUT) & (ids > 3)
        ids = np.where(dropped, 0, ids)
        species = self.species[photos]
        same = (species[:, None] == species[None]) | (one[:, None] == one[None])
        images = self._crops(np.asarray(self.split.images[photos]))
        has = self.has_swapped[one]
        ids, mask, same, has = (torch.from_numpy(array) for array in (ids, mask, same, has))
        return images, ids, mask, same, has

    def _crops(self, loaded: NDArray[np.uint8]) -> Tensor:
        pictures = torch.from_numpy(loaded).permute(0, 3, 1, 2)  # (B, 3, L, L)
        if pictures.shape[-1] != self.side:
            pictures = F.interpolate(pictures.float(), (self.side, self.side), mode="bilinear", antialias=True)
        room, size = self.side - self.image_size, self.image_size
        tops, lefts = self.rng.integers(0, room + 1, (2, len(pictures)))
        flips = self.rng.random(len(pictures)) < 0.5
        crops = [p[:, t : t + size, x : x + size] for p, t, x in zip(pictures, tops, lefts, strict=True)]
        crops = [crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips, strict=True)]
        return torch.stack(crops)


def _train(
    halves: _Halves,
    batches: _Batches,
    settings: CompactConfig,
    device: torch.device,
    progress: bool,
    lessons: _Lessons | None = None,
) -> None:
    from tqdm import tqdm

    decayed = [p for p in halves.parameters() if p.ndim >= 2]
    others = [p for p in halves.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )
    warm = max(1, round(WARM_UP * settings.steps))
    schedule = warm_cosine(optimiser, settings.steps, warm)
    halves.train()
    halves.to(memory_format=torch.channels_last)
    shown = torch.zeros(2)
    with tqdm(total=settings.steps, desc="caption encoder", disable=not progress) as bar:
        for step in range(settings.steps):
            images, ids, mask, same, has = (tensor.to(device) for tensor in batches.draw())
            pictures = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                vectors = halves.image(pictures)
            one, two, swapped = halves.norm(halves.read(ids, mask, 1 if lessons is None else PARTS)).chunk(3)
            scale = halves.log_scale.exp()
            loss, found = contrastive_loss(one, vectors, scale, same, swapped, has)
            loss = loss + contrastive_loss(one, two, scale, same, swapped, has)[0]
            if lessons is not None:
                loss = loss + _taught(halves, lessons, settings, same, batches.drawn)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(halves.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                halves.log_scale.clamp_(0, math.log(MAX_SCALE))
            shown = (
                torch.stack([loss.detach(), found]).cpu() * 0.1 + shown * 0.9
                if step
                else torch.stack([loss.detach(), found]).cpu()
            )
            bar.update()
            if step % 10 == 9:
                bar.set_postfix(loss=f"{shown[0]:.2f}", found=f"{shown[1]:.0%}", refresh=False)


def _taught(
    halves: _Halves, lessons: _Lessons, settings: CompactConfig, same: Tensor, drawn: NDArray[np.int64]
) -> Tensor:
    """What is added to the loss of a batch whose first captions are ``drawn``: other words, and the teacher."""
    some = lessons.rng.permutation(len(drawn))[: max(2, len(drawn) // TAUGHT)]
    ids, has, wanted = (tensor.to(same.device) for tensor in lessons.draw(drawn[some]))
    vectors = halves.norm(halves.read(ids, ids != 1, PARTS))
    said, meant, wrong, answers = vectors.chunk(4)
    same = same[some][:, some]
    paraphrase = contrastive_loss(meant, said, halves.log_scale.exp(), same, wrong, has)[0]
    return settings.paraphrase * paraphrase + settings.distil * distillation_loss(halves.answer(answers), wanted)


@torch.no_grad()
def _standardise(halves: _Halves, ids: NDArray[np.int64]) -> None:
    """Fold zero mean and unit variance over the distinct training captions into the projection."""
    vectors = []
    for start in range(0, len(ids), 512):
        chunk = torch.from_numpy(ids[start : start + 512])
        mask = chunk != 1
        vectors.append(halves.pooled(halves.text(chunk, mask), mask))
    every = torch.cat(vectors)
    spread, mean = every.std(0).clamp_min(1e-6), every.mean(0)
    halves.projection.weight.div_(spread[:, None])
    halves.projection.bias.sub_(mean).div_(spread)


@torch.no_grad()
def _round_to_half(module: nn.Module) -> None:
    """Hold what a half-precision file can hold, so that saved and loaded halves agree exactly."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half().float())
