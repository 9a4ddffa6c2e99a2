"""Moving averages of each row's smallest and largest value: one strange row moves the range by a hundredth of
itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers.min_max import nothing_observed
from quant_lens_engine.quantizers import NumberFormat, Range

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = 0.01
"""Weight of the newest row (torch's MovingAverageMinMaxObserver has it for the newest batch)."""


class MovingAverageObserver:
    """m ← (1 − c) m + c · extremum of the next row, in the order of the rows."""

    description = "moving averages of each row's smallest and largest value"

    def __init__(self) -> None:
        self._mean: Range | None = None

    def update(self, values: Tensor) -> None:
        """Each row is one observation, however rows are batched."""
        if not values.numel():
            return
        low, high = values.reshape(len(values), -1).double().aminmax(dim=1)
        if self._mean is None:
            self._mean = Range(low[:1], high[:1])
            low, high = low[1:], high[1:]
        self._mean = Range(_moved(self._mean.low, low), _moved(self._mean.high, high))

    def span(self, fmt: NumberFormat) -> Range:  # noqa: ARG002
        """Both averages."""
        if self._mean is None:
            raise nothing_observed()
        return self._mean


def _moved(mean: Tensor, rows: Tensor) -> Tensor:
    """The average after all of ``rows``, in closed form."""
    count = len(rows)
    age = rows.new_tensor(range(count - 1, -1, -1))
    weights = CONSTANT * (rows.new_full((1,), 1 - CONSTANT) ** age)
    return mean * (1 - CONSTANT) ** count + (weights * rows).sum().reshape(1)


OBSERVERS.add("moving-average", MovingAverageObserver)
