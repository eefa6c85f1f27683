"""``stackgan export``: the same images without PyTorch, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stackgan.cli.main import main
from stackgan.pipeline import StackGANPipeline
from stackgan.tools import export as tool
from stackgan.tools.export import export
from tests.text.test_load import make_bert
from tests.tiny import CAPTIONS, change_header, save_tiny_checkpoint, tiny_pipeline

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIZES = ["latent.dim=20"]

ALONE = """
import runpy, sys
for name in ("torch", "transformers", "stackgan"):
    sys.modules[name] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _by_example(folder: Path, given: str, out: Path, *options: str) -> np.ndarray:
    """The image that the exported example writes, in a process that cannot import torch."""
    command = [sys.executable, "-c", ALONE, str(folder / "example.py"), given, "--out", str(out), *options]
    subprocess.run(command, check=True, cwd=out.parent)
    return np.asarray(Image.open(out)).astype(int)


def test_an_export_generates_the_same_images_without_torch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, out = (
        save_tiny_checkpoint(tmp_path / "tiny", latent=[*SIZES, "latent.z=vae", "latent.prior=learned"]),
        tmp_path / "out",
    )
    change_header(checkpoint, lambda header: header.update(truncation=0.7))
    assert main(["export", str(checkpoint), str(out)]) == 0
    assert "100 images differ from PyTorch's by" in capsys.readouterr().out
    names = [
        "README.md",
        "example.py",
        "generator.onnx",
        "latent.onnx",
        "text.onnx",
        "text_free.onnx",
        "tokenizer.json",
    ]
    assert sorted(file.name for file in out.iterdir()) == names
    pipe = StackGANPipeline.from_pretrained(checkpoint, device="cpu")
    for file in out.glob("*.onnx"):
        facts = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert (
            facts["fingerprint"] == pipe.fingerprint and facts["truncation"] == "0.7" and facts["sizes"] == "64 128"
        )
    for seed, options, scale in ((0, [], 0.7), (2**32 + 5, ["--truncation", "1"], 1.0)):
        image = _by_example(out, CAPTIONS[1], tmp_path / "image.png", "--seed", str(seed), *options)
        wanted = np.asarray(pipe(CAPTIONS[1], seeds=seed, truncation=scale).images[0]).astype(int)
        assert wanted.std() > 5 and np.abs(image - wanted).max() <= 1

    from stackgan.runtime.engines import onnx_session

    z, c = pipe.noise([3, 4])
    noise = {"noise_z": z.numpy(), "noise_c": c.numpy(), "truncation": np.array(0.5, np.float32)}
    found = onnx_session(out / "generator.onnx")(onnx_session(out / "text_free.onnx")(noise))["image_128"]
    for image, other in zip(found, pipe.sample([3, 4], truncation=0.5).images, strict=True):
        levels = np.clip(np.round((image + 1) * 127.5), 0, 255).transpose(1, 2, 0)
        assert np.abs(levels - np.asarray(other)).max() <= 1

    before = (out / "generator.onnx").read_bytes()
    real = tool.generator_graph

    def wrong(generator: torch.nn.Module, **options: object) -> object:
        generator.heads[1].conv.weight.mul_(1.1)
        return real(generator, **options)

    monkeypatch.setattr(tool, "generator_graph", wrong)
    monkeypatch.setattr(tool, "CHECKED", 4)
    twice = StackGANPipeline.from_pretrained(checkpoint, device="cpu")
    _ = twice.generator  # the fast form of the unchanged weights
    monkeypatch.setattr(tool.StackGANPipeline, "from_pretrained", lambda *_, **__: twice)
    with pytest.raises(
        ValueError, match=r"in fp32, which permits 0\.001 of the range: 4 images differ from PyTorch's by"
    ):
        export(checkpoint, out)
    assert (out / "generator.onnx").read_bytes() == before


