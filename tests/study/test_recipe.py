"""Ablation of the recipe: a small complete run, its cache, rejected arguments."""

import json
from pathlib import Path

import pytest

from stackgan.cli.main import main
from stackgan.config import preset
from stackgan.study.recipe import ROWS, run
from tests.tiny import TINY


def test_the_table_in_miniature(
    few_birds: Path, tiny_features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out, rows = tmp_path / "out", ("legacy", "modern", "no gradient penalty")
    keys = (*TINY, "optim.standing=16")  # 2,048 in the rows of modern
    small = {"minutes": 1e-6, "seeds": 2, "rows": rows, "count": 12, "overrides": keys}
    numbers = run(out, data=few_birds, features=tiny_features, trust_remote_code=True, **small)  # type: ignore[arg-type]
    assert json.loads((out / "numbers.json").read_text()) == numbers
    assert tuple(numbers["rows"]) == rows and (out / "recipe.png").is_file()
    for each in numbers["rows"].values():
        assert len(each) == 2
        for figures in each:
            assert figures["distance"] == min(figures["average"], figures["live"]) and figures["images"] > 0
    runs = [out / f"{row}-{seed}" for row in ("legacy", "modern") for seed in (0, 1)]
    texts = {(folder / "text" / "model.safetensors").read_bytes() for folder in runs}
    assert len(texts) == 1  # a common caption encoder
    assert "kernel distance of the better generator" in capsys.readouterr().out

    assert run(out, data=few_birds, features=tiny_features, trust_remote_code=True, **small) == numbers  # type: ignore[arg-type]
    assert "training" not in capsys.readouterr().out


def test_every_row_is_a_departure() -> None:
    modern = preset("modern")
    configs = {row: preset(name, keys) for row, (name, keys) in ROWS.items()}
    assert configs["modern"] == modern
    assert all(config != modern for row, config in configs.items() if row != "modern")


def test_what_the_table_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="needs --data"):
        run(tmp_path)
    assert main(["study", "recipe", "--out", str(tmp_path), "--images", "3"]) == 2
    assert "--images is an option of the study latents only" in capsys.readouterr().err
