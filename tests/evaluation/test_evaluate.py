"""The evaluation command: the report, resuming, rejected arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from stackgan.cli.main import main
from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation import sections
from stackgan.evaluation.colour_measure import COLOUR_ORDER
from stackgan.evaluation.evaluate import SECTIONS, Section
from stackgan.evaluation.settings import EvaluationSettings
from tests.evaluation.command import command_for
from tests.tiny import save_tiny_checkpoint


@pytest.mark.usefixtures("untrained_networks")
def test_a_report_of_everything(
    painted: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1, latent=("latent.z=flow", "latent.c=flow"))
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("the train leaves at nine\n\nhe reads the newspaper\n")
    out = tmp_path / "report"
    more = ["--features", str(network), "--trust-remote-code", "--out-of-domain", str(sentences), "--flip-reference"]
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
    assert "120 reference images (photos and their mirror images)" in report["sections"]["distances"]["protocol"]
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
    assert "## Distances to real images\n\n" in tables and "\n| Kernel distance (tiny features) | " in tables
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<img ") >= 64 + 7 and page.count('src="data:image/jpeg;base64,') == page.count("<img ")
    assert not re.search(r"(src|href)=\"(?!data:|#|[a-z-]+\.png)", page) and "@import" not in page  # self-contained
    for caption in found["samples"]["captions"]:
        assert f"<figcaption>{caption}</figcaption>" in page
    text = page + json.dumps(report) + printed
    for words in ("but not with a published FID or KID", "FID, KID and Inception score: give --inception"):
        assert words in text
        text = text.replace(words, "")
    assert "FID" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)  # reserved for Inception's features


@pytest.mark.usefixtures("untrained_networks")
def test_without_options_there_are_figures_too_and_reasons(
    painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    out = tmp_path / "report"
    assert main(command_for(checkpoint, painted, out, "--hide-captions")) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    labels = report["sections"]["samples"]["figures"]["captions"]
    assert all(set(label.split(", ")) <= {*COLOUR_ORDER, "no colour"} for label in labels) and len(set(labels)) > 20
    page = (out / "report.html").read_text("utf-8")
    assert not any(caption in page for caption in PreparedFolder.open(painted).splits["test"].captions)
    assert "pyramid" in report["sections"]["distances"]["figures"]
    missing = report["not_measured"]
    assert "no posterior" in missing["posterior"] and "--out-of-domain" in missing["captions_against_sentences"]
    assert "not measured: pass --out-of-domain" in capsys.readouterr().out
    assert "pass --out-of-domain" in (out / "report.html").read_text("utf-8")
    assert "edits.png" not in {file.name for file in out.iterdir()}

    # Again: nothing is generated, and all results except the seconds are equal.
    def refuse(*_: Any) -> Tensor:
        raise AssertionError("generated again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stackgan.evaluation.image_sets.GeneratedImages._generate_shard", refuse)
        patch.setattr("stackgan.evaluation.evaluate.SECTIONS", _without("samples"))
        assert main(command_for(checkpoint, painted, out, "--hide-captions")) == 0
    again = json.loads((out / "report.json").read_text("utf-8"))
    del report["sections"]["samples"], report["sections"]["speed"], again["sections"]["speed"]
    assert again == report


def test_figures_have_their_truncation_and_the_samples_shown_the_recommended_one(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    values = json.loads((checkpoint / "config.json").read_text("utf-8"))
    (checkpoint / "config.json").write_text(json.dumps(values | {"truncation": 0.5}))
    monkeypatch.setattr(
        "stackgan.evaluation.evaluate.SECTIONS",
        {name: SECTIONS[name] for name in ("samples", "diversity")},
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


def _without(left_out: str) -> dict[str, Section]:
    return {name: section for name, section in SECTIONS.items() if name != left_out}


@pytest.mark.usefixtures("untrained_networks")
def test_a_checkpoint_without_text(painted: Path, tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1, text=False)
    assert main(command_for(checkpoint, painted, tmp_path / "report")) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["captions"] == 0 and "without text" in report["not_measured"]["diversity"]
    assert report["sections"]["distances"]["figures"]["pyramid"]["captions"]["frechet_distance"] > 0


@pytest.mark.usefixtures("untrained_networks")
def test_what_the_command_refuses(
    painted: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    large = save_tiny_checkpoint(tmp_path / "large", stages=2)
    out, empty = tmp_path / "report", tmp_path / "empty"
    empty.mkdir()
    cases = [
        (command_for(checkpoint, painted, out, "--split", "nosuch"), "no split 'nosuch'; it has train, test"),
        (command_for(checkpoint, painted, tmp_path / "figures.json"), "the report is a folder"),
        (command_for(checkpoint, painted, out, "--num", "1"), "must be 2 or more"),
        (command_for(checkpoint, painted, out, "--features", str(empty)), "feature_net.py and its weights"),
        (command_for(checkpoint, painted, out, "--features", str(network)), "give --trust-remote-code"),
        (command_for(checkpoint, painted, out, "--out-of-domain", str(network / "feature_net.py")), "latent.c=flow"),
        (command_for(large, painted, out), "the checkpoint generates 128 px; prepare with --size 128"),
    ]
    for command, message in cases:
        assert main(command) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("old, new", [("--judge", "--scorer"), ("--unlike", "--out-of-domain")])
def test_old_spellings_of_flags_are_accepted(
    old: str, new: str, painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", stages=1)
    said = []
    for flag in (old, new):
        assert main(command_for(checkpoint, painted, tmp_path / "report", flag, str(tmp_path / "nothing"))) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] and ("nothing" in said[0] or "--out-of-domain" in said[0])
    assert (
        not (tmp_path / "report").exists() and not (painted / "cache" / "evaluation" / "image-text-scorer").exists()
    )


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, message",
    [
        ({"count": 1}, "must be 2 or more"),
        ({"truncation": 2.5}, "truncation 2.5 is out of range"),
        ({"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_settings_are_checked_when_they_are_made(values: dict[str, Any], message: str) -> None:
    assert EvaluationSettings().count == 30_000
    with pytest.raises(ValueError, match=message):
        EvaluationSettings(**values)


def test_the_table_holds_every_file_of_sections_and_nothing_else_does() -> None:
    files = {file.stem for file in Path(sections.__file__).parent.glob("*.py")} - {"__init__"}
    modules = [section.measure.__module__.rpartition(".")[2] for section in SECTIONS.values()]
    assert set(modules) == files and len(modules) == len(files)
