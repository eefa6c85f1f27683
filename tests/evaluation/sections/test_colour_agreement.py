"""Agreement of named colours, on colours with a known answer."""

from __future__ import annotations

import numpy as np

from data_prep.painted import (
    COLOURS,
)
from stackgan.evaluation.sections.colour_agreement import chance, colour_agreement


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
