"""`train --config`: YAML and JSON, overrides, and messages."""

import json
from pathlib import Path

import pytest

from data_prep.painted import prepare_painted
from stackgan.cli.main import main
from stackgan.config import PRESETS, with_overrides


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=20, seed=0, test_count=20, workers=1)
    return folder


def _dry_run(data: Path, file: Path, *more: str) -> int:
    run = file.parent / "run"
    command = ["train", "--data", str(data), "--run", str(run), "--config", str(file), "--device", "cpu", "--dry-run"]
    return main([*command, *more])


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json"])
def test_a_file_is_the_configuration_and_overrides_win(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    values = {"preset": "quickstart", "optim": {"batch_size": 8, "lr_generator": 1}, "train": {"images": 64}}
    text = json.dumps(values)
    if name != "a.json":
        text = "preset: quickstart\noptim:\n  batch_size: 8\n  lr_generator: 1\ntrain: {images: 64}\n"
    file.write_text(text, "utf-8")
    assert _dry_run(data, file, "optim.batch_size=4") == 0
    changes = ["optim.batch_size=4", "optim.lr_generator=1", "train.images=64"]
    assert json.loads(capsys.readouterr().out) == with_overrides(PRESETS["quickstart"], changes).to_dict()


WRONG = {
    "key": ("a.yaml", "optim:\n  batchsize: 8\n", "unknown config key 'optim.batchsize': did you mean"),
    "section": ("a.yaml", "optimizer:\n  batch_size: 8\n", "unknown config key 'optimizer': did you mean 'optim'"),
    "type": ("a.yaml", "optim:\n  batch_size: '8'\n", "optim.batch_size is '8': it must be of type int"),
    "no": ("a.yaml", "optim:\n  compile: no\n", "optim.compile is 'no': it must be of type bool"),
    "range": ("a.yaml", "optim:\n  batch_size: 1\n", "optim.batch_size is 1: it must be 2 or more"),
    "null": ("a.yaml", "optim:\n", "optim is NoneType, not a table of keys"),
    "infinity": ("a.yaml", "optim:\n  lr_generator: .inf\n", "a.yaml:2: .inf is not a finite number"),
    "twice": ("a.yaml", "optim: {beta1: 0}\noptim: {beta1: 1}\n", "a.yaml:2: key 'optim' appears twice"),
    "json twice": ("a.json", '{"optim": {"beta1": 0, "beta1": 0}}', "key 'beta1' appears twice"),
    "json infinity": ("a.json", '{"optim": {"beta1": Infinity}}', "Infinity is not a finite number"),
    "list": ("a.yaml", "- 1\n", "holds no table of keys"),
    "empty": ("a.yaml", "", "holds no table of keys"),
    "preset": ("a.yaml", "preset: [1]\n", "preset is [1]: choose from"),
    "kind": ("a.toml", "", "the extension of a configuration is .yaml, .yml, .json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_one_sentence(
    case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, text, said = WRONG[case]
    (tmp_path / name).write_text(text, "utf-8")
    assert _dry_run(data, tmp_path / name) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error and str(tmp_path / name) in error


def test_a_file_and_a_preset_exclude_each_other(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("preset: modern\n")
    assert _dry_run(data, tmp_path / "a.yaml", "--preset", "modern") == 2
    assert "without --preset and --start-from" in capsys.readouterr().err
    assert _dry_run(data, tmp_path / "nosuch.yaml") == 2
    assert "nosuch.yaml: no such file" in capsys.readouterr().err
