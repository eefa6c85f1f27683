"""Checkpoints on the model hub: upload, download, cache, revisions, files that are never downloaded, errors."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from stackgan.cli.main import main
from stackgan.config.facts import MeasuredFacts
from stackgan.pipeline import StackGANPipeline
from tests.fake_hub import TOKEN, FakeHub, fake_hub
from tests.tiny import CAPTIONS, save_tiny_checkpoint, tiny_pipeline

NAME = "user/birds"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with fake_hub(tmp_path / "cache") as server:
        yield server


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _image(pipe: StackGANPipeline) -> np.ndarray:
    return np.asarray(pipe(CAPTIONS[0], seeds=3).images[0], np.float32)


def test_what_is_pushed_is_loaded_with_its_card_and_figures(hub: FakeHub) -> None:
    pipe = tiny_pipeline(stages=1)
    pipe.facts = replace(pipe.facts, measured=(MeasuredFacts("By hand:", {"distance": "0.25"}),))
    assert pipe.push_to_hub(NAME, token=TOKEN, private=True) == f"{hub.url}/{NAME}"
    card = hub.files(NAME)["README.md"].decode()
    assert card.startswith("---\nlibrary_name: stackgan\npipeline_tag: text-to-image\n")
    assert "By hand:\n\n| figure | value |\n|---|---|\n| distance | 0.25 |\n" in card
    loaded = StackGANPipeline.from_pretrained(NAME, device="cpu")
    assert loaded.facts == pipe.facts and loaded.card == card
    assert np.abs(_image(loaded) - _image(pipe)).mean() < 1, "half precision"


def test_the_cache_comes_before_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipeline(stages=1).push_to_hub(NAME, token=TOKEN)
    first = StackGANPipeline.from_pretrained(NAME, device="cpu")
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert StackGANPipeline.from_pretrained(NAME, device="cpu").fingerprint == first.fingerprint
    assert len(hub.requests) == asked


def test_a_cache_without_the_weights_is_completed(hub: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    tiny_pipeline(stages=1).push_to_hub(NAME, token=TOKEN)
    hf_hub_download(NAME, "config.json")
    assert StackGANPipeline.from_pretrained(NAME, device="cpu").sizes == (64,)


def test_a_folder_of_the_same_name_comes_before_the_hub(hub: FakeHub) -> None:
    save_tiny_checkpoint(Path(NAME), stages=1)
    assert StackGANPipeline.from_pretrained(NAME, device="cpu").sizes == (64,)
    assert hub.requests == []


def test_revisions(hub: FakeHub) -> None:
    tiny_pipeline(seed=0, stages=1).push_to_hub(NAME, token=TOKEN)
    first = hub.branches[NAME]["main"]
    tiny_pipeline(seed=1, stages=1).push_to_hub(NAME, token=TOKEN, revision="next")
    main_, next_, commit = (
        StackGANPipeline.from_pretrained(NAME, revision=revision, device="cpu").fingerprint
        for revision in (None, "next", first)
    )
    assert main_ == commit != next_
    with pytest.raises(FileNotFoundError, match=r"not available from the hub \(it has no revision 'v9'\)"):
        StackGANPipeline.from_pretrained(NAME, revision="v9")


def test_only_tensors_json_and_text_are_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    others = (
        "modeling.py",
        "pytorch_model.bin",
        "text/tokenizer.pkl",
        "text/modeling.py",
        "samples.png",
        "notes.txt",
    )
    files = _tree(save_tiny_checkpoint(tmp_path / "local", stages=1))
    hub.commit(NAME, files | dict.fromkeys(others, b"raise SystemExit('this code was executed')"))
    StackGANPipeline.from_pretrained(NAME, device="cpu")
    assert not [path for _, path in hub.requests if path.endswith(others)]
    (snapshot,) = (tmp_path / "cache").glob("models--user--birds/snapshots/*")
    assert {str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()} == set(files)


def test_a_push_replaces_the_checkpoint_and_keeps_other_files(hub: FakeHub, tmp_path: Path) -> None:
    old = {"discriminators.safetensors": b"", "text/old.json": b"", "LICENSE": b"mine", "README.md": b"# old\n"}
    hub.commit(NAME, old)
    pipe = StackGANPipeline.from_pretrained(save_tiny_checkpoint(tmp_path / "local", stages=1))
    pipe.push_to_hub(NAME, token=TOKEN)
    assert hub.files(NAME).keys() == {*_tree(tmp_path / "local"), "LICENSE"}
    assert hub.files(NAME)["README.md"].endswith(b"---\n\n# tiny, for tests\n"), "the card of the loaded checkpoint"


def test_the_command_line_publishes_and_generates(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    local = str(save_tiny_checkpoint(tmp_path / "local", stages=1))
    assert main(["publish", local, str(tmp_path / "published"), "--push", NAME]) == 0
    assert capsys.readouterr().out.endswith(f"uploaded; load it with --checkpoint {NAME}\n")
    assert hub.files(NAME).keys() >= _tree(tmp_path / "published").keys()
    assert main(["generate", "a red bird", "--checkpoint", NAME, "--seeds", "0", "--out", "made"]) == 0
    assert len(list(Path("made").iterdir())) == 1


def test_what_is_not_there_is_an_error_of_one_line(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit("user/else", {"config.json": b"{}"})

    def refused(name: str) -> str:
        assert main(["generate", "a bird", "--checkpoint", name]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stackgan: ")]
        return line

    assert "user/none: no checkpoint found: no such folder, no bundled checkpoint" in (line := refused("user/none"))
    assert "not available from the hub (no such repository, or a private one" in line
    assert "(the repository has no model.safetensors, so it is not a checkpoint" in refused("user/else")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not available from the hub (" in refused("user/none")


@pytest.mark.parametrize(("name", "token"), [(NAME, "hf_wrong"), (NAME, None), ("a/b/c", TOKEN)])
def test_an_upload_that_fails_is_an_error_with_advice(hub: FakeHub, name: str, token: str | None) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: the upload failed \(.+\); .* log in with hf auth login$"):
        tiny_pipeline(stages=1).push_to_hub(name, token=token)
    assert hub.branches == {}
