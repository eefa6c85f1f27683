"""The exponential moving average of the generator, and its warm-up."""

import pytest
import torch
from torch import nn

from stackgan.training.ema import ema_decay, update_ema


@pytest.mark.parametrize("operators", [True, False])
def test_average_follows_and_keeps_the_live_module(operators: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not operators:
        monkeypatch.delattr(torch, "_foreach_lerp_")
    live, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        live.weight.fill_(3.0)
        assert live.running_mean is not None
        live.running_mean.fill_(7.0)
    update_ema(average, live, 0.75)
    assert average.weight.tolist() == [1.5, 1.5] and live.weight.tolist() == [3.0, 3.0]
    assert average.running_mean is not None and average.running_mean.tolist() == [7.0, 7.0]
    with pytest.raises(ValueError, match="different parameters"):
        update_ema(nn.PReLU(), live, 0.5)


def test_ramp_reaches_the_decay() -> None:
    decays = [ema_decay(0.99, t, ramp=True) for t in range(2000)]
    assert decays == sorted(decays) and decays[0] == 0.1 and decays[-1] == 0.99
