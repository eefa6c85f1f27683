"""The list of all keys, and that its YAML and JSON are a configuration file."""

import json
from pathlib import Path

import pytest

from stackgan.cli.main import main
from stackgan.config import PRESETS, Config, preset
from stackgan.config.listing import as_text, as_yaml, config_keys
from stackgan.io.yaml_reader import read_yaml


def test_every_key_has_a_type_and_a_meaning() -> None:
    keys = list(config_keys(Config()))
    sections = {name: values for name, values in Config().to_dict().items() if isinstance(values, dict)}
    assert [key.name for key in keys] == [f"{name}.{key}" for name, values in sections.items() for key in values]
    assert {key.kind for key in keys} == {"int", "float", "str", "bool"}
    assert [key.name for key in keys if not key.meaning] == []
    assert not any("``" in key.meaning or ":mod:" in key.meaning for key in keys)


@pytest.mark.parametrize("name", PRESETS)
def test_the_output_is_a_configuration_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", name, "--format", "yaml"]) == 0
    (tmp_path / "a.yaml").write_text(capsys.readouterr().out, "utf-8")
    values = read_yaml(tmp_path / "a.yaml")
    assert Config.from_dict(values) == PRESETS[name]
    assert [[*table] for table in values.values() if isinstance(table, dict)] == [
        [*table] for table in PRESETS[name].to_dict().values() if isinstance(table, dict)
    ]
    assert main(["config", name, "optim.batch_size=8", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["optim"]["batch_size"] == 8


def test_the_text_names_type_value_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert shown == as_text(preset("modern"))
    assert "\noptim.batch_size  int = 16\n    images of a step, 2 or more.\n" in shown
    assert "# int: number of resolutions" in as_yaml(Config())


def test_an_unknown_preset_or_key_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "nosuch"]) == 2
    assert capsys.readouterr().err == ("stackgan: unknown preset 'nosuch': choose from legacy, quickstart, modern\n")
    assert main(["config", "modern", "optim.batchsize=8"]) == 2
    assert "did you mean 'optim.batch_size'?" in capsys.readouterr().err
