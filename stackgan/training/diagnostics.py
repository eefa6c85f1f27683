"""Training diagnostics: warnings about typical GAN failures, computed from the logged scalars."""

from collections import deque
from collections.abc import Mapping
from math import inf, isfinite, log
from typing import Any

from torch import Tensor

from stackgan.images.diversity import averaged_down, mean_difference
from stackgan.runtime.distributed import gather_rows

__all__ = ["Diverged", "TrainingDiagnostics", "variety"]

WINDOW = 20  # consecutive logged steps: 1000 steps at the default train.log_steps
NEAR_CHANCE = 0.02  # relative distance to D's loss at chance within which D does not separate real from generated
NEAR_ZERO = 0.02  # share of D's loss at chance below which G gets no useful gradient
COLLAPSED = 0.1  # share of the real images' variety below which G is reported as collapsed
EXPLODED = 1e4  # multiple of D's loss at chance from which a loss has exploded
CHANCE = {"hinge": 2.0, "bce": 3 * log(2), "relativistic": 1.5 * log(2)}  # D's loss per head where all logits are 0

ADVICE = {
    "dead": "the {name} discriminator does not separate real from generated images: try a higher "
    "optim.lr_discriminator, a lower loss.penalty, or a wider discriminator.width",
    "winning": "the loss of the {name} discriminator is near 0, so G gets no gradient: try augment.policy="
    "brightness,saturation,contrast,translation,cutout, a higher loss.penalty, or a lower optim.lr_discriminator",
    "collapsed": "images of different captions and styles are nearly the same ({value:.0%} of the real images' "
    "variety): try loss.diversity=1, a higher loss.penalty, or a new run with another train.seed",
}


def variety(fakes: Tensor, real: Tensor) -> Tensor:
    """Ratio of the mean difference between generated images of a batch to that between real images.

    The difference is the mean absolute difference to the image half a batch further
    (:mod:`stackgan.images.diversity`).

    Args:
        fakes, real: (B, 3, s, s), B at least 2.
    """
    own, reference = (
        mean_difference(images, (max(len(images) // 2, 1),))
        for images in (gather_rows(averaged_down(images.detach())) for images in (fakes, real))
    )
    return own / reference.clamp(min=1e-6)


class Diverged(ValueError):
    """Training has diverged: a scalar or a weight is not finite, or a loss has exploded."""


class TrainingDiagnostics:
    """Checks the scalars of logged steps; a failure is reported once when it persists, and again if it recurs.

    Args:
        adversarial: config key loss.adversarial, which determines a discriminator's loss at chance.
        heads: number of heads of each discriminator, 1 or 2.
        explosions: whether a loss of :data:`EXPLODED` times D's loss at chance counts as divergence; otherwise only
            values that are not finite do.
    """

    def __init__(self, adversarial: str, heads: int, *, explosions: bool = False) -> None:
        self.chance = CHANCE[adversarial] * heads
        self.limit = EXPLODED * self.chance if explosions else inf
        self.seen: dict[str, deque[float]] = {}
        self.reported: set[str] = set()

    def __call__(self, values: Mapping[str, float]) -> list[str]:
        """Warnings after this logged step, as sentences; usually none.

        Raises:
            Diverged: a scalar is not finite, or a loss has exploded; the message names it and settings to try.
        """
        for name, value in values.items():
            if not isfinite(value) or (name.endswith("/loss") and abs(value) > self.limit):
                raise Diverged(f"{name} became {value:.4g}")
        warnings = []
        for name, value in values.items():
            stage, _, what = name.partition("/")
            if stage.startswith("d") and what == "loss":
                share = value / self.chance
                warnings += self._persistent("dead", stage[1:] + " px", abs(1 - share), abs(1 - share) < NEAR_CHANCE)
                warnings += self._persistent("winning", stage[1:] + " px", share, share < NEAR_ZERO)
            elif name == "g/variety":
                warnings += self._persistent("collapsed", "", value, value < COLLAPSED)
        return warnings

    def state(self) -> dict[str, Any]:
        """The recent values, as plain containers."""
        return {
            "seen": {key: list(values) for key, values in self.seen.items()},
            "reported": sorted(self.reported),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self.seen = {key: deque(values, maxlen=WINDOW) for key, values in state["seen"].items()}
        self.reported = set(state["reported"])

    def _persistent(self, failure: str, name: str, value: float, bad: bool) -> list[str]:
        key = f"{failure} {name}"
        last = self.seen.setdefault(key, deque(maxlen=WINDOW))
        last.append(float(bad))
        if not bad:
            self.reported.discard(key)
        if len(last) < WINDOW or not all(last) or key in self.reported:
            return []
        self.reported.add(key)
        return [ADVICE[failure].format(name=name, value=value)]
