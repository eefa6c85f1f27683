"""The gain of a residual: measured images and written weights agree."""

from pathlib import Path

import pytest
import torch

from stackgan.networks.generator import enlarged
from stackgan.pipeline import StackGANPipeline
from tests.benchmarks.residuals import write
from tests.tiny import tiny_pipeline


def test_the_written_checkpoint_has_the_gain_in_its_residuals(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    pipe = tiny_pipeline(stages=3, latent=["generator.image_skip=true"])
    pipe.save_pretrained(source)
    write(source, [128, 256], 0.5, out)
    scaled = StackGANPipeline.from_pretrained(out, device="cpu")
    e, stages = pipe.encode(["a small red bird", "a blue bird"]), [0, 1, 2]
    before, after = pipe.generate(e, [0, 1], 1.0, stages), scaled.generate(e, [0, 1], 1.0, stages)
    torch.testing.assert_close(after[0], before[0], atol=2e-3, rtol=0)  # half precision
    for k in (1, 2):
        residual, half = before[k] - enlarged(before[k - 1]), after[k] - enlarged(after[k - 1])
        assert residual.abs().mean() > 0.01
        torch.testing.assert_close(half, 0.5 * residual, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("skip", "side"), [("true", 64), ("true", 512), ("false", 128)])
def test_a_stage_without_residual_is_refused(skip: str, side: int, tmp_path: Path) -> None:
    tiny_pipeline(latent=[f"generator.image_skip={skip}"]).save_pretrained(tmp_path / "source")
    with pytest.raises(ValueError, match=f"the stage of {side} px adds no residual"):
        write(tmp_path / "source", [side], 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()
