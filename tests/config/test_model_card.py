"""Model cards: what is known is in them, figures go into one section, and cards written by hand keep their text."""

from stackgan.config import preset
from stackgan.config.facts import CheckpointFacts, DataFacts, MeasuredFacts, TrainingFacts
from stackgan.config.model_card import NONE_MEASURED, model_card, with_measured, with_metadata

MEASURED = CheckpointFacts(measured=(MeasuredFacts("On 10 photos:", {"distance": "0.1 ± 0", "diversity": "0.9"}),))
TABLE = "## Measured\n\nOn 10 photos:\n\n| figure | value |\n|---|---|\n| distance | 0.1 ± 0 |\n| diversity | 0.9 |\n"


def test_a_card_has_all_that_is_known() -> None:
    facts = CheckpointFacts(
        data=DataFacts("painted", "ab" * 32, images=10, captions=100),
        trained=TrainingFacts(steps=3, images=4800, seconds=90, device="cpu"),
        started_from=TrainingFacts(images=16),
        truncation=0.7,
        measured=MEASURED.measured,
    )
    card = model_card(preset("quickstart"), facts)
    assert "| data | 10 images, 100 captions (painted), identity `abababababababab` |" in card
    assert "| trained | 4,800 images seen in 3 steps, 2 minutes on cpu |" in card
    assert "| started from | a checkpoint: 16 images seen in an unknown number of steps |" in card
    assert "| truncation | 0.7 recommended |" in card
    assert TABLE in card and NONE_MEASURED not in card
    assert card.index("## Measured") < card.index("## Licence")


def test_a_card_without_figures_names_the_commands_that_measure() -> None:
    assert NONE_MEASURED in model_card(preset("quickstart"), CheckpointFacts())


def test_the_mean_of_checkpoints() -> None:
    facts = CheckpointFacts(averaged=(TrainingFacts(images=16), TrainingFacts()), trained=TrainingFacts(1, 16, 2))
    card = model_card(preset("quickstart"), facts)
    assert "mean of 2 checkpoints of one run (`stackgan average`), after 16, an unknown number of images" in card
    assert "| trained |" not in card


def test_figures_replace_the_section_and_nothing_else() -> None:
    card = "# mine\n\n## Measured\n\nold figures \\1\n\n## Limits\n\nmany\n"
    assert with_measured(card, MEASURED) == f"# mine\n\n{TABLE}\n## Limits\n\nmany\n"
    assert with_measured(with_measured(card, MEASURED), MEASURED) == with_measured(card, MEASURED)
    assert with_measured("# mine\n", MEASURED, append=True) == f"# mine\n\n{TABLE}"
    assert with_measured("# mine\n", MEASURED) == "# mine\n"
    assert "old figures" not in with_measured(card, CheckpointFacts()), "they are of other weights"


def test_metadata_of_the_hub_are_added_once() -> None:
    card = with_metadata("# mine\n", preset("quickstart", ["text.encoder=none"]))
    assert card.startswith("---\nlibrary_name: stackgan\npipeline_tag: unconditional-image-generation\n")
    assert card.endswith("---\n\n# mine\n")
    assert with_metadata(card, preset("quickstart")) == card
