"""Files of the repository about the repository: changelog, citation, guide to contributions."""

import re
from importlib import import_module
from pathlib import Path

import yaml

from stackgan.version import __version__

ROOT = Path(__file__).resolve().parents[1]
FILE = re.compile(r"`((?:stackgan|data_prep|tests|\.ci)/[\w./-]*|\w+\.(?:md|toml))`")


def test_changelog_and_citation_have_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in text and __version__ in text
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__


def test_the_citation_names_the_papers() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert found["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= found.keys()
    values = [reference["identifiers"][0]["value"] for reference in found["references"]]
    assert values == ["arXiv:1710.10916", "arXiv:1612.03242"]


def test_files_and_tables_of_the_guide_exist() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    names = FILE.findall(text)
    assert len(names) > 25 and all((ROOT / name).exists() for name in names)
    for table, file in re.findall(r"`([A-Z]+)` in `(stackgan/[\w/]+)\.py`", text):
        assert getattr(import_module(file.replace("/", ".")), table), table
