"""Schema of a checkpoint's facts: old files are read, round trips are exact, errors name the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from stackgan.checkpoint import load_checkpoint
from stackgan.config.facts import (
    CheckpointFacts,
    DataFacts,
    FittedPriorFacts,
    MeasuredFacts,
    PriorFitFacts,
    TrainingFacts,
)
from tests.tiny import change_header, save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(file.parent for file in (ROOT / "checkpoints").glob("*/config.json"))

EVERYTHING = CheckpointFacts(
    examples=("a red bird",),
    data=DataFacts("cub", "0f" * 32, images=10, captions=100),
    trained=TrainingFacts(steps=3, images=48, seconds=7, device="cpu"),
    started_from=TrainingFacts(images=16),
    averaged=(TrainingFacts(1, 16, 2), TrainingFacts()),
    fitted_prior=FittedPriorFacts("glow", 30, z=PriorFitFacts(0.9, 1.4, 8.0), c=PriorFitFacts(1.3, 3.2)),
    truncation=0.7,
    imported={"netG_1.pth": "ab"},
    measured=(MeasuredFacts("By hand:", {"kernel distance": "0.1 ± 0.0"}), MeasuredFacts("During training:", {})),
)


def _header(folder: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return {key: value for key, value in header.items() if key not in ("format", "stackgan", "config")}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_facts_of_every_bundled_checkpoint_are_read_and_written_unchanged(folder: Path) -> None:
    header = _header(folder)
    facts = CheckpointFacts.from_dict(header, str(folder))
    assert facts.to_dict() == header
    assert facts.trained is not None and facts.trained.images == header["trained"]["images"]


@pytest.mark.parametrize("facts", [EVERYTHING, CheckpointFacts(), CheckpointFacts(started_from=TrainingFacts())])
def test_json_gives_back_what_was_written(facts: CheckpointFacts) -> None:
    assert CheckpointFacts.from_dict(json.loads(json.dumps(facts.to_dict())), "here") == facts
    assert None not in facts.to_dict().values()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("traind", {}, "unknown config key 'traind': did you mean 'trained'?"),
        ("trained", {"images": 3, "epochs": 1}, "unknown config key 'trained.epochs'"),
        ("trained", {"images": "many"}, "trained.images is 'many': it must be of type int"),
        ("trained", {"images": 1.5}, "trained.images is 1.5: it must be of type int"),
        ("started_from", 16, "started_from is int, not a table of keys"),
        ("averaged", [{"steps": 1}, {"steps": True}], "averaged[1].steps is True: it must be of type int"),
        ("averaged", {"steps": 1}, "averaged is {'steps': 1}: it must be of type list"),
        ("examples", ["a bird", 3], "examples[1] is 3: it must be of type str"),
        ("data", {"kind": "cub", "images": 1, "captions": 1}, "data.identity is missing"),
        (
            "fitted_prior",
            {"z": {"nats_per_dimension_flow": 1}},
            "fitted_prior.z.nats_per_dimension_gaussian is missing",
        ),
        ("imported", {"netG.pth": 1}, "imported.netG.pth is 1: it must be of type str"),
        ("measured", [{"protocol": "By hand:", "figures": {"distance": 0.1}}], "measured[0].figures.distance is 0.1"),
        ("truncation", "0.7", "truncation is '0.7': it must be of type float"),
    ],
)
def test_a_wrong_fact_is_refused_with_its_file_and_key(
    key: str, value: object, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("facts") / "tiny", stages=1, text=False)
    change_header(folder, lambda header: header.update({key: value}))
    with pytest.raises(ValueError) as caught:
        load_checkpoint(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: ") and words in str(caught.value)
