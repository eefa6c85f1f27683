"""The fast form of a generator: each fusion, equality with the trained module, number of operations."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo.utils
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import stackgan.networks.fast_generator as fast_generator
import stackgan.networks.fast_parts as fast_parts
from stackgan.config import PRESETS, GeneratorConfig
from stackgan.networks.fast_generator import FastGenerator
from stackgan.networks.generator import Generator
from stackgan.networks.layers import FusedNorm, GatedBlock, spread
from stackgan.pipeline import StackGANPipeline
from stackgan.runtime.compiler import cpp_compiler, frozen_weights
from tests.counting import allocated
from tests.exactness import need_exact_batches
from tests.tiny import CAPTIONS, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]
SIDES = [(2, 2), (2, 5), (3, 3), (5, 4), (7, 9)]
BLOCKS = ("legacy", "fused")


def made(block: str, stages: int, code: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0) -> Generator:
    """A small generator with BatchNorm statistics as after training."""
    torch.manual_seed(seed)
    width = {"legacy": 1 << max(stages - 1, 3), "fused": 4}[block]
    generator = Generator(GeneratorConfig(block=block, width=width, residuals=1), stages, 5, code).to(dtype)
    for part in generator.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = 1.0
            if part.affine:
                nn.init.normal_(part.bias, 0.0, 0.3)
    with torch.no_grad():
        generator.train()(*inputs({1: 32, 2: 16, 3: 8}.get(stages, 4), code, dtype))
    for head in generator.heads:  # not saturated by tanh, which would hide differences
        head.conv.weight.data.mul_(0.3)
    return generator.eval()


def inputs(count: int, code: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(count, 5 + code, generator=generator, dtype=dtype)
    return draw[:, :5], draw[:, 5:]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    assert [image.shape for image in found] == [image.shape for image in expected]
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


# --- the whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("block", BLOCKS)
def test_float64_is_the_module_to_1e_10(block: str, stages: int) -> None:
    generator = made(block, stages)
    z, c = inputs(2 if stages < 4 else 1)
    with torch.no_grad():
        assert worst(FastGenerator(generator, torch.float64)(z, c), generator(z, c)) < 1e-10


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("code", [3, 0])
@pytest.mark.parametrize("block", BLOCKS)
def test_float32_is_the_module_to_1e_4(block: str, code: int, mode: type) -> None:
    """``inference_mode`` uses oneDNN's operators, ``no_grad`` PyTorch's public ones."""
    generator = made(block, 3, code, torch.float32)
    fast = FastGenerator(generator)
    for count in (1, 5, 2):  # weights are packed for the first one
        z, c = inputs(count, code, torch.float32)
        with mode():
            assert worst(fast(z, c), generator(z, c)) < 1e-4


@pytest.mark.parametrize("block", BLOCKS)
def test_bfloat16_is_near_the_module(block: str) -> None:
    generator = made(block, 3, dtype=torch.float32)
    z, c = inputs(4, dtype=torch.float32)
    with torch.inference_mode():
        for found, expected in zip(FastGenerator(generator, torch.bfloat16)(z, c), generator(z, c), strict=True):
            assert found.dtype == torch.float32
            assert float((found - expected).abs().mean()) * 127.5 < 1


@pytest.mark.parametrize("name", ["birds-64", "painted-64"])
def test_a_bundled_checkpoint_in_bfloat16_differs_by_less_than_a_level(name: str) -> None:
    folder = ROOT / "checkpoints" / name
    captions = ["a small red bird with black wings", "a yellow bird with grey wings and a black crown"] * 2
    exact, quick = (StackGANPipeline.from_pretrained(folder, device="cpu", precision=p) for p in ("fp32", "bf16"))
    e, seeds = exact.encode(captions), list(range(4))
    with torch.inference_mode():
        z_noise, c_noise = exact.noise(seeds)
        c = exact.model.condition(e).sample(noise=c_noise)
        module = exact.model.generator(exact.model.prior(c).sample(noise=z_noise), c)[-1]
        assert float((exact.generate(e, seeds)[-1] - module).abs().max()) < 1e-4
        difference = (quick.generate(e, seeds)[-1] - module).abs() * 127.5
    print(f"bf16 against the module: mean {difference.mean():.3f}, worst {difference.max():.1f} of 255 levels")
    assert float(difference.mean()) < 1


@pytest.mark.parametrize("block", BLOCKS)
def test_only_what_is_requested_is_generated(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, (z, c) = made(block, 3, dtype=torch.float32), inputs(1, dtype=torch.float32)
    fast = FastGenerator(generator)
    called: list[str] = []
    for name, parts in (("stage", fast.stages), ("head", fast.heads)):
        for i, part in enumerate(parts):
            part.register_forward_hook(lambda *_, label=f"{name} {i}": called.append(label))
    with torch.inference_mode():
        everything = fast(z, c)
        called.clear()
        (middle,) = fast(z, c, [1])
        assert called == ["stage 0", "stage 1", "head 1"]
        fine, coarse = fast(z, c, [2, 0])
    assert worst([coarse, middle, fine], everything) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", BLOCKS)
def test_an_image_is_the_same_alone_and_in_a_batch(block: str, dtype: torch.dtype) -> None:
    generator, (z, c) = made(block, 3, dtype=torch.float32), inputs(9, dtype=torch.float32)
    fast = FastGenerator(generator, dtype)
    with torch.inference_mode():
        rows = [fast(*row) for row in zip(z.split(1), c.split(1), strict=True)]
        for size in (2, 9):
            alone = [torch.cat(stage) for stage in zip(*rows[:size], strict=True)]
            assert worst(fast(z[:size], c[:size]), alone) < (1e-4 if dtype == torch.float32 else 0.2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["birds-64", "painted-64"])
def test_an_image_of_a_bundled_checkpoint_is_the_same_to_the_bit(name: str, threads: int) -> None:
    need_exact_batches()
    pipe = StackGANPipeline.from_pretrained(ROOT / "checkpoints" / name, device="cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            z, c = pipe.noise(range(8))
            fast = pipe.generator
            alone = torch.cat([fast(*row)[0] for row in zip(z.split(1), c.split(1), strict=True)])
            for size in (2, 5, 8):
                assert torch.equal(fast(z[:size], c[:size])[0], alone[:size])
    finally:
        torch.set_num_threads(before)


def test_the_module_is_left_as_it_is() -> None:
    generator, (z, c) = made("fused", 2), inputs(2)
    before = copy.deepcopy(generator.state_dict())
    fast = FastGenerator(generator, torch.float64)
    with torch.no_grad():
        first = fast(z, c)
        generator.mix.weight.add_(1.0)
        assert worst(fast(z, c), first) == 0  # a separate form …
        generator.mix.weight.sub_(1.0)
        assert worst(fast(z, c), first) == 0
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name]) or name == "mix.weight"


def test_without_the_private_operators_it_generates_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, (z, c) = made("legacy", 2, dtype=torch.float32), inputs(3, dtype=torch.float32)
    with torch.inference_mode():
        packed = FastGenerator(generator)(z, c)
        monkeypatch.setattr(torch.ops, "mkldnn", object())
        fast_parts.onednn_works.cache_clear()
        try:
            assert not fast_parts.onednn_works(torch.float32)
            assert worst(FastGenerator(generator)(z, c), packed) < 1e-5
        finally:
            fast_parts.onednn_works.cache_clear()


def test_pipeline_generates_the_requested_size() -> None:
    pipe = tiny_pipeline(stages=3)
    whole = pipe(CAPTIONS[:2], seeds=[3, 4])
    assert [stage[0].size for stage in whole.stages] == [(64, 64), (128, 128), (256, 256)]
    for stage, size in enumerate(pipe.sizes):
        alone = pipe(CAPTIONS[:2], seeds=[3, 4], size=size)
        assert len(alone.stages) == 1
        assert [image.tobytes() for image in alone.images] == [image.tobytes() for image in whole.stages[stage]]
    with pytest.raises(ValueError, match="choose from 64, 128, 256"):
        pipe(CAPTIONS[:1], seeds=[0], size=512)
    with pytest.raises(ValueError, match="fp32 or bf16"):
        StackGANPipeline(pipe.model, None, precision="fp64")


# --- fusion by fusion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [(1, 1), (1, 3), *SIDES])
def test_upsampling_and_convolution_are_one_transposed_convolution(side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, *side).double(), torch.randn(4, 3, 3, 3).double(), torch.randn(4).double()
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    assert worst([fast_parts.FastConv(weight, bias, doubles=True)(x)], [expected]) < 1e-12
    assert worst([fast_parts.FastProducts(weight, bias)(x)], [expected]) < 1e-12
    assert worst([fast_parts.FastProducts(weight, None)(x)], [expected - bias[:, None, None]]) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("side", SIDES)
def test_constant_planes_have_nine_values(side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    y, code, weight = torch.randn(2, 4, *side).double(), torch.randn(2, 3).double(), torch.randn(4, 3, 3, 3).double()
    expected = y + F.conv2d(spread(code, y), weight, padding=1)
    borders = fast_parts.CodeBorders(weight)
    assert worst([borders(y.clone(), code)], [expected]) < 1e-12
    halves = [half(part.clone(), code) for half, part in zip(borders.split_outputs(), y.chunk(2, 1), strict=True)]
    assert worst([torch.cat(halves, 1)], [expected]) < 1e-12


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("split", [False, True])
def test_gated_block(upsample: bool, code: int, split: bool) -> None:
    """In bfloat16 values and gates are two convolutions; the result equals that of the block in both forms."""
    torch.manual_seed(0)
    block = GatedBlock(4 + code, 6, upsample).double()
    block.norm.momentum = 1.0
    h, c = torch.randn(3, 4, 5, 7).double(), torch.randn(3, code).double()
    x = torch.cat((spread(c, h), h), 1)
    if upsample and code:
        pytest.skip("no such block: the code comes before the residuals")
    with torch.no_grad():
        block(x)
        expected = block.eval()(x)
        form = fast_generator._Gated(block, code)
        if split:
            form.to(torch.bfloat16).split()
            assert len(form.convs) == 2
            found = form(h.bfloat16(), c.bfloat16() if code else None).double()
            assert float((found - expected).abs().max()) < 0.1
        else:
            assert worst([form(h, c if code else None)], [expected]) < 1e-12


@pytest.mark.parametrize("side", SIDES)
def test_fused_normalisations_are_one_linear_map_of_the_style(side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mix, norms = nn.Linear(5, 5).double(), [FusedNorm(4, 8).double(), FusedNorm(6, 8).double()]
    z, c = inputs(3)
    style = torch.cat((c, mix(z)), 1)
    x = torch.randn(3, 6, *side).double()
    with torch.no_grad():
        for norm in norms:
            norm.norm.momentum = 1.0
            norm.affine.weight.normal_()
            norm.affine.bias.normal_()
            norm(torch.randn(3, norm.norm.num_features, *side).double() * 2 + 1, style)
            norm.eval()
        expected = norms[1](x, style)
        assert (
            worst([fast_parts.ScaleShiftLeaky(8, 6)(x, fast_parts.StyleMaps(mix, norms)(z, c))], [expected]) < 1e-12
        )


# --- compiled, and counted ----------------------------------------------------------------------------------


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
def test_compiled_form_is_the_module() -> None:
    """Of one stage: compiling takes half a minute. Both blocks with two stages: ``tests/slow/compiled.py``."""
    check_compiled(made("fused", 1, dtype=torch.float32))


def check_compiled(generator: Generator) -> None:
    """The compiled form agrees with the module, and is compiled once."""
    fast = FastGenerator(generator, compiled=True)
    began = torch._dynamo.utils.counters["frames"]["total"]
    with torch.inference_mode():
        for count in (2, 3, 2):  # the first one is compiled
            z, c = inputs(count, dtype=torch.float32)
            assert worst(fast(z, c), generator(z, c)) < 1e-4
            assert torch._dynamo.utils.counters["frames"]["total"] == began + 1


def test_weights_are_frozen_where_pytorch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    before = config.freezing
    with frozen_weights():
        assert config.freezing is True
    assert config.freezing is before
    for without in (None, SimpleNamespace(config=None)):  # the module is missing, or has no such setting
        monkeypatch.setitem(sys.modules, "torch._inductor", without)
        with frozen_weights():
            assert config.freezing is before


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ValueError, match=r"compiled generator was requested and no C\+\+ compiler .*no-such-compiler"
    ):
        FastGenerator(made("fused", 1), compiled=True)


def gmacs(forward: nn.Module, z: Tensor, c: Tensor) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward(z, c)
    return counter.get_total_flops() / 2e9


def analytic_count(width: int, code: int, planes: bool) -> float:
    """10⁹ multiply-adds of the published tree at 256 px; ``planes``: with constant planes and upsampled maps."""
    total = 228.0 * (width << 4) * 32
    side, channels = 4, width << 4
    for _ in range(4):  # the first stage: upsampling to 64 px
        taps = 9 if planes else 9 / 4 if side <= 8 else 4  # one pixel after upsampling
        side, channels = 2 * side, channels // 2
        total += side**2 * (2 * channels) ** 2 * taps
    for _ in range(2):  # joint convolution, two residual blocks, upsampling
        total += side**2 * (channels + code * planes) * 2 * channels * 9 + 2 * side**2 * 3 * channels**2 * 9
        total += 0 if planes else 9 * 2 * channels * code  # nine positions depend on the code
        side, channels = 2 * side, channels // 2
        total += side**2 * (2 * channels) ** 2 * (9 if planes else 4)
    total += sum((64 << stage) ** 2 * (width >> stage) * 3 * 9 for stage in range(3))
    return total / 1e9


def test_multiply_adds_of_the_published_size() -> None:
    """7.91 G per image as published, 3.85 G here; analytically and counted by PyTorch."""
    config = PRESETS["legacy"].generator
    with torch.device("meta"):
        fast = FastGenerator(Generator(config, 3, 100, 128).eval())
        found = gmacs(fast, torch.empty(1, 100), torch.empty(1, 128))
    assert analytic_count(config.width, 128, planes=True) == pytest.approx(7.91, abs=0.01)
    assert found == pytest.approx(analytic_count(config.width, 128, planes=False), rel=1e-6)
    assert found < 3.86


@pytest.mark.parametrize("name", ["quickstart", "modern"])
def test_multiply_adds_of_the_modern_generator(name: str) -> None:
    config = PRESETS[name]
    generator = Generator(config.generator, 1, config.latent.dim, config.text.code_dim).eval()
    z, c = torch.zeros(1, config.latent.dim), torch.zeros(1, config.text.code_dim)
    assert gmacs(FastGenerator(generator), z, c) < 0.75 * gmacs(generator, z, c)


@pytest.mark.parametrize("block", BLOCKS)
def test_fewer_and_smaller_feature_maps_are_made(block: str) -> None:
    generator, (z, c) = made(block, 3, dtype=torch.float32), inputs(1, dtype=torch.float32)
    fast = FastGenerator(generator)
    with torch.inference_mode():
        fast(z, c)  # packs its weights once
        ours, theirs = allocated(lambda: fast(z, c)), allocated(lambda: generator(z, c))
    assert ours[0] < 0.5 * theirs[0]
    assert ours[1] < 0.7 * theirs[1]
