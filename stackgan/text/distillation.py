"""Distillation of a sentence encoder into the compact encoder, for general English beyond the captions' vocabulary.

Three things are taken from the teacher (a transformers sentence encoder, frozen):

- words: a part of its vocabulary is added to the student's;
- features of words: the student's token embeddings are a learned linear map of the teacher's features of each token,

      table[t] = A · f[t] + b        f[t]: the teacher's token embedding and its embedding of the word in a phrase

  one map for all words, so that training on words of captions changes the other words too. After training the map is
  folded into a plain table;
- sentences: the student's embeddings predict the teacher's (distillation, arXiv:1503.02531; of sentence embeddings,
  arXiv:2004.09813), of captions and of sentences of random words:

      L = 1 - cos(W · e, P · (teacher(text) - m))        m, P: mean and principal axes of the teacher's captions

  The axes are those along which captions differ, so that meanings without occurrence in captions (a garden, this
  morning) are left out.

With stored embeddings of the training captions as the teacher (``compact.teacher=precomputed:NAME``,
:class:`StoredTargets`) the student's embeddings are the teacher's: a model that was trained on those takes captions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackgan.captions.distinct import distinct_rows
from stackgan.captions.lexicon import HELD_OUT, MEANINGS
from stackgan.captions.synonyms import SynonymReplacer, in_a_sentence
from stackgan.io.json_reader import read_json
from stackgan.runtime.precision import bf16_autocast
from stackgan.text.compact import COMPACT
from stackgan.text.pretrained import TransformersEncoder, find_folder
from stackgan.text.tokenizer import SPECIAL, split_words, token_ids, tokenizer_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from stackgan.config import CompactConfig
    from stackgan.data.prepared import PreparedSplit

__all__ = ["EnglishTable", "StoredTargets", "Teacher", "TeacherTargets", "distillation_loss", "practice_sentences"]

AXES = 64  # principal axes of the teacher's embeddings of captions that are distilled
FEATURES = 256  # per token
PHRASE = "a {} bird"  # context in which the teacher embeds each word
SEEN = 150  # number of uses in captions from which a word is learned from images alone
MOVED = 0.7  # s: step of the features of a defined word towards its meaning
COMMON = 4000  # number of the teacher's most frequent words, which need no definition
KERNEL_POWER = 6  # exponent of the cosine: the higher, the fewer neighbours have weight
TEMPER = 0.3  # τ: weight of neighbours that need no definition
FEWEST_USES = 2  # minimum uses in captions of a word with its own token
CHUNK = 1024  # texts between two steps of a progress bar
SPECIALS = len(SPECIAL)  # the first tokens, which are not the teacher's
SENTENCES = 12000  # number of sentences whose teacher embeddings are predicted
WRAPPED = 0.5  # share of the captions with synonyms that are put into a longer sentence


class Teacher:
    """A transformers sentence encoder, read from a folder or by its hub name.

    Raises:
        ValueError: the text encoder has no token embeddings.
        FileNotFoundError: the model does not exist.
    """

    def __init__(self, name_or_folder: str, device: torch.device | str = "cpu", progress: bool = False) -> None:
        folder = find_folder(name_or_folder)
        if COMPACT in read_json(folder / "config.json", advice="name another model"):
            raise ValueError(f"compact.teacher is {name_or_folder!r}: give a transformers sentence encoder")
        self.encoder = TransformersEncoder(folder).to(device)
        self.device = torch.device(device)
        self.progress = progress

    def encode(self, texts: Sequence[str], what: str = "sentences") -> Tensor:
        """Embeddings (N, D) float32 of the texts, in bfloat16 arithmetic where the device has it."""
        from tqdm import tqdm

        order = np.argsort([len(text) for text in texts], kind="stable")  # by length, to reduce padding
        out = torch.empty(len(texts), self.encoder.dim)
        with tqdm(total=len(texts), desc=f"teacher embeds {what}", disable=not self.progress) as bar:
            for start in range(0, len(texts), CHUNK):
                rows = order[start : start + CHUNK]
                with bf16_autocast(self.device):
                    vectors = self.encoder.encode([texts[row] for row in rows])
                out[torch.from_numpy(rows)] = vectors.float().cpu()
                bar.update(len(rows))
        return out

    def words(self) -> list[str]:
        """Whole lower-case words of the teacher's vocabulary, in its order (usually the most frequent first)."""
        vocabulary = self.encoder.tokenizer.get_vocab()
        stripped = (token.removeprefix("Ġ").removeprefix("▁").removesuffix("</w>") for token in sorted(
            vocabulary, key=lambda token: vocabulary[token]
        ))  # fmt: skip
        return list(dict.fromkeys(word for word in stripped if re.fullmatch(r"[a-z]{2,}", word)))

    def pieces(self, word: str) -> list[str]:
        """The teacher's tokens of a word."""
        return self.encoder.tokenizer.tokenize(word)

    @torch.no_grad()
    def token_embeddings(self, words: Sequence[str]) -> Tensor:
        """(N, H): the mean of the embeddings of each word's tokens, before any layer."""
        table = self.encoder.model.get_input_embeddings().weight
        ids = [self.encoder.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
        return torch.stack(
            [table[row].float().mean(0) if row else table.new_zeros(table.shape[1]) for row in ids]
        ).cpu()


def describe(teacher: Teacher, tokens: Sequence[str], captions: Sequence[str], tokenizer: Tokenizer) -> Tensor:
    """f: the teacher's features (N, FEATURES or fewer) of tokens, moved towards their meaning in captions.

    Sentence encoders embed words of one kind close together, but hardly encode that ebony is black. Words that the
    tables of :mod:`stackgan.captions.lexicon` define are therefore moved to their meaning m, except those that are
    frequent in captions. Words without a definition are moved to the meanings of their neighbours with a definition,
    by less the more of their neighbours need none (Nadaraya–Watson regression, with a power of the teacher's cosine
    as kernel):

        f[t] ← (1 - s c) f[t] + s c Σ_i k(t, i) m[i] / Σ_i k(t, i)        k = max(0, cos)⁶, i defined, j others
        c = Σ_i k(t, i) / (Σ_i k(t, i) + τ Σ_j k(t, j))
    """
    own = _teacher_features(teacher, tokens)
    uses = Counter(word for caption in captions for word in split_words(tokenizer, caption))
    row = {token: i for i, token in enumerate(tokens)}
    seen = {i for token, i in row.items() if uses[token] >= SEEN}
    means = _meanings(own, row, [word for word in MEANINGS if word not in HELD_OUT and row.get(word, -1) not in seen])
    plain = seen | {row[word] for word in teacher.words()[:COMMON] if word in row and word not in MEANINGS}
    moved = own.clone()
    explained = torch.tensor(sorted(means), dtype=torch.long)
    rest = torch.tensor(
        [i for t, i in row.items() if i not in seen and i not in means and t.isalpha()], dtype=torch.long
    )
    if not means:
        return moved
    meaning = torch.stack([means[i] for i in explained.tolist()])  # (E, F)
    moved[explained] = (1 - MOVED) * own[explained] + MOVED * meaning
    others, unit = torch.tensor(sorted(plain), dtype=torch.long), F.normalize(own, dim=1)
    near = (unit[rest] @ unit[explained].T).clamp_min(0) ** KERNEL_POWER  # (R, E)
    away = (unit[rest] @ unit[others].T).clamp_min(0) ** KERNEL_POWER  # (R, O)
    away[rest[:, None] == others[None]] = 0  # a word is not its own neighbour
    total = near.sum(1, keepdim=True).clamp_min(1e-9)
    share = MOVED * total / (total + TEMPER * away.sum(1, keepdim=True))
    moved[rest] = (1 - share) * own[rest] + share * (near / total) @ meaning
    return moved


def _meanings(own: Tensor, row: Mapping[str, int], words: Sequence[str]) -> dict[int, Tensor]:
    """Weighted means of the features (N, F) of the words that define each row; the last word has double weight."""
    means = {}
    for word in words:
        parts = [row[part] for part in MEANINGS[word].split() if part in row]
        if word in row and parts:
            weights = torch.ones(len(parts))
            weights[-1] = 2.0
            means[row[word]] = (weights[:, None] * own[parts]).sum(0) / weights.sum()
    return means


def _teacher_features(teacher: Teacher, tokens: Sequence[str]) -> Tensor:
    """The teacher's features of tokens (N, F): principal components, zero mean, unit variance over all numbers."""
    words = [token.removeprefix("##") for token in tokens]
    blocks = [teacher.token_embeddings(words), teacher.encode([PHRASE.format(word) for word in words], "words")]
    centred = [block - block.mean(0) for block in blocks]
    joined = torch.cat([block / block.std().clamp_min(1e-6) for block in centred], 1)
    _, _, axes = torch.linalg.svd(joined, full_matrices=False)
    features = joined @ axes[:FEATURES].T
    return features / features.std().clamp_min(1e-6)


def english_vocabulary(teacher: Teacher, captions: Sequence[str], tokenizer: Tokenizer, size: int) -> list[str]:
    """The student's vocabulary: words of the captions, of the synonym lexicon, and of the teacher.

    Of the teacher's words, half are its first (in most vocabularies the most frequent), half those closest to words
    of captions.

    Args:
        tokenizer: splits captions into words.
        size: of the vocabulary; words of captions and of the lexicon are always included.
    """
    uses = Counter(word for caption in captions for word in split_words(tokenizer, caption))
    own = [word for word in sorted(uses, key=lambda word: (-uses[word], word)) if uses[word] >= FEWEST_USES]
    own = list(
        dict.fromkeys([*own, *(word for key in MEANINGS for word in (*key.split("-"), *MEANINGS[key].split()))])
    )
    ends = Counter(piece for word in uses for piece in teacher.pieces(word) if re.fullmatch("##[a-z]+", piece))
    own += sorted(piece for piece in ends if ends[piece] >= 5)
    signs = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    own = list(dict.fromkeys([*own, *signs]))
    others = [word for word in teacher.words() if word not in set(own)]
    room = max(0, size - SPECIALS - len(own))
    if len(others) > room:
        common, others = others[: room // 2], others[room // 2 :]
        anchors = teacher.token_embeddings([word for word in own if word.isalpha()])
        near = F.normalize(teacher.token_embeddings(others), dim=1) @ F.normalize(anchors, dim=1).T
        score = near.topk(min(5, near.shape[1]), dim=1).values.mean(1)
        others = [
            *common,
            *(others[i] for i in sorted(score.argsort(descending=True)[: room - len(common)].tolist())),
        ]
    return [*own, *others]


class EnglishTable(nn.Module):
    """Token embeddings as one linear map of the teacher's features of the tokens.

    Args:
        features: (V, F); zero rows for the special tokens, which come first.
        width: H.
    """

    def __init__(self, features: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.map = nn.Linear(features.shape[1], width)
        self.special = nn.Parameter(torch.randn(SPECIALS, width) * 0.3)

    features: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings (..., H) of token ids (...)."""
        used, places = ids.unique(return_inverse=True)
        return F.embedding(places, self._rows(used))

    def table(self) -> Tensor:
        """All embeddings (V, H), as a plain table."""
        return self._rows(torch.arange(len(self.features), device=self.features.device))

    def _rows(self, ids: Tensor) -> Tensor:
        mapped = self.map(self.features[ids])
        special = self.special[ids.clamp_max(SPECIALS - 1)].to(mapped.dtype)
        return torch.where((ids < SPECIALS)[:, None], special, mapped)


def practice_sentences(captions: Sequence[str], words: Sequence[str], count: int, seed: int) -> list[str]:
    """Sentences to distil: captions, captions with synonyms, captions with some words replaced by random ones.

    Args:
        words: the vocabulary; held-out words are not used.
    """
    draws = np.random.default_rng([seed, 0xD1])
    words = [word for word in words if word.isalpha() and word not in HELD_OUT]
    sentences = []
    for number in range(count):
        text = captions[int(draws.integers(len(captions)))]
        form = number % 4
        if form == 1:
            text = in_a_sentence(text, draws)
        if form in (2, 3):
            parts = text.split()
            share = 0.2 if form == 2 else 0.5
            if form == 3:
                parts = parts[: draws.integers(1, 8)]
            text = " ".join(words[draws.integers(len(words))] if draws.random() < share else part for part in parts)
        sentences.append(text)
    return sentences


def caption_axes(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and principal axes (AXES or fewer, D) of the teacher's embeddings of captions (N, D)."""
    mean = vectors.mean(0)
    _, _, axes = torch.linalg.svd(vectors - mean, full_matrices=False)
    return mean, axes[:AXES]


def distillation_loss(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean of 1 - cosine between rows (B, K)."""
    return (1 - F.cosine_similarity(given.float(), wanted.float(), dim=1)).mean()


class TeacherTargets:
    """Training targets of the compact encoder from a teacher, in addition to the contrastive loss with photos.

    Attributes:
        teacher: identity of the sentence encoder.
        tokenizer: with the student's vocabulary (:func:`english_vocabulary`).
        features: (V, F) of its tokens (:func:`describe`), zero rows for the special ones.
        wanted: (N, K), embeddings of the practice sentences by the teacher, along :func:`caption_axes`.

    Args:
        captions: of the training split.
        captions_tokenizer: trained on them.
    """

    def __init__(
        self,
        captions: Sequence[str],
        captions_tokenizer: Tokenizer,
        settings: CompactConfig,
        *,
        seed: int,
        progress: bool,
        device: torch.device | str,
    ) -> None:
        teacher = Teacher(settings.teacher, device, progress)
        self.teacher = teacher.encoder.identity
        self.captions = list(dict.fromkeys(captions))
        pieces = english_vocabulary(teacher, captions, captions_tokenizer, settings.vocabulary)
        self.tokenizer = tokenizer_of(pieces)
        described = describe(teacher, pieces, captions, captions_tokenizer)
        self.features = torch.cat((torch.zeros(SPECIALS, described.shape[1]), described))
        self.synonyms = SynonymReplacer()
        self.sentences = practice_sentences(self.captions, pieces, SENTENCES, seed)
        vectors = teacher.encode(self.sentences)
        mean, axes = caption_axes(vectors[::4])
        self.wanted = (vectors - mean) @ axes.T
        self.longest = settings.max_tokens
        self.rng = np.random.default_rng([seed, 0xE6])

    def draw(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Targets for P captions, given by their rows among the distinct captions.

        Returns:
            Token ids (4P, L) of captions with synonyms, of those with the meanings, of captions of another meaning,
            and of P practice sentences; which rows have another meaning (P,); the teacher's embeddings of the
            sentences (P, K).
        """
        synonyms, plain, other = [], [], []
        for caption in (self.captions[row] for row in rows):
            one, two, three = self.synonyms.draw(caption, self.rng) or (caption, caption, None)
            synonyms.append(in_a_sentence(one, self.rng) if self.rng.random() < WRAPPED else one)
            plain.append(two)
            other.append(three)
        chosen = self.rng.integers(len(self.sentences), size=len(rows))
        texts = [*synonyms, *plain, *(text or "" for text in other), *(self.sentences[i] for i in chosen)]
        ids = token_ids(self.tokenizer, texts, self.longest)
        has = torch.tensor([text is not None for text in other])
        return ids, has, self.wanted[torch.from_numpy(chosen)]


class StoredTargets:
    """Regression targets of the compact encoder: a split's stored embeddings e, standardised in each dimension.

        u = (e - m) / s        L = mean (student(caption) - u)²

    :meth:`fold` makes the student's embeddings s u + m, on the scale of the stored ones.

    Attributes:
        mean, scale: m and s, (T,).

    Raises:
        FileNotFoundError: the split has no embeddings of that name.
    """

    def __init__(self, split: PreparedSplit, name: str) -> None:
        self._stored = split.embeddings(name)
        self._first, _ = distinct_rows(split.captions)
        count, total, squares = len(self._stored), 0.0, 0.0
        for start in range(0, count, CHUNK):
            rows = self._stored[start : start + CHUNK].astype(np.float64)
            total, squares = total + rows.sum(0), squares + (rows**2).sum(0)
        mean = torch.as_tensor(total / count)
        spread = (torch.as_tensor(squares / count) - mean**2).clamp_min(0).sqrt()
        self.mean, self.scale = mean.float(), torch.where(spread > 1e-6, spread, 1.0).float()

    def wanted(self, rows: NDArray[np.int64]) -> Tensor:
        """u of the distinct captions with these rows, (N, T)."""
        return (torch.from_numpy(self._stored[self._first[rows]]) - self.mean) / self.scale

    def restored(self, u: Tensor) -> Tensor:
        """s u + m."""
        return u * self.scale.to(u.device) + self.mean.to(u.device)

    @torch.no_grad()
    def fold(self, projection: nn.Linear) -> None:
        """Multiply s into the projection and add m."""
        projection.weight.mul_(self.scale[:, None])
        projection.bias.mul_(self.scale).add_(self.mean)
