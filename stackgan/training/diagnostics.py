"""Training diagnostics: problems that the logged scalars show, reported in words with what to try."""

from collections import deque
from collections.abc import Mapping
from math import isfinite, log

from torch import Tensor

from stackgan.images.diversity import averaged_down, mean_difference

__all__ = ["TrainingDiagnostics", "variety"]

WINDOW = 20  # logged steps in a row: a thousand steps at the default train.log_steps
NEAR_CHANCE = 0.02  # of D's loss at chance: within it D does not separate real from generated
WON = 0.02  # of D's loss at chance: below it G gets no gradient to learn by
COLLAPSED = 0.1  # of the real images' variety
CHANCE = {"hinge": 2.0, "bce": 3 * log(2), "relativistic": 1.5 * log(2)}  # D's loss a head where all logits are 0

ADVICE = {
    "dead": "the {name} discriminator cannot tell real from generated images: try a higher "
    "optim.lr_discriminator, a lower loss.penalty, or a wider discriminator.width",
    "winning": "the {name} discriminator wins everything and teaches nothing: try augment.policy="
    "brightness,saturation,contrast,translation,cutout, a higher loss.penalty, or a lower optim.lr_discriminator",
    "collapsed": "images of different captions and styles are nearly the same ({value:.0%} of the real images' "
    "variety): try loss.diversity=1, a higher loss.penalty, or begin again with another train.seed",
}


def variety(fakes: Tensor, real: Tensor) -> Tensor:
    """How much the images of a batch differ from each other, as a share of how much the real ones do.

    Mean absolute difference to the image half a batch further (:mod:`stackgan.images.diversity`).

    Args:
        fakes, real: (B, 3, s, s), B at least 2.
    """
    own, reference = (
        mean_difference(averaged_down(images.detach()), (max(len(images) // 2, 1),)) for images in (fakes, real)
    )
    return own / reference.clamp(min=1e-6)


class TrainingDiagnostics:
    """Checks the scalars of logged steps; a problem is reported once it has persisted, and again if it recurs.

    Args:
        adversarial: config key loss.adversarial, which says what a discriminator's loss is at chance.
        heads: how many heads each discriminator has, 1 or 2.
    """

    def __init__(self, adversarial: str, heads: int) -> None:
        self.chance = CHANCE[adversarial] * heads
        self.seen: dict[str, deque[float]] = {}
        self.told: set[str] = set()

    def __call__(self, values: Mapping[str, float]) -> list[str]:
        """Messages for the user after this logged step; usually none.

        Raises:
            ValueError: a scalar is not a finite number; says which, and what to try.
        """
        for name, value in values.items():
            if not isfinite(value):
                raise ValueError(
                    f"{name} became {value}: the last saved state is kept; try a lower optim.lr_discriminator, "
                    "optim.precision=fp32, or a higher loss.penalty"
                )
        told = []
        for name, value in values.items():
            stage, _, what = name.partition("/")
            if stage.startswith("d") and what == "loss":
                share = value / self.chance
                told += self._lasting("dead", stage[1:] + " px", abs(1 - share), abs(1 - share) < NEAR_CHANCE)
                told += self._lasting("winning", stage[1:] + " px", share, share < WON)
            elif name == "g/variety":
                told += self._lasting("collapsed", "", value, value < COLLAPSED)
        return told

    def _lasting(self, trouble: str, name: str, value: float, bad: bool) -> list[str]:
        key = f"{trouble} {name}"
        last = self.seen.setdefault(key, deque(maxlen=WINDOW))
        last.append(float(bad))
        if not bad:
            self.told.discard(key)
        if len(last) < WINDOW or not all(last) or key in self.told:
            return []
        self.told.add(key)
        return [ADVICE[trouble].format(name=name, value=value)]
