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
        ends = values.reshape(len(values), -1).double().aminmax(dim=1)
        before = (None, None) if self._mean is None else (self._mean.low, self._mean.high)
        self._mean = Range(*(_moved(mean, rows) for mean, rows in zip(before, ends, strict=True)))

    def span(self, fmt: NumberFormat) -> Range:  # noqa: ARG002
        """Both averages."""
        if self._mean is None:
            raise nothing_observed()
        return self._mean


def _moved(mean: Tensor | None, rows: Tensor) -> Tensor:
    """The average after all of ``rows``, one by one: in closed form its rounding would depend on the batches."""
    first, *others = rows.tolist() if mean is None else (float(mean), *rows.tolist())
    for extremum in others:
        first = (1 - CONSTANT) * first + CONSTANT * extremum
    return rows.new_tensor([first])


OBSERVERS.add("moving-average", MovingAverageObserver)
