"""Comparison of latent modules: a small complete run, its cache, rejected arguments."""

import json
from pathlib import Path

import pytest

from stackgan.cli.main import main
from stackgan.latent.priors import PRIORS
from stackgan.study.latents import MODELS, run
from tests.tiny import TINY

SMALL = {"images": 8, "seeds": 2, "count": 12, "overrides": tuple(TINY), "families": ("nice",), "steps": 5}


def test_the_table_in_miniature(
    few_birds: Path, tiny_features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    numbers = run(out, data=few_birds, features=tiny_features, trust_remote_code=True, **SMALL)  # type: ignore[arg-type]
    assert json.loads((out / "numbers.json").read_text()) == numbers
    assert set(numbers["modules"]) == {*MODELS, "nice"} and (out / "latents.png").is_file()
    for module, found in numbers["modules"].items():
        assert {"distance", "diversity"} <= set(found)
        assert ("active_units" in found) == (module == "nice" or PRIORS[module].posterior)
        each = [figures["distance"] for figures in numbers["each_seed"][module]]
        assert found["distance"]["mean"] == pytest.approx(sum(each) / 2)
        assert numbers["seconds_to_sample_64"][module] > 0
    # A flow is fitted to the VAE of its seed: equal reconstructions, another prior.
    vae, flow = (numbers["each_seed"][module][1] for module in ("vae", "nice"))
    assert vae["reconstruction"] == pytest.approx(flow["reconstruction"], rel=1e-4)
    assert vae["kl"] != flow["kl"]
    texts = {
        (out / f"{model}-{seed}" / "text" / "model.safetensors").read_bytes() for model in MODELS for seed in (0, 1)
    }
    assert len(texts) == 1  # a common caption encoder
    assert "kernel distance" in capsys.readouterr().out

    again = run(out, data=few_birds, features=tiny_features, trust_remote_code=True, **SMALL)  # type: ignore[arg-type]
    assert again["each_seed"] == numbers["each_seed"]
    assert "training" not in capsys.readouterr().out


def test_what_the_table_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="a standard deviation needs 2"):
        run(tmp_path, seeds=1)
    assert main(["study", "kl", "--out", str(tmp_path), "--images", "3"]) == 2
    assert "--images is an option of the study latents only" in capsys.readouterr().err
