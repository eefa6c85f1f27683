"""The evaluation command: colour agreement, the report, what is resumed and cached, FID's name and its weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import stackgan.evaluation.inception as inception
from data_prep.painted import COLOURS, prepare_painted
from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.attribute_classifier import PARTS, PaintedReader, load_or_train_reader, train_reader
from stackgan.evaluation.colour_agreement import chance, colour_agreement, full_caption_rows, read_real
from stackgan.evaluation.colour_words import BASIC
from stackgan.evaluation.distances import distance_table, distances
from stackgan.evaluation.evaluate import SECTIONS
from stackgan.evaluation.features import Described, Features, load_features
from stackgan.evaluation.image_sets import Photos
from stackgan.evaluation.latents import diversity, real_pictures
from stackgan.evaluation.metrics import frechet_distance
from stackgan.evaluation.text_agreement import CompactJudge
from stackgan.pipeline import StackGANPipeline
from stackgan.text.compact import CompactEncoder
from tests.tiny import save_tiny_checkpoint, save_tiny_features, tiny_pipeline


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "painted"
    prepare_painted(folder, count=40, seed=2, test_count=60, workers=1)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def reader() -> PaintedReader:
    return train_reader(count=900, epochs=6)


@pytest.fixture
def quick_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is trained: an untrained reader, and the checkpoint's own encoder as the only judge."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        untrained = PaintedReader()
    monkeypatch.setattr("stackgan.evaluation.evaluate.load_or_train_reader", lambda cache: untrained)
    monkeypatch.setattr("stackgan.evaluation.evaluate.choose_judges", _own_judge)


def _own_judge(pipe: StackGANPipeline, *_: Any, **__: Any) -> dict[str, Any]:
    return {"own": CompactJudge(pipe.text_encoder)} if isinstance(pipe.text_encoder, CompactEncoder) else {}


# --- colours ------------------------------------------------------------------------------------------------


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
    rows, named = full_caption_rows(split, 100)
    captions = [split.captions[row] for row in rows]
    assert len(captions) == 100 and len(set(captions[:60])) > 50
    truth = [[record.parameters[part]["colour"] for part in PARTS] for record in split.records]  # type: ignore[index]
    assert named[:60].tolist() == truth
    many, again = full_caption_rows(split, 5000)  # more than there are: from the start again
    distinct = len(set(many.tolist()))
    assert (many[:100] == rows).all() and (many[distinct : distinct + 100] == rows).all()
    assert (again[distinct : distinct + 100] == named).all()


def test_the_reader_learns_and_is_cached(painted: Path, reader: PaintedReader, tmp_path: Path) -> None:
    """Nine hundred birds make a reader far above chance; the full one (10,000) states its own accuracy when used."""
    photos = Photos(PreparedFolder.open(painted).splits["test"], 64)
    read = read_real(reader, photos)  # chance: 0.09 of colours, 0.25, 0.5 and 0.17 of the others
    assert read["named"] > 0.2 and read["background"] > 0.8 and read["facing"] > 0.65 and read["pose"] > 0.4
    cache = tmp_path / "reader.safetensors"
    first = load_or_train_reader(cache, count=64, epochs=1)
    again = load_or_train_reader(cache, count=64, epochs=1)
    images = photos.shard(0, 4).float() / 127.5 - 1
    with torch.inference_mode():
        assert torch.equal(first(images), again(images))


def test_the_reader_refuses_other_sizes(reader: PaintedReader) -> None:
    with pytest.raises(ValueError, match="takes"):
        reader(torch.zeros(1, 3, 32, 32))


def test_diversity_knows_a_generator_that_ignores_its_seed(painted: Path) -> None:
    pipe = tiny_pipeline(stages=1)
    real = real_pictures(PreparedFolder.open(painted).splits["test"], 60, 64)
    e = pipe.encode(["a red bird", "a bird"])
    assert diversity(pipe, e, real) > 0
    paint = pipe.paint
    pipe.paint = lambda e, seeds, truncation=1.0: paint(e, [0] * len(seeds), truncation)  # type: ignore[method-assign]
    assert diversity(pipe, e, real) == pytest.approx(0, abs=1e-6)


# --- the report ---------------------------------------------------------------------------------------------


def command_for(checkpoint: Path, data: Path, out: Path, *more: str) -> list[str]:
    command = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(data), "--out", str(out)]
    return [*command, "--num", "60", "--device", "cpu", *more]


@pytest.mark.usefixtures("quick_reader")
def test_a_report_of_everything(
    painted: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1, latent=("latent.z=flow", "latent.c=flow"))
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("the train leaves at nine\n\nhe reads the newspaper\n")
    out = tmp_path / "report"
    more = ["--features", str(network), "--unlike", str(sentences), "--flip-reference"]
    assert main(command_for(checkpoint, painted, out, *more)) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["pictures"] == 60 and report["split"] == "test" and report["flip_reference"] is True
    found = {name: section["figures"] for name, section in report["sections"].items()}
    assert all(section["protocol"] for section in report["sections"].values())

    own = found["distances"]["tiny"]
    for column in ("captions", "without text", "without text, c ~ N(0, I)", "training photos"):
        assert own[column]["frechet_distance"] > 0 and np.isfinite(own[column]["kernel_distance"]["value"])
        assert 0 <= own[column]["coverage"] <= 1 and own[column]["manifold_pictures"] <= 60
    assert own["training photos"]["frechet_distance"] < own["captions"]["frechet_distance"]
    assert "120 reference pictures (photos and their mirror images)" in report["sections"]["distances"]["protocol"]
    assert {"features", "pixels"} <= set(found["memorisation"])
    assert found["contact_sheet"]["pictures"] == 49
    assert found["colours"]["generated"]["pictures"] == 60 and 0 <= found["colours"]["generated"]["named"] < 0.4
    assert found["diversity"]["diversity"] >= 0 and found["speed"]["seconds_to_sample_64"] > 0
    told = found["captions_against_sentences"]
    assert told["sentences"] == 2 and told["captions"] == 60 and 0 <= told["area_under_curve"] <= 1
    posterior = found["posterior"]
    assert 0 < posterior["reconstruction"] < 255 and 0 <= posterior["active_units"] <= 8
    assert found["editing"]["pictures"] == 60 and 0 <= found["editing"]["changed"] <= 1
    assert found["text_agreement"]["own"]["random"]["painted"] <= 1 and found["colour_words"]["words"]["pairs"] > 20
    assert set(found["editing"]["kept"]) == {"background", "facing", "pose", "size", "tilt", "scale"}

    assert 0 <= found["best_and_worst"]["inside"] <= 1

    for name in ("samples", "worst", "best", "nearest-closest", "nearest-unpicked", "edits", "alike"):
        assert min(Image.open(out / f"{name}.png").size) >= 200
    assert "Kernel distance (tiny features)" in printed and "report.html" in printed

    tables = (out / "report.md").read_text("utf-8")
    assert "## Distances to real pictures\n\n" in tables and "\n| Kernel distance (tiny features) | " in tables
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<img ") >= 64 + 7 and page.count('src="data:image/jpeg;base64,') == page.count("<img ")
    assert not re.search(r"(src|href)=\"(?!data:|#|[a-z-]+\.png)", page) and "@import" not in page  # loads nothing
    for caption in found["samples"]["captions"]:
        assert f"<figcaption>{caption}</figcaption>" in page
    text = page + json.dumps(report) + printed
    for words in ("must not be put beside a published FID or KID", "FID, KID and Inception score: give --inception"):
        assert words in text
        text = text.replace(words, "")
    assert "FID" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)  # no such name for another network's features


@pytest.mark.usefixtures("quick_reader")
def test_without_options_there_are_figures_too_and_reasons(
    painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    out = tmp_path / "report"
    assert main(command_for(checkpoint, painted, out, "--hide-captions")) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    labels = report["sections"]["samples"]["figures"]["captions"]
    assert all(set(label.split(", ")) <= {*BASIC, "no colour"} for label in labels) and len(set(labels)) > 20
    page = (out / "report.html").read_text("utf-8")
    assert not any(caption in page for caption in PreparedFolder.open(painted).splits["test"].captions)
    assert "pyramid" in report["sections"]["distances"]["figures"]
    missing = report["not_measured"]
    assert "no posterior" in missing["posterior"] and "--unlike" in missing["captions_against_sentences"]
    assert "not measured: give --unlike" in capsys.readouterr().out
    assert "give --unlike" in (out / "report.html").read_text("utf-8")
    assert "edits.png" not in {file.name for file in out.iterdir()}

    # Again: nothing is painted, and every figure but the seconds comes back.
    def refuse(*_: Any) -> Tensor:
        raise AssertionError("painted again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stackgan.evaluation.image_sets.Painted._paint_shard", refuse)
        patch.setattr("stackgan.evaluation.evaluate.SECTIONS", _without("samples"))
        assert main(command_for(checkpoint, painted, out, "--hide-captions")) == 0
    again = json.loads((out / "report.json").read_text("utf-8"))
    del report["sections"]["samples"], report["sections"]["speed"], again["sections"]["speed"]
    assert again == report


def test_figures_have_their_truncation_and_the_pictures_shown_the_recommended_one(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    values = json.loads((checkpoint / "config.json").read_text("utf-8"))
    (checkpoint / "config.json").write_text(json.dumps(values | {"truncation": 0.5}))
    monkeypatch.setattr(
        "stackgan.evaluation.evaluate.SECTIONS",
        [section for section in SECTIONS if section.name in ("samples", "diversity")],
    )
    found, sheets = {}, {}
    for truncation in ("1", "0.5", "0"):
        out = tmp_path / truncation
        assert main(command_for(checkpoint, painted, out, "--truncation", truncation)) == 0
        found[truncation] = json.loads((out / "report.json").read_text("utf-8"))
        sheets[truncation] = {file.name: file.read_bytes() for file in out.glob("*.png")}
    assert sheets["1"]["samples.png"] == sheets["0.5"]["samples.png"] == sheets["0"]["samples.png"]
    assert set(sheets["0.5"]) == {"samples.png"}, "one sheet where the two are the same"
    assert len({sheets["0.5"]["samples.png"], *(sheets[t]["samples-measured.png"] for t in "01")}) == 3
    assert "truncation 0.5, as the checkpoint recommends" in found["1"]["sections"]["samples"]["protocol"]
    spread = {t: report["sections"]["diversity"]["figures"]["diversity"] for t, report in found.items()}
    assert spread["1"] > spread["0.5"] > spread["0"] == 0
    assert [report["truncation"] for report in found.values()] == [1, 0.5, 0]
    assert main(command_for(checkpoint, painted, tmp_path / "other", "--truncation", "3")) == 2


def _without(name: str) -> tuple[Any, ...]:
    return tuple(section for section in SECTIONS if section.name != name)


@pytest.mark.usefixtures("quick_reader")
def test_a_checkpoint_without_text(painted: Path, tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1, text=False)
    assert main(command_for(checkpoint, painted, tmp_path / "report")) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["captions"] == 0 and "without text" in report["not_measured"]["diversity"]
    assert report["sections"]["distances"]["figures"]["pyramid"]["captions"]["frechet_distance"] > 0


@pytest.mark.usefixtures("quick_reader")
def test_what_the_command_refuses(
    painted: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    large = save_tiny_checkpoint(tmp_path / "large", stages=2)
    out = tmp_path / "report"
    cases = [
        (command_for(checkpoint, painted, out, "--split", "nosuch"), "no split 'nosuch'; it has train, test"),
        (command_for(checkpoint, painted, tmp_path / "figures.json"), "the report is a folder"),
        (command_for(checkpoint, painted, out, "--num", "1"), "must be 2 or more"),
        (command_for(checkpoint, painted, out, "--features", str(out)), "feature_net.py and its weights"),
        (command_for(checkpoint, painted, out, "--unlike", str(network / "feature_net.py")), "latent.c=flow"),
        (command_for(large, painted, out), "the checkpoint paints 128 px; prepare with --size 128"),
    ]
    for command, message in cases:
        assert main(command) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


# --- FID and its weights ------------------------------------------------------------------------------------


def test_only_inception_is_called_fid() -> None:
    pytest.importorskip("torch_fidelity")
    generator = torch.Generator().manual_seed(0)
    x, y = (
        Described(torch.randn(80, 6, generator=generator) + shift, torch.randn(80, 5, generator=generator))
        for shift in (0, 1)
    )
    network = Features(lambda levels: levels, "net", identity="net-1", preprocessing="none")
    own = distances(network, x, y)
    assert {"frechet_distance", "kernel_distance", "class_score"} < set(own)
    network.inception = True
    official = distances(network, x, y)
    assert {"FID", "KID", "inception_score"} < set(official) and not {"FID", "KID"} & set(own)
    assert official["FID"] == pytest.approx(own["frechet_distance"], rel=1e-3)
    assert official["KID"]["subset_size"] == 80
    assert official["KID"]["value"] == pytest.approx(own["kernel_distance"]["value"], rel=1e-4)
    for key in ("precision", "recall", "density", "coverage"):
        assert official[key] == own[key]
    header = [row[0] for row in distance_table(network, {"captions": official}).rows]
    assert header[:3] == ["FID", "KID", "Inception score"]


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> type:
    """torch-fidelity's Inception in miniature, with weights whose digest is taken for the true one."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Small(torch.nn.Module):
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert features_list == ["2048", "logits_unbiased"]
            self.weights = torch.load(feature_extractor_weights_path, weights_only=True)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            assert x.dtype == torch.uint8
            pooled = torch.nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)
            return pooled, pooled @ self.weights["w"]

    monkeypatch.setattr(fidelity, "FeatureExtractorInceptionV3", Small)
    return Small


