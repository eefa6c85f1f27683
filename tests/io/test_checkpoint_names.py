"""Names of checkpoints: the order of folder, bundled name and hub, and errors that list what was tried."""

from pathlib import Path

import pytest

from stackgan.io import checkpoint_names
from stackgan.io.checkpoint_names import bundled_checkpoints, default_checkpoint, find_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def test_a_folder_comes_before_a_bundled_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("painted-64") == ROOT / "checkpoints" / "painted-64"
    (tmp_path / "painted-64").mkdir()
    assert find_checkpoint("painted-64") == Path("painted-64")


def test_the_default_depends_on_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_checkpoint() == "birds-256"
    package = tmp_path / "site-packages" / "stackgan"
    for folder in (package / "bundled" / "painted-64", package.parent / "checkpoints" / "of-another-package"):
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    monkeypatch.setattr(checkpoint_names, "__file__", str(package / "io" / "checkpoint_names.py"))
    bundled_checkpoints.cache_clear()
    try:
        assert (default_checkpoint(), list(bundled_checkpoints())) == ("painted-64", ["painted-64"])
    finally:
        bundled_checkpoints.cache_clear()


@pytest.mark.parametrize(
    "name", ["nosuch", "/nosuch/folder", "./user/name", "~/nosuch", "runs/mine/checkpoint", "here/nosuch"]
)
def test_a_name_that_is_no_repository_is_not_looked_for_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find_checkpoint(name)
    said = str(caught.value)
    assert said.startswith(f"{name}: no checkpoint found: no such folder, no bundled checkpoint of this name (birds-")
    assert "from the hub" not in said and said.endswith("or a hub repository user/name")


def test_a_revision_is_for_the_hub_alone() -> None:
    with pytest.raises(ValueError, match=r"^painted-64: is the folder .*, which has no revision 'v1': leave it out"):
        find_checkpoint("painted-64", "v1")
