"""The smallest and the largest value seen: nothing is clipped, and one outlier stretches every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantizers import NumberFormat, Range

if TYPE_CHECKING:
    from torch import Tensor


def nothing_observed() -> NumericalError:
    """No value came by."""
    return NumericalError(
        "an activation was never seen on the calibration rows",
        hint="the layer is not called: leave it out with +skip:NAME, or use a dynamic scheme",
        code="nothing_observed",
    )


class MinMaxObserver:
    """Keeps both ends."""

    description = "the smallest and the largest value seen"

    def __init__(self) -> None:
        self.seen: Range | None = None

    def update(self, values: Tensor) -> None:
        """Stretch to hold ``values``."""
        if not values.numel():
            return
        low, high = values.aminmax()
        low, high = low.reshape(1), high.reshape(1)
        if self.seen is not None:
            low, high = low.minimum(self.seen.low), high.maximum(self.seen.high)
        self.seen = Range(low, high)

    def span(self, fmt: NumberFormat) -> Range:  # noqa: ARG002
        """Both ends."""
        if self.seen is None:
            raise nothing_observed()
        return self.seen


OBSERVERS.add("min-max", MinMaxObserver)
