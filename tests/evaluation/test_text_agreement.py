"""Text agreement: R-precision on cases with a known answer, distractors, judges that are trained, kept and given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from data_prep.painted import prepare_painted
from stackgan.config import CompactConfig
from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.writer import PreparedWriter
from stackgan.evaluation.text_agreement import (
    ClipJudge,
    CompactJudge,
    choose_judges,
    distractors,
    load_or_train_judge,
    r_precision,
    text_agreement_figures,
)
from stackgan.images.pixels import centre_crops
from tests.tiny import CAPTIONS, tiny_encoder, tiny_pipeline

TINY = CompactConfig(
    width=8, layers=1, heads=2, dim=12, vocabulary=200, max_tokens=24, steps=2, batch_size=8, image_size=16
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=10, seed=2, test_count=12, workers=1)
    return PreparedFolder.open(folder)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    """Nine photos of three species: of five, three and one photos."""
    folder = tmp_path_factory.mktemp("data") / "birds"
    rng = np.random.default_rng(0)
    with PreparedWriter(folder, kind="folder", size=32, crop="none", source={}) as writer:
        for i, species in enumerate("aaaaabbbc"):
            captions = (f"a bird with {i} spots", f"a {species} bird, number {i}", "A  bird.")
            writer.add("test", rng.integers(0, 256, (38, 38, 3), dtype=np.uint8), Record(str(i), captions, species))
    return PreparedFolder.open(folder).splits["test"]


# --- R-precision --------------------------------------------------------------------------------------------


def all_others(count: int) -> Any:
    return np.array([[j for j in range(count) if j != i] for i in range(count)])


def test_r_precision_of_right_permuted_constant_and_random() -> None:
    eye = torch.eye(100)
    assert r_precision(eye, eye, all_others(100)) == 1.0
    assert r_precision(3 * eye, 0.1 * eye, all_others(100)) == 1.0  # cosine: lengths do not count
    assert r_precision(eye.roll(1, 0), eye, all_others(100)) == 0.0
    assert r_precision(torch.ones(100, 7), torch.ones(100, 7), all_others(100)) == pytest.approx(0.01)
    generator = torch.Generator().manual_seed(0)
    pictures, captions = (torch.randn(4000, 8, generator=generator) for _ in range(2))
    shuffled = np.random.default_rng(0).integers(0, 4000, (4000, 99))
    assert r_precision(pictures, captions, shuffled) == pytest.approx(0.01, abs=0.005)


def test_r_precision_counts_one_tie_half_and_skips_what_is_not_there() -> None:
    captions = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.5, 0.5]])
    pictures = torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    assert r_precision(pictures[:1], captions, np.array([[1, 2]])) == 0.5
    assert r_precision(pictures[:1], captions, np.array([[2, -1]])) == 1.0
    listed = np.array([[1, 2], [3, -1], [-1, -1]])  # half; beaten by nobody; nobody to be beaten by
    assert r_precision(pictures, captions, listed, np.array([0, 2, 3])) == 0.75
    for wrong in (np.full((1, 2), -1), np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match="distractor"):
            r_precision(pictures[:1], captions, wrong)
    with pytest.raises(ValueError, match=r"give \(N, T\) and \(M, T\)"):
        r_precision(pictures[:, :1], captions, all_others(3))


def test_r_precision_is_the_definition() -> None:
    """Against loops over pictures and captions."""
    generator = torch.Generator().manual_seed(3)
    captions = torch.randn(40, 5, generator=generator)
    pictures = captions + 1.5 * torch.randn(40, 5, generator=generator)
    others = np.random.default_rng(1).permuted(all_others(40), axis=1)[:, :9]
    right = 0
    for i in range(40):
        cosine = [float(F.cosine_similarity(pictures[i], captions[j], dim=0)) for j in (i, *others[i])]
        right += cosine[0] > max(cosine[1:])
    assert 0.1 < right / 40 < 0.9 and r_precision(pictures, captions, others) == pytest.approx(right / 40)


def test_distractors_are_other_pictures_captions(birds: PreparedSplit) -> None:
    rows = np.array([0, 4, 16, 24])  # of photos 0, 1, 5, 8
    photo, species = rows // 3, np.array([0, 0, 1, 2])
    found = distractors(birds, rows, same_species=False, seed=0, count=10)
    assert found.shape == (4, 10) and (found >= 0).all()
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert (found // 3 != photo[:, None]).all()
    near = distractors(birds, rows, same_species=True, seed=0, count=10)
    assert (near >= 0).sum(1).tolist() == [10, 10, 6, 0]
    numbers = birds.species_numbers()
    for row, kind in zip(near, species, strict=True):
        assert (numbers[row[row >= 0] // 3] == kind).all()
    assert (distractors(birds, rows, same_species=False, seed=0, count=10) == found).all()
    assert (distractors(birds, rows, same_species=False, seed=1, count=10) != found).any()


def test_captions_that_say_the_same_are_no_distractors(birds: PreparedSplit) -> None:
    same = distractors(birds, np.array([2]), same_species=False, seed=0)  # "A  bird.", which every photo has
    assert (same >= 0).sum() == 16 and not {row % 3 for row in same[same >= 0].tolist()} & {2}


# --- figures ------------------------------------------------------------------------------------------------


class _Knows:
    """A judge that reads which photo a caption is of, and finds photos by their pixels."""

    def __init__(self, split: PreparedSplit) -> None:
        self.split = split
        self.known = centre_crops(split.images, 32).flatten(1)

    def captions(self, texts: Any) -> Tensor:
        of = [[text in record.captions for record in self.split.records] for text in texts]
        return torch.tensor([row if sum(row) == 1 else [False] * len(row) for row in of]).float()

    def pictures(self, images: Tensor) -> Tensor:
        nearest = torch.cdist(images.flatten(1), self.known).argmin(1)
        return torch.eye(len(self.known))[nearest]


def test_figures_of_right_and_wrong_pictures(birds: PreparedSplit) -> None:
    rows = [3 * photo + turn for photo in range(9) for turn in (0, 1)]
    photos = centre_crops(birds.images, 32)[[row // 3 for row in rows]]
    judges = {"independent": _Knows(birds)}
    figures = text_agreement_figures(birds, rows, photos.split(5), judges)
    assert figures["pictures"] == 18
    assert figures["independent"]["random"] == {"painted": 1.0, "photos": 1.0, "ratio": 1.0, "error": 0.0}
    assert figures["independent"]["same_species"] == {"painted": 1.0, "photos": 1.0, "ratio": 1.0, "error": 0.0}
    kinds = figures["distractors"]
    assert kinds["random"]["mean"] == 24  # all captions of the eight others
    assert kinds["random"]["chance"] == pytest.approx(1 / 25)
    assert kinds["same_species"]["mean"] == pytest.approx((10 * 12 + 6 * 6 + 2 * 0) / 18)
    assert kinds["same_species"]["chance"] == pytest.approx((10 / 13 + 6 / 7) / 16)

    wrong = text_agreement_figures(birds, rows, photos.roll(2, 0).split(5), judges)["independent"]["random"]
    assert wrong["painted"] < 0.1 and wrong["photos"] == 1.0 and wrong["ratio"] == wrong["painted"]
    assert wrong["error"] == pytest.approx((wrong["painted"] * (1 - wrong["painted"]) / 18) ** 0.5)
    for chunks, message in ((photos[:7].split(5), "7 pictures and 18 captions"), ((), "0 pictures and 18")):
        with pytest.raises(ValueError, match=message):
            text_agreement_figures(birds, rows, chunks, judges)
    with pytest.raises(ValueError, match="needs one caption"):
        text_agreement_figures(birds, [], [], judges)


def test_unknown_species_have_no_distractors_of_their_own(prepared: PreparedFolder) -> None:
    split = prepared.splits["test"]
    judges = {"own": CompactJudge(tiny_encoder())}
    figures = text_agreement_figures(split, np.arange(4), [torch.zeros(4, 3, 64, 64)], judges)
    assert set(figures["distractors"]) == set(figures["own"]) == {"random"}
    assert figures["distractors"]["random"]["mean"] == 99


# --- judges -------------------------------------------------------------------------------------------------


def test_the_judge_is_trained_once_and_kept(prepared: PreparedFolder, tmp_path: Path) -> None:
    first = load_or_train_judge(prepared, settings=TINY)
    kept = prepared.path / "judge"
    assert sorted(path.name for path in prepared.path.glob("judge*")) == ["judge"]
    time = (kept / "image.safetensors").stat().st_mtime_ns
    again = load_or_train_judge(prepared, settings=TINY)
    assert (kept / "image.safetensors").stat().st_mtime_ns == time
    images = centre_crops(prepared.splits["test"].images)
    torch.testing.assert_close(first.encode_images(images), again.encode_images(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.encode(CAPTIONS), again.encode(CAPTIONS))
    assert PreparedFolder.open(prepared.path).identity == prepared.identity

    given = load_or_train_judge(prepared, kept)
    torch.testing.assert_close(given.encode_images(images), again.encode_images(images), rtol=1e-4, atol=1e-4)
    other = load_or_train_judge(prepared, settings=CompactConfig(**{**vars(TINY), "dim": 8}))
    assert other.dim == 8 and load_or_train_judge(prepared, kept).dim == 8  # of other settings: trained anew
    tiny_encoder().save(tmp_path / "half")
    (tmp_path / "half" / "image.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no image\.safetensors"):
        load_or_train_judge(prepared, tmp_path / "half")


def test_a_split_without_training_pictures_needs_a_judge(birds: PreparedSplit) -> None:
    with pytest.raises(ValueError, match="give one with --judge"):
        load_or_train_judge(PreparedFolder.open(birds.path.parent), settings=TINY)


def test_judges_of_a_checkpoint(prepared: PreparedFolder, tmp_path: Path) -> None:
    tiny_encoder(seed=5).save(tmp_path / "judge")
    pipe = tiny_pipeline(stages=1)
    judges = choose_judges(pipe, prepared, judge=tmp_path / "judge")
    assert list(judges) == ["own", "independent"]
    split, rows = prepared.splits["test"], np.arange(0, 120, 3)
    texts = [split.captions[row] for row in rows]
    chunks = (pipe.paint(pipe.encode(texts[i : i + 16]), range(i, min(i + 16, 40)))[-1] for i in range(0, 40, 16))
    figures = text_agreement_figures(split, rows, chunks, judges, seed=1)
    for name in judges:
        found = figures[name]["random"]
        assert 0 <= found["painted"] < 0.3 and 0 <= found["photos"] < 0.3  # random weights: near one in a hundred
    pipe.text_encoder = None
    assert list(choose_judges(pipe, prepared, judge=tmp_path / "judge")) == ["independent"]


SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2
}  # fmt: skip


def save_clip(folder: Path) -> transformers.CLIPModel:
    """A CLIP of random weights that knows the words of ``CAPTIONS``, with tokenizer and image processor."""
    words = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", *sorted({word for text in CAPTIONS for word in text.split()})]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=32, bos_token_id=2, eos_token_id=3, pad_token_id=0, **SMALL
    )
    vision = transformers.CLIPVisionConfig(image_size=16, patch_size=8, **SMALL)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)
    model = transformers.CLIPModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    return model.eval()


def test_clip_judges_as_transformers_does(tmp_path: Path, birds: PreparedSplit) -> None:
    model = save_clip(tmp_path)
    judge = ClipJudge(str(tmp_path))
    images = centre_crops(birds.images, 32)
    vectors, texts = judge.pictures(images), judge.captions(CAPTIONS)
    assert vectors.shape == (9, 12) and texts.shape == (4, 12)
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)(list(CAPTIONS), padding=True, return_tensors="pt")
    photos = [np.array(picture[3:-3, 3:-3]) for picture in birds.images]
    pixels = transformers.CLIPImageProcessor.from_pretrained(tmp_path)(images=photos, return_tensors="pt")
    with torch.no_grad():
        out = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pixels["pixel_values"],
        )
    torch.testing.assert_close(F.normalize(vectors, dim=1), out.image_embeds)
    torch.testing.assert_close(F.normalize(texts, dim=1), out.text_embeds)

    rows = np.arange(0, 27, 3)
    figures = text_agreement_figures(birds, rows, [images], {"clip": judge})["clip"]
    match = F.cosine_similarity(vectors, judge.captions([birds.captions[row] for row in rows])).clamp_min(0).mean()
    assert figures["clip_score"]["painted"] == pytest.approx(100 * float(match), rel=1e-4)
    assert figures["clip_s"]["photos"] == pytest.approx(2.5 * float(match), rel=1e-4)
    assert figures["clip_score"]["ratio"] == pytest.approx(1.0) and figures["random"]["ratio"] in (1.0, None)


def test_clip_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder; give a CLIP's folder or a hub name"):
        ClipJudge(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"config\.json: missing"):
        ClipJudge(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"could not be fetched.*hf download nobody/nothing"):
        ClipJudge("nobody/nothing")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="cannot be read as a CLIP"):
        ClipJudge(str(tmp_path))
