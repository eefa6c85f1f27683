"""The compact encoder: its tokenizer, its batches, a short training, and its folder."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from stackgan.config import CompactConfig
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from stackgan.io.weights import read_tensors
from stackgan.text.base import write_tensors
from stackgan.text.compact import COMPACT, CaptionTransformer, CompactEncoder, ImageTower, compact_config
from stackgan.text.contrastive import _Batches, contrastive_loss, train_compact_encoder
from stackgan.text.load import load_text_encoder
from stackgan.text.tokenizer import train_tokenizer

COLOURS = {"red": (220, 30, 30), "green": (30, 190, 50), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
SETTINGS = CompactConfig(
    width=32, layers=2, heads=4, dim=32, vocabulary=200, max_tokens=24, steps=120, batch_size=32, image_size=16,
    learning_rate=3e-3,
)  # fmt: skip


def captions_of(top: str, bottom: str) -> tuple[str, ...]:
    return (
        f"A {top} roof and a {bottom} wall.",
        f"the roof is {top} and the wall is {bottom}",
        f"this house has a {bottom} wall, a {top} roof",
        f"a house with a {bottom} wall and a {top} roof",
    )


def make_split(
    folder: Path,
    count: int,
    species: bool = False,
    pairs: Sequence[tuple[str, str]] = tuple(product(COLOURS, COLOURS)),
) -> PreparedSplit:
    """Noisy images with a coloured upper and lower half; the captions of every second one name the colours."""
    rng = np.random.default_rng(0)
    side = load_side(16)
    with PreparedWriter(folder, kind="painted", size=16, crop="none", source={}) as writer:
        for number in range(count):
            top, bottom = pairs[number % len(pairs)]
            image = np.empty((side, side, 3))
            image[: side // 2], image[side // 2 :] = COLOURS[top], COLOURS[bottom]
            image = np.clip(image + rng.normal(0, 15, image.shape), 0, 255).astype(np.uint8)
            kind = f"{top} over {bottom}" if species else None
            writer.add("train", image, Record(str(number), captions_of(top, bottom), kind))
    return PreparedFolder.open(folder).splits["train"]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return make_split(tmp_path_factory.mktemp("houses") / "data", 192)


@pytest.fixture(scope="module")
def encoder(split: PreparedSplit) -> CompactEncoder:
    return train_compact_encoder(split, SETTINGS, seed=0, progress=False)


@pytest.fixture
def saved(encoder: CompactEncoder, tmp_path: Path) -> Path:
    encoder.save(tmp_path / "text")
    return tmp_path / "text"


def pictures(pairs: list[tuple[str, str]]) -> np.ndarray:
    images = np.empty((len(pairs), 16, 16, 3), np.uint8)
    for image, (top, bottom) in zip(images, pairs, strict=True):
        image[:8], image[8:] = COLOURS[top], COLOURS[bottom]
    return images


def test_captions_find_their_images_among_all_combinations(encoder: CompactEncoder) -> None:
    pairs = list(product(COLOURS, COLOURS))  # 16: without word order, red over blue equals blue over red
    images = F.normalize(encoder.encode_images(pictures(pairs)), dim=1)
    found = []
    for form in range(4):
        captions = F.normalize(encoder.encode([captions_of(*pair)[form] for pair in pairs]), dim=1)
        found.append((captions @ images.T).argmax(1) == torch.arange(16))
    assert torch.stack(found).float().mean() > 0.85  # chance: 1/16


def test_embeddings_are_standardised(encoder: CompactEncoder, split: PreparedSplit) -> None:
    embeddings = encoder.encode(sorted(set(split.captions)))
    assert embeddings.dtype == torch.float32 and embeddings.shape[1] == encoder.dim == 32
    torch.testing.assert_close(embeddings.mean(0), torch.zeros(32), atol=1e-4, rtol=0)
    torch.testing.assert_close(embeddings.std(0), torch.ones(32), atol=1e-3, rtol=0)


def test_a_caption_does_not_depend_on_its_batch(encoder: CompactEncoder) -> None:
    captions = [caption for pair in product(COLOURS, COLOURS) for caption in captions_of(*pair)] + ["", "red"]
    alone = torch.cat([encoder.encode([caption]) for caption in captions])
    torch.testing.assert_close(encoder.encode(captions * 2), alone.repeat(2, 1), rtol=1e-4, atol=1e-4)
    assert encoder.encode([]).shape == (0, 32)


def test_seed_decides_and_the_global_generator_is_kept(split: PreparedSplit) -> None:
    short = replace(SETTINGS, steps=3)
    before = torch.random.get_rng_state()
    one, two, other = (train_compact_encoder(split, short, seed=s, progress=False) for s in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    caption = ["a red roof and a blue wall"]
    torch.testing.assert_close(one.encode(caption), two.encode(caption), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(one.encode(caption), other.encode(caption), atol=1e-2)


def test_too_few_photos(tmp_path: Path) -> None:
    split = make_split(tmp_path / "data", 1)
    with pytest.raises(ValueError, match="1 photos have captions, training needs 2 or more"):
        train_compact_encoder(split, SETTINGS, seed=0, progress=False)


def test_a_handful_of_photos_is_enough_to_run(tmp_path: Path) -> None:
    split = make_split(tmp_path / "data", 3)
    encoder = train_compact_encoder(split, replace(SETTINGS, steps=2), seed=0, progress=False)
    assert encoder.encode(["a red roof"]).isfinite().all()


# ------------------------------------------------------------------------------------------- loss, batches


def test_contrastive_loss_explicitly() -> None:
    generator = torch.Generator().manual_seed(0)
    captions, images, swapped = torch.randn(3, 3, 4, generator=generator)
    scale = torch.tensor(5.0)
    cosine = torch.stack([F.cosine_similarity(caption, images) for caption in captions]) * 5
    # Photo 2 may match caption 0, and vice versa: neither is a negative of the other.
    same = torch.eye(3, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    by_caption = [cosine[0, [0, 1]], cosine[1, [1, 0, 2]], cosine[2, [2, 1]]]
    # Captions 0 and 2 have a hard negative with swapped words.
    has = torch.tensor([True, False, True])
    wrong = F.cosine_similarity(swapped, images)[:, None] * 5
    by_photo = [
        torch.cat((cosine[[0, 1], 0], wrong[0])),
        cosine[[1, 0, 2], 1],
        torch.cat((cosine[[2, 1], 2], wrong[2])),
    ]
    expected = sum(row.logsumexp(0) - row[0] for row in by_caption + by_photo) / 6
    loss, found = contrastive_loss(captions, images, scale, same, swapped, has)
    torch.testing.assert_close(loss, expected)
    assert found == np.mean([bool(row.argmax() == 0) for row in by_caption])


def test_batches_do_not_set_a_species_against_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackgan.text.contrastive.WORD_DROPOUT", 0.0)
    split = make_split(tmp_path / "data", 64, species=True)  # 16 species, 4 photos each
    tokenizer = train_tokenizer(split.captions, 200)
    batches = _Batches(split, np.arange(64), tokenizer, SETTINGS, seed=0)
    images, ids, mask, same, has = batches.draw()
    assert images.shape == (32, 3, 16, 16) and images.dtype == torch.uint8
    assert ids.shape == mask.shape and len(ids) == 96 and mask.any(1).all() and len(same) == len(has) == 32
    # Hard negatives have the words of their captions; captions without one are masked.
    for own, other, swapped in zip(ids[:32], ids[64:], has, strict=True):
        assert not swapped or sorted(own.tolist()) == sorted(other.tolist())
    # 32 photos of 16 species: pairs of the same species must occur and be masked symmetrically.
    assert same.diagonal().all() and torch.equal(same, same.T) and same.sum() > 32
    photos = batches._photos()
    assert len(set(photos.tolist())) == 32


def test_hard_batches_share_their_words(split: PreparedSplit) -> None:
    tokenizer = train_tokenizer(split.captions, 200)
    batches = _Batches(split, np.arange(len(split)), tokenizer, replace(SETTINGS, batch_size=8), seed=0)
    words = [set(" ".join(record.captions).lower().replace(".", "").split()) for record in split.records]

    def shared(group: np.ndarray) -> float:
        """Mean share of words that two photos of the group have in common."""
        pairs = [(words[i], words[j]) for i in group for j in group if i < j]
        return float(np.mean([len(one & two) / len(one | two) for one, two in pairs]))

    grouped = np.mean([shared(batches._photos()) for _ in range(20)])
    scattered = np.mean([shared(batches.rng.choice(len(split), 8, replace=False)) for _ in range(20)])
    assert grouped > (1 + scattered) / 2


# ----------------------------------------------------------------------------------------------- tokenizer


def test_tokenizer_is_decided_by_the_captions(split: PreparedSplit) -> None:
    one = train_tokenizer(split.captions, 200)
    assert one.to_str() == train_tokenizer(split.captions[::-1], 200).to_str()
    used = {token for caption in split.captions for token in one.encode(caption).tokens}
    assert set(one.get_vocab()) - used <= {"[UNK]", "[PAD]"}  # all other tokens occur in training
    assert one.encode("A RED roof!").tokens[:4] == ["[CLS]", "a", "red", "roof"]
    assert one.encode("a zebra").tokens == ["[CLS]", "a", "[UNK]", "[SEP]"]


def test_tokenizer_is_the_same_in_another_process(split: PreparedSplit) -> None:
    program = (
        "import json, sys; from stackgan.text.tokenizer import train_tokenizer; "
        "sys.stdout.write(train_tokenizer(json.load(sys.stdin), 200).to_str())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(list(split.captions)),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert elsewhere.stdout == train_tokenizer(split.captions, 200).to_str()


# --------------------------------------------------------------------------------------- warnings, folder


def test_warnings(encoder: CompactEncoder) -> None:
    long = "a red roof and " * 6
    notices = encoder.warnings(["A red roof!", "a yelow roof on a zebra", long])
    assert [(notice.index, notice.kind) for notice in notices] == [
        (1, "unknown"),
        (1, "unknown"),
        (1, "unknown"),
        (2, "truncated"),
    ]
    assert notices[0].message == 'unknown word "yelow": did you mean "yellow"?'
    assert notices[1].message == 'unknown word "on": no training caption has it'
    assert notices[3].message == 'kept 22 of 24 tokens: the text from word 23, "roof", on was dropped'
    kept = " ".join(long.split()[:22])
    torch.testing.assert_close(encoder.encode([long]), encoder.encode([kept]))


def test_save_and_load_agree(encoder: CompactEncoder, saved: Path) -> None:
    again = load_text_encoder(str(saved))
    assert isinstance(again, CompactEncoder) and again.identity == encoder.identity
    captions = ["a red roof", "the wall is blue", "zebra"]
    assert torch.equal(again.encode(captions), encoder.encode(captions))
    assert again.warnings(captions) == encoder.warnings(captions)
    images = pictures([("red", "blue"), ("green", "yellow")])
    # rounding depends on the memory format
    torch.testing.assert_close(again.encode_images(images), encoder.encode_images(images), atol=1e-5, rtol=0)
    again.save(saved.parent / "twice")
    assert {path.name: path.read_bytes() for path in (saved.parent / "twice").iterdir()} == {
        path.name: path.read_bytes() for path in saved.iterdir()
    }


def test_transformers_reads_the_same_folder(encoder: CompactEncoder, saved: Path) -> None:
    model = transformers.MPNetModel.from_pretrained(saved, add_pooling_layer=False).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(saved)(["A red roof and a blue wall"], return_tensors="pt")
    assert tokens["input_ids"][0].tolist() == encoder.tokenizer.encode("A red roof and a blue wall").ids
    with torch.no_grad():
        states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        torch.testing.assert_close(
            encoder.projection(states.mean(1)),
            encoder.encode(["A red roof and a blue wall"]),
            rtol=1e-3,
            atol=1e-3,
        )


def test_the_default_size_is_a_few_megabytes(encoder: CompactEncoder, tmp_path: Path) -> None:
    settings = CompactConfig()
    config = compact_config(settings, 300, 0.1)
    network = CaptionTransformer(config)
    projection = torch.nn.Linear(settings.width, settings.dim)
    half = ImageTower(settings.dim, settings.image_size)
    big = CompactEncoder(network, projection, encoder.tokenizer, encoder.words, config, image_tower=half)
    big.save(tmp_path / "text")
    assert sum(path.stat().st_size for path in (tmp_path / "text").iterdir()) < 4e6


def test_starts_without_transformers(saved: Path) -> None:
    program = (
        "import sys; from stackgan.text.load import load_text_encoder; "
        f"print(load_text_encoder({str(saved)!r}).encode(['a red roof']).shape, 'transformers' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert finished.stdout.strip() == "torch.Size([1, 32]) False"


def test_images_as_bytes_or_floats(encoder: CompactEncoder) -> None:
    images = pictures([("red", "blue")])
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    floats.requires_grad_()
    vectors = encoder.encode_images(floats)
    torch.testing.assert_close(vectors, encoder.encode_images(images))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(1))
    vectors[0, 0].backward()
    assert floats.grad is not None and floats.grad.abs().sum() > 0
    assert encoder.encode_images(F.interpolate(floats.detach(), (64, 64))).shape == (1, 32)
    with pytest.raises(ValueError, match=r"images of shape \(2, 3\)"):
        encoder.encode_images(torch.zeros(2, 3))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "words.txt", "config.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
        load_text_encoder(str(saved))


def test_the_image_tower_is_read_only_when_requested(saved: Path) -> None:
    (saved / "image.safetensors").unlink()
    encoder = load_text_encoder(str(saved))
    assert isinstance(encoder, CompactEncoder) and encoder.encode(["a red roof"]).isfinite().all()
    with pytest.raises(FileNotFoundError, match=r"holds no image\.safetensors"):
        encoder.encode_images(pictures([("red", "blue")]))


def test_damaged_folders_are_refused(saved: Path) -> None:
    good = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(good[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged, or not a safetensors file"):
        load_text_encoder(str(saved))
    (saved / "model.safetensors").write_bytes(good)
    tensors = read_tensors(saved / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    tensors[f"{name}_"] = tensors.pop(name)
    write_tensors(saved / "model.safetensors", tensors)
    with pytest.raises(ValueError, match="missing, unexpected or of another shape"):
        load_text_encoder(str(saved))
    (saved / "tokenizer.json").write_text("{}")
    (saved / "model.safetensors").write_bytes(good)
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer"):
        load_text_encoder(str(saved))
    config = json.loads((saved / "config.json").read_text())
    config[COMPACT]["format"] = 99
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="format 99, this code reads 1"):
        load_text_encoder(str(saved))


def test_compact_folders_have_their_pooling(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"text\.pooling is 'cls': use auto"):
        load_text_encoder(str(saved), "cls")
