"""Failures of a run are reported once when they persist; a healthy run gives no warnings."""

import math

import pytest
import torch

from stackgan.training.diagnostics import COLLAPSED, WINDOW, Diverged, TrainingDiagnostics, variety


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


def test_what_is_not_a_number_is_divergence() -> None:
    with pytest.raises(Diverged, match=r"g/kl became nan"):
        _tell(TrainingDiagnostics("hinge", heads=2), d64__loss=2.0, g__kl=math.nan)


def test_an_exploded_loss_is_divergence_where_runs_go_back() -> None:
    _tell(TrainingDiagnostics("hinge", heads=2), d64__loss=-5e4)
    with pytest.raises(Diverged, match=r"d64/loss became -5e\+04"):
        _tell(TrainingDiagnostics("hinge", heads=2, explosions=True), d64__loss=-5e4)
    _tell(TrainingDiagnostics("hinge", heads=2, explosions=True), d64__loss=3e4, d64__real=-1e9)


def test_recent_values_are_restored() -> None:
    one = TrainingDiagnostics("hinge", heads=2)
    for _ in range(WINDOW - 1):
        assert not _tell(one, d64__loss=0.0)
    two = TrainingDiagnostics("hinge", heads=2)
    two.restore(one.state())
    assert len(_tell(two, d64__loss=0.0)) == 1
    three = TrainingDiagnostics("hinge", heads=2)
    three.restore(two.state())
    assert not _tell(three, d64__loss=0.0), "reported once"


def test_variety() -> None:
    real = torch.rand(8, 3, 64, 64)
    assert float(variety(real, real)) == pytest.approx(1)
    assert float(variety(real / 2, real)) == pytest.approx(0.5)
    assert float(variety(real[:1].expand(8, -1, -1, -1), real)) == pytest.approx(0, abs=1e-6)