@pytest.mark.usefixtures("quick_reader", "extractor")
def test_inception_from_a_file(painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"w": torch.randn(12, 7, generator=torch.Generator().manual_seed(0)) * 5}, weights)
    import hashlib

    monkeypatch.setattr(inception, "DIGEST", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    out = tmp_path / "report"
    assert main(command_for(checkpoint, painted, out, "--inception", str(weights))) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    figures = report["sections"]["distances"]["figures"]["Inception-v3, torch-fidelity"]["captions"]
    photos = Photos(PreparedFolder.open(painted).splits["test"], 64)
    network = inception.load_inception(str(weights))
    files = sorted((out / "cache").glob("painted-*.npy"))
    pictures = torch.from_numpy(np.concatenate([np.load(file) for file in files])).permute(0, 3, 1, 2)
    expected = frechet_distance(network.describe(pictures).features, photos.features(network).features)
    assert figures["FID"] == pytest.approx(expected, rel=1e-3) and figures["inception_score"]["value"] >= 1
    assert "299 px" in report["sections"]["distances"]["protocol"]
    assert "FID" in (out / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("quick_reader")
def test_without_the_weights_it_says_what_to_fetch_and_where_to_put_it(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_fidelity")
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    place = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    assert main(command_for(checkpoint, painted, tmp_path / "report", "--inception", "auto")) == 2
    said = capsys.readouterr().err
    assert "https://github.com/toshas/torch-fidelity/releases/" in said and str(place) in said and "no route" in said
    assert not (tmp_path / "report").exists()  # told before anything is painted

    assert main(command_for(checkpoint, painted, tmp_path / "report", "--inception", str(tmp_path / "none.pth"))) == 2
    assert "none.pth: not there; fetch https://" in capsys.readouterr().err
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"half a file")
    assert main(command_for(checkpoint, painted, tmp_path / "report", "--inception", "auto")) == 2
    assert "not the Inception weights of FID" in capsys.readouterr().err


def test_inception_without_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match=re.escape('pip install "stackgan[eval]"')):
        inception.load_inception("auto")


def test_feature_networks_are_known_by_code_and_weights(network: Path, tmp_path: Path) -> None:
    first = load_features(network)
    other = save_tiny_features(tmp_path)
    assert load_features(other).identity == first.identity and first.name == "tiny"
    (other / "tiny.safetensors").write_bytes(b"other")
    assert load_features(other).identity != first.identity
    (other / "more.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds 2 \.safetensors"):
        load_features(other)


def test_probabilities_and_logits_become_log_probabilities() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]])
    as_probabilities = Features(lambda x: (x.flatten(1), logits.softmax(1)), "a", identity="a", preprocessing="")
    as_logits = Features(lambda x: (x.flatten(1), logits), "b", identity="b", preprocessing="", inception=True)
    levels = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    pair = [network.describe(levels).log_probs for network in (as_probabilities, as_logits)]
    assert pair[0] is not None and pair[1] is not None
    assert torch.allclose(pair[0], logits.log_softmax(1), atol=1e-5) and torch.allclose(pair[0], pair[1], atol=1e-5)
