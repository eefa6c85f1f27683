"""Colour agreement on painted birds: the measure on cases with a known answer, the reader, the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.painted import COLOURS, draw, prepare_painted, random_painting
from stackgan.cli import main
from stackgan.data import centre_crops
from stackgan.evaluate import chance, colour_agreement, full_captions, read_real
from stackgan.latent_figures import diversity, real_pictures
from stackgan.metrics import kernel_distance
from stackgan.prepared import PreparedFolder
from stackgan.reader import PARTS, PaintedReader, load_or_train_reader, train_reader
from tests.tiny import save_tiny_checkpoint, save_tiny_features, tiny_pipeline


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=4, seed=2, test_count=60, workers=1)
    return folder


@pytest.fixture(scope="module")
def reader() -> PaintedReader:
    return train_reader(count=900, epochs=6)


def test_agreement_of_identical_disjoint_and_shuffled() -> None:
    rng = np.random.default_rng(0)
    named = rng.choice(COLOURS, (4000, 3))
    assert colour_agreement(named, named).named == 1.0
    wrong = np.array(COLOURS)[(np.searchsorted(np.sort(COLOURS), named) + 1) % len(COLOURS)]
    wrong = np.where(wrong == named, "none", wrong)
    assert colour_agreement(wrong, named).named == 0.0
    shuffled = colour_agreement(np.roll(named, 1, axis=0), named)
    assert abs(shuffled.named - 1 / len(COLOURS)) < 0.02
    assert abs(chance(named) - 1 / len(COLOURS)) < 0.01


def test_held_out_combinations_are_counted_by_themselves() -> None:
    named = np.array(
        [["red", "green", "white"], ["red", "white", "black"]]
    )  # red crown with green breast is held out
    found = np.array([["red", "blue", "white"], ["red", "white", "black"]])
    agreement = colour_agreement(found, named)
    assert agreement.held_out == 0.5 and agreement.all_three == 0.5 and agreement.parts["breast"] == 0.5


def test_full_captions_name_the_truth(painted: Path) -> None:
    split = PreparedFolder.open(painted).splits["test"]
    captions, named = full_captions(split, 100)
    assert len(captions) == 100 and len(set(captions[:60])) > 50
    truth = [[record.parameters[part]["colour"] for part in PARTS] for record in split.records]  # type: ignore[index]
    assert named[:60].tolist() == truth
    with pytest.raises(ValueError, match="--num asks for 5000"):
        full_captions(split, 5000)


def test_the_reader_learns_and_is_cached(painted: Path, reader: PaintedReader, tmp_path: Path) -> None:
    """Nine hundred birds make a reader far above chance; the full one (10,000) states its own accuracy when used."""
    split = PreparedFolder.open(painted).splits["test"]
    read = read_real(reader, split)  # chance: 0.09 of colours, 0.25, 0.5 and 0.17 of the others
    assert read["named"] > 0.2 and read["background"] > 0.8 and read["facing"] > 0.65 and read["pose"] > 0.4
    cache = tmp_path / "reader.safetensors"
    first = load_or_train_reader(cache, count=64, epochs=1)
    again = load_or_train_reader(cache, count=64, epochs=1)
    images = centre_crops(split.images[:4])
    with torch.inference_mode():
        assert torch.equal(first(images), again(images))


def test_the_reader_refuses_other_sizes(reader: PaintedReader) -> None:
    with pytest.raises(ValueError, match="takes"):
        reader(torch.zeros(1, 3, 32, 32))


def test_crops_are_the_middle() -> None:
    image = draw(random_painting(np.random.default_rng(0), held_out=False), 76)
    middle = centre_crops(image[None])
    assert middle.shape == (1, 3, 64, 64)
    assert torch.allclose((middle[0, :, 0, 0] + 1) * 127.5, torch.from_numpy(image[6, 6]).float(), atol=1e-3)


def test_evaluate_prints_and_writes_the_figures(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stackgan.evaluate.load_or_train_reader", lambda cache: PaintedReader())
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    command = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(painted), "--num", "60", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "figures.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "figures.json").read_text())
    assert printed["generated"]["pictures"] == 60
    assert 0 <= printed["generated"]["named"] < 0.4 and 0 <= printed["shuffled_control"]["named"] < 0.4

    assert printed["pictures"] == 60 and printed["seconds_to_sample_64"] > 0 and printed["diversity"] >= 0
    assert "distance" not in printed and "posterior" not in printed

    assert main([*command, "--split", "nosuch"]) == 2
    assert "no split 'nosuch'; it has train, test" in capsys.readouterr().err


# --- distances and latent modules ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_features(tmp_path_factory.mktemp("features"))


def test_kernel_distance_is_the_unbiased_mmd() -> None:
    """Against the definition written out, pair by pair, on all rows."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 3, generator=generator).double(), torch.randn(7, 3, generator=generator).double() + 1

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(k(s[i], s[j]) for s in (x, y) for i, j in pairs if i != j) / 42
    between = sum(k(x[i], y[j]) for i, j in pairs) / 49
    found = kernel_distance(x, y, subsets=3, size=7)
    assert found.value == pytest.approx(within - 2 * between, rel=1e-9) and found.error < 1e-9