def test_precisions_and_checkpoints_without_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "CHECKED", 8)
    stored, image = tmp_path / "stored", tmp_path / "image.png"
    pipe = tiny_pipeline(latent=SIZES)
    pipe.text_encoder = None  # as of precomputed embeddings
    pipe.save_pretrained(stored, card="# tiny\n")
    sizes = []
    for precision in ("fp32", "int8", "fp16"):  # each replaces the one before
        error = export(stored, tmp_path / "out", precision=precision)
        sizes.append((tmp_path / "out" / "generator.onnx").stat().st_size)
        assert 0 < error.mean < 1 and not (tmp_path / "out" / "text.onnx").exists()
        assert f"{error.mean:.2g} of 255 levels" in (tmp_path / "out" / "README.md").read_text()
    assert sizes[1] < 0.6 * sizes[0] and sizes[2] < 0.7 * sizes[0]  # of a tiny network, a third is not weights
    e = torch.randn(1, pipe.config.text.dim)
    np.save(tmp_path / "e.npy", e.numpy())
    wanted = np.asarray(pipe(embeddings=e, seeds=3).images[0]).astype(int)
    found = _by_example(tmp_path / "out", str(tmp_path / "e.npy"), image, "--seed", "3")
    assert np.abs(found - wanted).mean() < 1

    free = save_tiny_checkpoint(tmp_path / "free", text=False, latent=SIZES)
    assert export(free, tmp_path / "out").largest < 1e-3  # replaces the other one
    assert not (tmp_path / "out" / "text_free.onnx").exists()
    wanted = np.asarray(StackGANPipeline.from_pretrained(free, device="cpu").sample(1).images[0]).astype(int)
    assert np.abs(_by_example(tmp_path / "out", "", image, "--seed", "1") - wanted).max() <= 1


@pytest.mark.parametrize("latent", [["latent.z=gaussian"], ["latent.z=tilted", "latent.context=caption"]])
def test_flows_take_any_batch(latent: list[str]) -> None:
    from stackgan.runtime.engines import onnx_session
    from stackgan.tools.onnx_parts import text_free_graph

    pipe = tiny_pipeline(stages=1, latent=["latent.c=flow", "latent.steps=1", *latent])
    for parameter in pipe.model.prior.parameters():  # couplings are initially zero
        parameter.add_(0.1 * torch.randn_like(parameter))
    graph = text_free_graph(pipe.model)
    assert {entry.type.tensor_type.shape.dim[0].dim_param for entry in graph.graph.input[:2]} == {"batch"}
    session = onnx_session(graph.SerializeToString())
    for seeds in ([3], [0, 1, 2]):
        z, c = pipe.noise(seeds)
        with torch.no_grad():
            code = pipe.model.codes(len(seeds)).sample(noise=0.5 * c)
            wanted = {"z": pipe.model.prior(code).sample(noise=0.5 * z), "c": code}
        noise = {"noise_z": z.numpy(), "noise_c": c.numpy(), "truncation": np.array(0.5, np.float32)}
        found = session(noise)
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values.numpy(), atol=1e-5)


def test_transformers_encoders_take_any_batch(tmp_path: Path) -> None:
    from stackgan.runtime.engines import onnx_session
    from stackgan.text.load import load_text_encoder
    from stackgan.tools.onnx_parts import text_graph

    make_bert(tmp_path).save_pretrained(tmp_path)
    encoder = load_text_encoder(str(tmp_path))
    session = onnx_session(text_graph(encoder).SerializeToString())
    tokenizer = tool._tokenizer(encoder)
    for captions in ([CAPTIONS[0]], ["a red bird", CAPTIONS[2], CAPTIONS[3] * 20]):
        rows = tokenizer.encode_batch(captions)
        ids, mask = np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows])
        found = session({"ids": ids, "mask": mask})["embedding"]
        np.testing.assert_allclose(found, encoder.encode(captions).numpy(), atol=1e-5)


@pytest.mark.parametrize("count", [16, 17, 32, 47, 228])
def test_noise_of_the_example_is_that_of_torch(count: int) -> None:
    from stackgan.tools.onnx_example import noise

    for seed in (0, 1, 12345, 2**32 - 1, 2**32 + 7, 2**53):
        wanted = torch.randn(count, generator=torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_allclose(noise(seed, count), wanted, atol=2e-6)


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, out = save_tiny_checkpoint(tmp_path / "tiny", stages=1, latent=SIZES), tmp_path / "out"
    small = save_tiny_checkpoint(tmp_path / "small", stages=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    for words, message in (
        ([checkpoint, out, "--precision", "fp8"], "precision 'fp8' is unknown: it must be fp32, "),
        ([checkpoint, tmp_path / "mine"], "exists and is not an export"),
        ([tmp_path / "none", out], "none"),
        ([small, out], "add up to less than 16"),
    ):
        assert main(["export", *map(str, words)]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(checkpoint), str(out)]) == 2
    assert 'pip install "stackgan[onnx]"' in capsys.readouterr().err and not out.exists()
