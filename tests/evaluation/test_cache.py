"""The cache in a prepared folder: its place, its metadata, and folders where it cannot be written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.attribute_classifier import AttributeClassifier, load_or_train_attribute_classifier
from stackgan.evaluation.cache import evaluation_cache, keep
from stackgan.evaluation.features import FeatureNetwork
from stackgan.evaluation.image_sets import Photos

NETWORK = FeatureNetwork(lambda x: x.float().mean((2, 3)), "means", identity="means-1", preprocessing="none")


def test_everything_is_in_one_folder_that_has_a_readme(
    few_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(few_birds, data)
    shutil.rmtree(data / "cache", ignore_errors=True)
    before = {path.relative_to(data) for path in data.rglob("*")}
    Photos(PreparedFolder.open(data).splits["test"], 64).features(NETWORK)
    monkeypatch.setattr(
        "stackgan.evaluation.attribute_classifier.train_attribute_classifier", lambda *_: AttributeClassifier()
    )
    load_or_train_attribute_classifier(evaluation_cache(data) / "attribute-classifier.safetensors")
    added = {path.relative_to(data) for path in data.rglob("*")} - before
    assert all(path.parts[0] == "cache" for path in added)
    names = {path.relative_to("cache/evaluation").parts[0] for path in added if len(path.parts) > 2}
    assert names == {"README.md", "features", "attribute-classifier.safetensors"}
    text = (data / "cache" / "evaluation" / "README.md").read_text("utf-8")
    assert (
        "stackgan evaluate" in text
        and "may be deleted" in text
        and all(name in text for name in names - {"README.md"})
    )
    shutil.rmtree(data / "cache")
    assert PreparedFolder.open(data).identity == PreparedFolder.open(few_birds).identity
    assert len(Photos(PreparedFolder.open(data).splits["test"], 64).features(NETWORK)) == 12


def test_what_cannot_be_kept_is_measured_all_the_same(few_birds: Path, tmp_path: Path) -> None:
    """A file has the name of the cache folder, as a substitute for a read-only folder."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("dataset.json", "train", "test"):
        (data / name).symlink_to(few_birds / name)
    (data / "cache").write_text("in the way")
    assert evaluation_cache(data) == data / "cache" / "evaluation"
    with pytest.warns(UserWarning, match="cannot be written to"):
        found = Photos(PreparedFolder.open(data).splits["test"], 64).features(NETWORK)
    assert found.features.shape == (12, 3) and torch.isfinite(found.features).all()
    with pytest.warns(UserWarning, match="will be computed again"):
        keep(data / "cache" / "file", b"content")
