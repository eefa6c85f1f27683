"""Checkpoints made to exhaust memory or to run code: refused in words, before memory is allocated."""

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackgan.pipeline import StackGANPipeline
from stackgan.text.load import load_text_encoder
from tests.text.test_load import make_bert
from tests.tiny import change_header, save_tiny_checkpoint

MUCH = 64 * 1024  # kB that a refusal may take; the least of what these files ask for is 4 GB
TOO_LARGE = "describes a model much larger than its weights"
SIZES = {
    "generator.width": 10**9,
    "text.code_dim": 10**8,
    "text.dim": 10**9,
    "latent.dim": 10**9,
    "latent.width": 10**7,
    "latent.hidden": 10**9,
    "latent.steps": 10**9,
}
ENCODER_SIZES = {
    "hidden_size": 2**20,
    "num_hidden_layers": 2**20,
    "intermediate_size": 2**20,
}


def _peak() -> int:
    if sys.platform != "linux":
        pytest.skip("peak memory in kB")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    latent = ("latent.z=flow", "latent.c=flow")
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", stages=1, latent=latent)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "copy")


def _change(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(file.read_text("utf-8"))
    change(values)
    file.write_text(json.dumps(values), "utf-8")


@pytest.mark.parametrize("key", SIZES)
def test_sizes_that_do_not_fit_the_weights_are_refused_before_allocation(copy: Path, key: str) -> None:
    section, name = key.split(".")
    change_header(copy, lambda header: header["config"][section].update({name: SIZES[key]}))
    before = _peak()
    with pytest.raises(ValueError, match=TOO_LARGE) as error:
        StackGANPipeline.from_pretrained(copy, device="cpu")
    assert str(error.value).startswith(f"{copy / 'config.json'}: ")
    assert _peak() - before < MUCH


@pytest.mark.parametrize(("value", "words"), [(2**62, TOO_LARGE), (10**30, "has more than 64 bits")])
def test_sizes_beyond_any_machine_are_refused(copy: Path, value: int, words: str) -> None:
    change_header(copy, lambda header: header["config"]["generator"].update(width=value))
    with pytest.raises(ValueError, match=words):
        StackGANPipeline.from_pretrained(copy, device="cpu")


@pytest.mark.parametrize("key", ENCODER_SIZES)
def test_sizes_of_the_text_encoder_are_refused_before_allocation(copy: Path, key: str) -> None:
    _change(copy / "text" / "config.json", lambda values: values.update({key: ENCODER_SIZES[key]}))
    before = _peak()
    with pytest.raises(ValueError, match=TOO_LARGE):
        StackGANPipeline.from_pretrained(copy, device="cpu")
    assert _peak() - before < MUCH


@pytest.mark.parametrize(("key", "value"), [("max_position_embeddings", 2**20), ("vocab_size", 2**40)])
def test_lengths_of_the_text_encoder_have_limits(copy: Path, key: str, value: int) -> None:
    _change(copy / "text" / "config.json", lambda values: values.update({key: value}))
    with pytest.raises(ValueError, match=f"{key} is {value}, expected 1 to "):
        StackGANPipeline.from_pretrained(copy, device="cpu")


@pytest.mark.parametrize(("key", "words"), [("width", TOO_LARGE), ("size", "image size is 1048576")])
def test_sizes_of_the_image_tower_are_refused(copy: Path, key: str, words: str) -> None:
    _change(copy / "text" / "config.json", lambda values: values["stackgan_compact"]["image"].update({key: 2**20}))
    with pytest.raises(ValueError, match=words):
        encoder = StackGANPipeline.from_pretrained(copy, device="cpu").text_encoder
        assert encoder is not None and encoder.image_tower


def _file(header: dict[str, Any], data: bytes = bytes(16)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _tensor(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


LIES = {
    "length of the header": struct.pack("<Q", 2**63 - 1) + b"{}",
    "no header": struct.pack("<Q", 10**9),
    "shape": _file({"a": _tensor([10**9, 10**9], 0, 16)}),
    "overflowing shape": _file({"a": _tensor([2**33, 2**33], 0, 16)}),
    "end": _file({"a": _tensor([2**40], 0, 2**42)}),
    "negative": _file({"a": _tensor([4], -16, 0)}),
    "overlap": _file({"a": _tensor([4], 0, 16), "b": _tensor([4], 0, 16)}),
    "hole": _file({"a": _tensor([2], 8, 16)}),
    "brackets": struct.pack("<Q", 10**6) + b"[" * 10**6,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", ["model.safetensors", "text/model.safetensors"])
def test_a_lying_header_of_weights_is_refused(copy: Path, name: str, lie: str) -> None:
    (copy / name).write_bytes(LIES[lie])
    before = _peak()
    with pytest.raises(ValueError, match="damaged, or not a safetensors file") as error:
        StackGANPipeline.from_pretrained(copy, device="cpu")
    assert str(error.value).startswith(f"{copy / name}: ") and "\n" not in str(error.value)
    assert _peak() - before < MUCH


# --- a text encoder of transformers -----------------------------------------------------------------------------

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import BertModel as Model, BertConfig as Config, BertTokenizerFast as Tokenizer
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    make_bert(folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("own_type", [False, True])
def test_code_beside_a_text_encoder_is_not_run(bert: Path, tmp_path: Path, own_type: bool) -> None:
    """With ``auto_map`` in all its files; with a model type that needs the code it is refused in words."""
    folder, marker = shutil.copytree(bert, tmp_path / "bert"), tmp_path / "was run"
    (folder / "code.py").write_text(CODE.format(marker=str(marker)))
    classes = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    _change(folder / "config.json", lambda values: values.update(auto_map=classes))
    tokenizers = {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}
    _change(folder / "tokenizer_config.json", lambda values: values.update(auto_map=tokenizers))
    if own_type:
        _change(folder / "config.json", lambda values: values.update(model_type="own"))
        with pytest.raises(ValueError, match="cannot be read as a text encoder"):
            load_text_encoder(str(folder))
    else:
        assert load_text_encoder(str(folder)).encode(["a red bird"]).isfinite().all()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_size", 2**20), ("vocab_size", 2**34), ("num_hidden_layers", 10**9)]
)
def test_sizes_of_a_transformers_model_are_refused_before_allocation(
    bert: Path, tmp_path: Path, key: str, value: int
) -> None:
    folder = shutil.copytree(bert, tmp_path / "bert")
    _change(folder / "config.json", lambda values: values.update({key: value}))
    before = _peak()
    with pytest.raises(ValueError, match=TOO_LARGE):
        load_text_encoder(str(folder))
    assert _peak() - before < 2 * MUCH  # a module has about 10 kB
