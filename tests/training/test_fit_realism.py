"""A realism network fitted to a finished checkpoint: same generator, kept by later commands, rejected arguments."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stackgan.checkpoint import REALISM, load_checkpoint, stored_discriminators
from stackgan.cli.main import main
from stackgan.pipeline import StackGANPipeline
from tests.tiny import save_classifier, save_tiny_checkpoint


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained image classifier as a folder."""
    return save_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def published(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "checkpoint"
    assert main(["publish", str(finished_run / "checkpoint"), str(out), "--discriminators", str(finished_run)]) == 0
    return out


def arguments(checkpoint: Path, data: Path, classifier: Path, out: Path) -> list[str]:
    words = ["fit-realism", "--checkpoint", str(checkpoint), "--data", str(data), "--features", str(classifier)]
    return [*words, "--out", str(out), "--images", "40", "--epochs", "2", "--device", "cpu"]


def test_it_is_fitted_and_kept(
    published: Path, few_birds: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again, priors = tmp_path / "fitted", tmp_path / "published", tmp_path / "priors"
    capsys.readouterr()
    assert main(arguments(published, few_birds, classifier, out)) == 0
    figures = json.loads(capsys.readouterr().out)
    assert -1 <= figures["correlation"] <= 1 and figures["chosen"] <= figures["best"]
    before, after = load_checkpoint(published), load_checkpoint(out)
    assert before.realism is None and after.realism is not None and float(after.realism.agreement) > 0
    assert all(torch.equal(before.weights[name], tensor) for name, tensor in after.weights.items())
    kept = stored_discriminators(out)
    assert kept is not None and kept.keys() == (stored_discriminators(published) or {}).keys()

    assert main(["publish", str(out), str(again)]) == 0
    fit = ["fit-prior", "--checkpoint", str(again), "--data", str(few_birds), "--out", str(priors)]
    assert main([*fit, "--steps", "2"]) == 0
    identities = [load_checkpoint(folder).realism.identity for folder in (again, priors)]  # type: ignore[union-attr]
    assert identities[0] == identities[1]  # in half precision
    pipe = StackGANPipeline.from_pretrained(priors, device="cpu")
    assert pipe("a red bird", seeds=3, best_of=4).seeds[0] in range(12, 16)


def test_the_same_command_gives_the_same_bytes(
    published: Path, few_birds: Path, classifier: Path, tmp_path: Path, one_thread: None
) -> None:
    for name in "ab":
        assert main(arguments(published, few_birds, classifier, tmp_path / name)) == 0
    assert (tmp_path / "a" / REALISM).read_bytes() == (tmp_path / "b" / REALISM).read_bytes()


def test_damaged_files_are_named(published: Path, few_birds: Path, classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "fitted"
    assert main(arguments(published, few_birds, classifier, out)) == 0
    (out / REALISM).write_bytes((out / REALISM).read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"realism\.safetensors: damaged"):
        load_checkpoint(out)
    save_file({"stem.weight": torch.zeros(8, 3, 4, 4)}, out / REALISM)
    with pytest.raises(ValueError, match=r"realism\.safetensors: .* does not fit"):
        load_checkpoint(out)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--images", "8"], "give 16 images and 1 epoch or more"),
        (["--epochs", "0"], "give 16 images and 1 epoch or more"),
        (["--features", "resnet-of-dreams"], "is unknown"),
        (["--data", "nowhere"], "nowhere"),
        (["--checkpoint", "nowhere"], "nowhere"),
    ],
)
def test_unusable_arguments_are_refused_in_words(
    published: Path,
    few_birds: Path,
    classifier: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    assert main([*arguments(published, few_birds, classifier, tmp_path / "out"), *more]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_checkpoint_without_text_is_refused(
    few_birds: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    textless = save_tiny_checkpoint(tmp_path / "textless", text=False)
    assert main(arguments(textless, few_birds, classifier, tmp_path / "out")) == 2
    assert "without text" in capsys.readouterr().err
