"""Failures of a run are reported once when they persist; a healthy run gives no warnings."""

import math

import pytest
import torch

from stackgan.training.diagnostics import COLLAPSED, WINDOW, TrainingDiagnostics, variety


def _tell(diagnostics: TrainingDiagnostics, **values: float) -> list[str]:
    return diagnostics({name.replace("__", "/"): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("kind", "loss", "said"),
    [
        ("hinge", 4.0, "does not separate real from generated"),
        ("hinge", 0.01, "is near 0"),
        ("bce", 6 * math.log(2), "does not separate"),
        ("relativistic", 0.001, "is near 0"),
    ],
)
def test_a_lasting_problem_is_reported_once_and_again_when_it_recurs(kind: str, loss: float, said: str) -> None:
    diagnostics = TrainingDiagnostics(kind, heads=2)
    heard = [_tell(diagnostics, d64__loss=loss) for _ in range(3 * WINDOW)]
    assert [len(sentences) for sentences in heard] == [0] * (WINDOW - 1) + [1] + [0] * 2 * WINDOW
    assert said in heard[WINDOW - 1][0] and "64 px" in heard[WINDOW - 1][0] and "optim." in heard[WINDOW - 1][0]
    assert not _tell(diagnostics, d64__loss=2.0)
    again = [_tell(diagnostics, d64__loss=loss) for _ in range(WINDOW)]
    assert [len(sentences) for sentences in again] == [0] * (WINDOW - 1) + [1]


def test_a_healthy_run_and_short_lapses_are_not_reported() -> None:
    diagnostics = TrainingDiagnostics("hinge", heads=2)
    for step in range(10 * WINDOW):
        lapse = step % WINDOW == 0
        assert not _tell(diagnostics, d64__loss=0.0 if lapse else 2.7, g__variety=0.05 if lapse else 0.8)


def test_collapse_is_reported_with_its_size() -> None:
    diagnostics = TrainingDiagnostics("hinge", heads=1)
    heard = [sentence for _ in range(WINDOW) for sentence in _tell(diagnostics, g__variety=COLLAPSED / 2)]
    assert len(heard) == 1 and "5% of the real images' variety" in heard[0]


def test_what_is_not_a_number_stops_the_run() -> None:
    with pytest.raises(ValueError, match=r"g/kl became nan.*lr_discriminator"):
        _tell(TrainingDiagnostics("hinge", heads=2), d64__loss=2.0, g__kl=math.nan)


def test_variety() -> None:
    real = torch.rand(8, 3, 64, 64)
    assert float(variety(real, real)) == pytest.approx(1)
    assert float(variety(real / 2, real)) == pytest.approx(0.5)
    assert float(variety(real[:1].expand(8, -1, -1, -1), real)) == pytest.approx(0, abs=1e-6)
