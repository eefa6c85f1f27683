"""Distillation: vocabulary of the teacher, meanings of its words, and the trained encoder."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from stackgan.captions.lexicon import HELD_OUT
from stackgan.data.prepared import PreparedSplit
from stackgan.text import distillation
from stackgan.text.compact import CompactEncoder
from stackgan.text.contrastive import train_compact_encoder, train_tokenizer
from stackgan.text.distillation import (
    EnglishTable,
    Teacher,
    describe,
    distillation_loss,
    english_vocabulary,
    practice_sentences,
)
from stackgan.text.load import load_text_encoder
from tests.synonyms import synonym_accuracy
from tests.text.test_contrastive import SETTINGS, captions_of, make_split

COLOURS = ("red", "green", "blue", "yellow")
# Words of the teacher that no caption contains; the first two are close to a colour in its embedding, not in a table.
NEAR = {"rojo": "red", "bleu": "blue"}
WORDS = (*COLOURS, *NEAR, "dark", "roof", "wall", "house", "a", "and", "garden", "morning", "Quoin", "##s")
TAUGHT = replace(SETTINGS, vocabulary=2000, steps=100, distil=0.5)


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer in whose embedding rojo equals red."""
    folder = tmp_path_factory.mktemp("teacher")
    vocab = [*("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(vocab)}).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config)
    table = model.get_input_embeddings().weight.data
    table.normal_()
    for word, colour in NEAR.items():
        table[vocab.index(word)] = table[vocab.index(colour)] + 0.2 * torch.randn(32)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return make_split(tmp_path_factory.mktemp("houses") / "data", 96)


@pytest.fixture(scope="module")
def encoder(split: PreparedSplit, teacher_folder: Path) -> CompactEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stackgan.text.distillation.SENTENCES", 200)
        return train_compact_encoder(split, replace(TAUGHT, teacher=str(teacher_folder)), seed=0, progress=False)


def nearest(encoder: CompactEncoder, said: str, form: str = "a {} roof and a {} wall") -> str:
    """The colour whose caption is nearest to that with the word."""
    told = F.normalize(encoder.encode([form.format(colour, "green") for colour in COLOURS]), dim=1)
    return COLOURS[int((told @ encoder.encode([form.format(said, "green")])[0]).argmax())]


@pytest.mark.parametrize(("word", "colour"), [*NEAR.items(), ("crimson", "red"), ("navy", "blue"), ("jade", "green")])
def test_words_that_no_caption_holds(encoder: CompactEncoder, split: PreparedSplit, word: str, colour: str) -> None:
    assert not any(word in caption for caption in split.captions)
    assert nearest(encoder, word) == colour


def test_accuracy_counts_what_lands_at_its_colour(encoder: CompactEncoder) -> None:
    captions = [f"a {colour} {part}" for colour in COLOURS for part in ("roof", "wall", "house")]
    meanings = {"crimson": "dark red", "rojo": "red", "bleu": "yellow"}
    accuracy = synonym_accuracy(encoder, captions, list(meanings), meanings=meanings)
    assert accuracy == {"crimson": 1.0, "rojo": 1.0, "bleu": 0.0}
    with pytest.raises(ValueError, match="'roof' stands for nothing"):
        synonym_accuracy(encoder, captions, ["roof"])
    with pytest.raises(ValueError, match="no caption has purple"):
        synonym_accuracy(encoder, captions, ["violet"])


def test_captions_still_match_their_images(encoder: CompactEncoder, split: PreparedSplit) -> None:
    rows = range(16)  # every pair of colours once
    captions = F.normalize(encoder.encode([split.records[row].captions[0] for row in rows]), dim=1)
    side = split.images.shape[1]
    images = encoder.encode_images(np.asarray(split.images[:16])[:, : side // 8 * 8, : side // 8 * 8])
    found = (captions @ images.T).argmax(1) == torch.arange(16)
    assert found.float().mean() > 0.7


def test_warnings_include_the_teachers_words(encoder: CompactEncoder) -> None:
    assert encoder.warnings(["a crimson roof in the garden, rojo"]) == encoder.warnings(["in"])
    (notice,) = encoder.warnings(["a floccinaucinihilipilification roof"])
    assert notice.message == (
        'unknown word "floccinaucinihilipilification": no training caption has it, nor does the English vocabulary'
    )


def test_folder(encoder: CompactEncoder, teacher_folder: Path, tmp_path: Path) -> None:
    encoder.save(tmp_path / "text")
    again = load_text_encoder(str(tmp_path / "text"))
    captions = ["a crimson roof", "a wall in the garden"]
    assert isinstance(again, CompactEncoder) and again.identity == encoder.identity and again.has_teacher
    assert torch.equal(again.encode(captions), encoder.encode(captions))
    model = transformers.MPNetModel.from_pretrained(tmp_path / "text", add_pooling_layer=False).eval()
    assert model.dtype == torch.float32
    ids = torch.tensor([encoder.tokenizer.encode(captions[0]).ids])
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(states, again.network(ids, ids != 1), atol=1e-5, rtol=1e-5)
    facts = json.loads((tmp_path / "text" / "config.json").read_text())
    assert facts["stackgan_compact"]["teacher"] == load_text_encoder(str(teacher_folder)).identity
    assert str(teacher_folder) not in (tmp_path / "text" / "config.json").read_text()


def test_a_compact_encoder_is_no_teacher(encoder: CompactEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "text")
    with pytest.raises(ValueError, match=r"compact\.teacher is .*: give a transformers sentence encoder"):
        Teacher(str(tmp_path / "text"))


@pytest.mark.parametrize("key", ["distil", "paraphrase"])
def test_weights_are_not_negative(key: str) -> None:
    with pytest.raises(ValueError, match=rf"compact\.{key} is -1\.0: it must be 0 or more"):
        replace(SETTINGS, **{key: -1.0})


# ---------------------------------------------------------------------------------------------------- parts


def test_vocabulary(split: PreparedSplit, teacher_folder: Path) -> None:
    tokenizer = train_tokenizer(split.captions, 200)
    teacher = Teacher(str(teacher_folder))
    everything = english_vocabulary(teacher, split.captions, tokenizer, 2000)
    assert len(set(everything)) == len(everything)
    assert {*COLOURS, *NEAR, "garden", "crimson", "azure", "very", "a", "."} <= set(everything)
    assert "quoin" not in everything  # not a lower-case word of the vocabulary
    small = english_vocabulary(teacher, split.captions, tokenizer, 100)
    assert {"roof", "crimson"} <= set(small) and "garden" not in small  # captions and tables come first


def test_descriptions_move_to_meanings(split: PreparedSplit, teacher_folder: Path) -> None:
    tokens = ["red", "green", "blue", "dark", "roof", "wall", "house", "crimson", "rojo", "vermilion", "garden"]
    teacher, tokenizer = Teacher(str(teacher_folder)), train_tokenizer(split.captions, 200)
    own = distillation._teacher_features(teacher, tokens)
    moved = describe(teacher, tokens, split.captions, tokenizer)
    row = {token: i for i, token in enumerate(tokens)}
    seen = [row[token] for token in ("red", "green", "roof", "wall")]
    torch.testing.assert_close(moved[seen], own[seen])
    meaning = (own[row["dark"]] + 2 * own[row["red"]]) / 3
    torch.testing.assert_close(moved[row["crimson"]], 0.7 * meaning + 0.3 * own[row["crimson"]])
    # Only crimson is defined: other words, also held-out ones, move to its meaning by their similarity.
    assert "vermilion" in HELD_OUT
    shares = []
    for word in ("rojo", "vermilion", "garden"):
        way, there = moved[row[word]] - own[row[word]], meaning - own[row[word]]
        share = float((way @ there) / (there @ there))
        torch.testing.assert_close(way, share * there)
        shares.append(share)
    assert shares[1] == pytest.approx(0.7, abs=1e-4)  # both are [UNK] for this teacher
    assert all(-1e-4 < share < 0.6 for share in (shares[0], shares[2]))


def test_table_is_one_map_of_the_features() -> None:
    features = torch.randn(9, 5)
    table = EnglishTable(features, 3)
    ids = torch.tensor([[0, 4, 8], [4, 3, 1]])
    torch.testing.assert_close(table(ids), F.embedding(ids, table.table()))
    torch.testing.assert_close(table.table()[4:], table.map(features[4:]))
    torch.testing.assert_close(table.table()[:4], table.special)
    table(ids).sum().backward()
    assert table.special.grad is not None and table.special.grad[2].eq(0).all()


def test_practice_sentences() -> None:
    captions, words = ["a red roof and a blue wall", "the wall is blue"], ["garden", "vermilion", "##s", "."]
    sentences = practice_sentences(captions, words, 40, seed=1)
    assert sentences == practice_sentences(captions, words, 40, seed=1)
    assert set(sentences[::4]) <= set(captions)
    rest = " ".join(sentences)
    assert "garden" in rest and "vermilion" not in rest and "##" not in rest


def test_distillation_loss_explicitly() -> None:
    given, wanted = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [-1.0, 1.0]])
    assert distillation_loss(given, wanted).item() == pytest.approx((0 + 1) / 2)


# --- stored embeddings as the teacher --------------------------------------------------------------------------


def stored_embedding(caption: str, dim: int = 48) -> np.ndarray:
    """Embedding of an unknown encoder, with a large mean: a sum over words and pairs of neighbours."""
    words = caption.lower().replace(".", "").replace(",", "").split()
    parts = [*words, *(" ".join(pair) for pair in itertools.pairwise(words))]
    vectors = [np.random.default_rng(list(part.encode())).standard_normal(dim) for part in parts]
    scale, mean = np.random.default_rng([1, 2]).uniform((0.1, -2), (0.5, 2), (dim, 2)).T
    return (np.sum(vectors, 0) * scale + mean).astype(np.float32)


def test_stored_embeddings_are_predicted_from_captions(tmp_path: Path) -> None:
    every = list(itertools.product(COLOURS, COLOURS))
    held_out = [("red", "green"), ("green", "blue"), ("blue", "yellow"), ("yellow", "red")]
    split = make_split(tmp_path / "data", 48, pairs=[pair for pair in every if pair not in held_out])
    settings = replace(SETTINGS, teacher="precomputed:mine", dim=7, steps=200)
    with pytest.raises(FileNotFoundError, match="no embeddings 'mine'"):
        train_compact_encoder(split, settings, seed=0, progress=False)
    split.store_embeddings("mine", np.stack([stored_embedding(caption) for caption in split.captions]))
    encoder = train_compact_encoder(split, settings, seed=0, progress=False)
    assert encoder.dim == 48 and not encoder.has_teacher

    captions = [caption for pair in every for caption in captions_of(*pair)]
    teacher = torch.from_numpy(np.stack([stored_embedding(caption) for caption in captions]))
    student, mean = encoder.encode(captions), teacher.mean(0)
    unseen = torch.tensor([pair in held_out for pair in every for _ in range(4)])
    error = (student - teacher).square().mean(1) / (teacher - mean).square().mean()
    assert error[~unseen].mean() < 0.1 and error[unseen].mean() < 0.5
    near = F.normalize(student - mean, dim=1) @ F.normalize(teacher - mean, dim=1).T
    right = near.argmax(1) == torch.arange(len(captions))  # R-precision with one relevant embedding among 64
    assert right[~unseen].float().mean() > 0.95 and right[unseen].float().mean() > 0.7

    encoder.save(tmp_path / "text")
    assert torch.equal(load_text_encoder(str(tmp_path / "text")).encode(captions), student)
    images = np.asarray(split.images[:12])[:, 1:17, 1:17]
    own = student[[captions.index(split.records[row].captions[0]) for row in range(12)]]
    seen = encoder.encode_images(images)
    assert ((F.normalize(own, dim=1) @ seen.T).argmax(1) == torch.arange(12)).float().mean() > 0.7
