"""Image–text scorers: trained, cached, given by a folder; CLIP equals that of transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers

from stackgan.config import CompactConfig
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.evaluation.cache import evaluation_cache
from stackgan.evaluation.image_text_scorers import (
    ClipScorer,
    choose_scorers,
    load_or_train_dual_encoder,
)
from stackgan.evaluation.sections.text_agreement import text_agreement_figures
from stackgan.images.pixels import centre_crops
from tests.tiny import CAPTIONS, tiny_encoder, tiny_pipeline

TINY = CompactConfig(
    width=8, layers=1, heads=2, dim=12, vocabulary=200, max_tokens=24, steps=2, batch_size=8, image_size=16
)


SETTINGS = "stackgan.evaluation.image_text_scorers.SETTINGS"


def test_the_dual_encoder_is_trained_once_and_kept(
    prepared: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SETTINGS, TINY)
    first = load_or_train_dual_encoder(prepared)
    kept = evaluation_cache(prepared.path) / "image-text-scorer"
    assert sorted(path.name for path in kept.parent.glob("image-text*")) == ["image-text-scorer"]
    time = (kept / "image.safetensors").stat().st_mtime_ns
    again = load_or_train_dual_encoder(prepared)
    assert (kept / "image.safetensors").stat().st_mtime_ns == time
    images = centre_crops(prepared.splits["test"].images)
    torch.testing.assert_close(first.encode_images(images), again.encode_images(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.encode(CAPTIONS), again.encode(CAPTIONS))
    assert PreparedFolder.open(prepared.path).identity == prepared.identity

    given = load_or_train_dual_encoder(prepared, kept)
    torch.testing.assert_close(given.encode_images(images), again.encode_images(images), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(SETTINGS, replace(TINY, dim=8))
    other = load_or_train_dual_encoder(prepared)
    assert other.dim == 8 and load_or_train_dual_encoder(prepared, kept).dim == 8  # other settings: trained again
    tiny_encoder().save(tmp_path / "half")
    (tmp_path / "half" / "image.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no image\.safetensors"):
        load_or_train_dual_encoder(prepared, tmp_path / "half")


def test_a_split_without_training_images_needs_a_scorer(birds: PreparedSplit) -> None:
    with pytest.raises(ValueError, match="give one with --scorer"):
        load_or_train_dual_encoder(PreparedFolder.open(birds.path.parent))


def test_scorers_of_a_checkpoint(prepared: PreparedFolder, tmp_path: Path) -> None:
    tiny_encoder(seed=5).save(tmp_path / "encoder")
    pipe = tiny_pipeline(stages=1)
    scorers = choose_scorers(pipe, prepared, scorer=tmp_path / "encoder")
    assert list(scorers) == ["own", "independent"]
    split, rows = prepared.splits["test"], np.arange(0, 120, 3)
    texts = [split.captions[row] for row in rows]
    chunks = (pipe.generate(pipe.encode(texts[i : i + 16]), range(i, min(i + 16, 40)))[-1] for i in range(0, 40, 16))
    figures = text_agreement_figures(split, rows, chunks, scorers, seed=1)
    for name in scorers:
        found = figures[name]["random"]
        assert 0 <= found["painted"] < 0.3 and 0 <= found["photos"] < 0.3  # random weights: about 1/100
    pipe.text_encoder = None
    assert list(choose_scorers(pipe, prepared, scorer=tmp_path / "encoder")) == ["independent"]


SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2
}  # fmt: skip


def save_clip(folder: Path) -> transformers.CLIPModel:
    """Write a CLIP with random weights and the vocabulary of ``CAPTIONS``, with tokenizer and image processor."""
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


def test_clip_embeds_as_transformers_does(tmp_path: Path, birds: PreparedSplit) -> None:
    model = save_clip(tmp_path)
    scorer = ClipScorer(str(tmp_path))
    images = centre_crops(birds.images, 32)
    vectors, texts = scorer.embed_images(images), scorer.embed_captions(CAPTIONS)
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
    figures = text_agreement_figures(birds, rows, [images], {"clip": scorer})["clip"]
    match = (
        F.cosine_similarity(vectors, scorer.embed_captions([birds.captions[row] for row in rows])).clamp_min(0).mean()
    )
    assert figures["clip_score"]["painted"] == pytest.approx(100 * float(match), rel=1e-4)
    assert figures["clip_s"]["photos"] == pytest.approx(2.5 * float(match), rel=1e-4)
    assert figures["clip_score"]["ratio"] == pytest.approx(1.0) and figures["random"]["ratio"] in (1.0, None)


def test_clip_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder; give a CLIP's folder or a hub name"):
        ClipScorer(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"config\.json: missing"):
        ClipScorer(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded.*hf download nobody/nothing"):
        ClipScorer("nobody/nothing")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="cannot be read as a CLIP"):
        ClipScorer(str(tmp_path))
