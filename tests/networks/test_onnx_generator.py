"""The generator as an ONNX graph: the same images as the trained module, for every block family."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from stackgan.config import GeneratorConfig
from stackgan.networks.generator import Generator
from stackgan.networks.onnx_generator import generator_graph
from stackgan.networks.onnx_graph import OPSET, OnnxGraph
from stackgan.runtime.engines import onnx_session

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Z = 8


def _trained(block: str, code: int, *, skip: bool = False) -> Generator:
    """A generator with BatchNorm statistics and weights as after training."""
    torch.manual_seed(0)
    config = GeneratorConfig(block=block, width=8, image_skip=skip)
    generator = Generator(config, stages=3, z_dim=Z, code_dim=code)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
                if module.affine:
                    module.weight.normal_(1, 0.3)
                    module.bias.normal_(0, 0.3)
        generator(torch.randn(16, Z), torch.randn(16, code))
        for head in generator.heads:
            head.conv.weight.mul_(0.3)
    return generator.eval()


@pytest.mark.parametrize(
    ("block", "code", "skip"), [("legacy", 6, False), ("legacy", 0, False), ("fused", 6, True), ("fused", 0, False)]
)
@torch.no_grad()
def test_images_of_the_graph_are_the_generators(block: str, code: int, skip: bool) -> None:
    generator = _trained(block, code, skip=skip)
    model = generator_graph(generator, metadata={"who": "me"})
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET and model.metadata_props[0].value == "me"
    run = onnx_session(model.SerializeToString(), threads=1)
    for batch in (1, 3):
        z, c = torch.randn(batch, Z), torch.randn(batch, code)
        found, wanted = run({"z": z.numpy(), "c": c.numpy()}), generator(z, c)
        assert list(found) == ["image_64", "image_128", "image_256"]
        for image, other in zip(found.values(), wanted, strict=True):
            assert image.shape == other.shape and other.std() > 0.05
            np.testing.assert_allclose(image, other.numpy(), atol=1e-4)
    one = onnx_session(generator_graph(generator, [1]).SerializeToString(), threads=1)(
        {"z": z.numpy(), "c": c.numpy()}
    )
    assert list(one) == ["image_128"] and np.array_equal(one["image_128"], found["image_128"])


@torch.no_grad()
@pytest.mark.parametrize(("precision", "size"), [("fp16", 0.7), ("int8", 0.5)])
def test_smaller_weights_give_nearly_the_same_images(precision: str, size: float) -> None:
    generator = _trained("fused", 6, skip=True)
    whole, small = generator_graph(generator), generator_graph(generator, precision=precision)
    assert small.ByteSize() < size * whole.ByteSize()
    inputs = {"z": torch.randn(2, Z).numpy(), "c": torch.randn(2, 6).numpy()}
    pair = [onnx_session(model.SerializeToString(), threads=1)(inputs)["image_256"] for model in (whole, small)]
    assert pair[1].dtype == np.float32 and 0 < np.abs(pair[1] - pair[0]).mean() < 0.02


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, needs in (("onnx", lambda: OnnxGraph()), ("onnxruntime", lambda: onnx_session(b""))):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            with pytest.raises(ValueError, match=rf'needs the package {name}: pip install "stackgan\[onnx\]"'):
                needs()