def test_kernel_distance_orders_and_its_error_shrinks() -> None:
    generator = torch.Generator().manual_seed(1)
    x, same, near, far = (torch.randn(1500, 16, generator=generator) + shift for shift in (0, 0, 0.3, 1.0))
    distances = [kernel_distance(x, other, size=300) for other in (same, near, far)]
    assert abs(distances[0].value) < 4 * distances[0].error < distances[1].value < distances[2].value
    assert (
        kernel_distance(x, near, size=300, subsets=100).error < kernel_distance(x, near, size=300, subsets=10).error
    )
    for a, b in ((x, x[:, :3]), (x[:1], x)):
        with pytest.raises(ValueError, match="must be"):
            kernel_distance(a, b)


def test_evaluate_measures_distances_and_latent_modules(
    painted: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stackgan.evaluate.load_or_train_reader", lambda cache: PaintedReader())
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1, latent=("latent.z=flow", "latent.c=flow"))
    command = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(painted), "--num", "60", "--device", "cpu"]
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("the train leaves at nine\n\nhe reads the newspaper\n")
    extra = ["--features", str(network), "--unlike", str(sentences), "--out", str(tmp_path / "figures.json")]
    assert main([*command, *extra]) == 0
    assert Image.open(tmp_path / "figures-edits.png").width > 800
    printed = json.loads(capsys.readouterr().out)
    distance = printed["distance"]
    assert distance["features"] == "tiny" and distance["real_pictures"] == 60
    for name in ("captions", "text_free", "text_free_from_standard_normal"):
        assert np.isfinite(distance[name]["value"]) and distance[name]["error"] >= 0
    told = printed["captions_against_sentences"]
    assert told["sentences"] == 2 and told["captions"] == 60 and 0 <= told["area_under_curve"] <= 1
    assert 0 <= told["area_under_curve_standard_normal"] <= 1
    posterior = printed["posterior"]
    assert 0 < posterior["reconstruction"] < 255 and 0 <= posterior["active_units"] <= 8
    assert np.isfinite(posterior["kl"])
    assert printed["editing"]["pictures"] == 60 and 0 <= printed["editing"]["changed"] <= 1
    assert set(printed["editing"]["kept"]) == {"background", "facing", "pose", "size", "tilt", "scale"}

    assert main([*command, "--features", str(tmp_path / "none")]) == 2
    assert "feature_net.py and its weights" in capsys.readouterr().err


def test_diversity_knows_a_generator_that_ignores_its_seed(painted: Path) -> None:
    pipe = tiny_pipeline(stages=1)
    real = real_pictures(PreparedFolder.open(painted).splits["test"], 60, 64)
    assert diversity(pipe, ["a red bird", "a bird"], real) > 0
    paint = pipe.paint
    pipe.paint = lambda e, seeds, truncation=1.0: paint(e, [0] * len(seeds), truncation)  # type: ignore[method-assign]
    assert diversity(pipe, ["a red bird", "a bird"], real) == pytest.approx(0, abs=1e-6)
