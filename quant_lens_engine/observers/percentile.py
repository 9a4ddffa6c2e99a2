"""The range that holds all but the outermost ten-thousandth of the values at each end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers._histogram import BINS, CountingObserver
from quant_lens_engine.quantizers import NumberFormat, Range

if TYPE_CHECKING:
    from torch import Tensor

PERCENTILE = 99.99


class PercentileObserver(CountingObserver):
    """Percentiles of a histogram, interpolated within a bin; of the magnitude where the format is symmetric."""

    description = f"the {PERCENTILE} % percentile at each end"

    def span(self, fmt: NumberFormat) -> Range:
        """Both percentiles, never beyond what was seen."""
        ends = self._histogram.ends.span(fmt)
        counts = self._histogram.counts
        assert counts is not None
        if fmt.symmetric:
            high = self._quantile((counts + counts.flip(0)) / 2, (1 + PERCENTILE / 100) / 2)
            low = -high
        else:
            low = -self._quantile(counts.flip(0), PERCENTILE / 100)
            high = self._quantile(counts, PERCENTILE / 100)
        first, last = float(ends.low), float(ends.high)
        return Range(*(counts.new_tensor([min(max(end, first), last)]) for end in (low, high)))

    def _quantile(self, counts: Tensor, share: float) -> float:
        below = counts.cumsum(0)
        wanted = share * float(below[-1])
        place = int((below < wanted).sum())
        before = float(below[place - 1]) if place else 0.0
        inside = (wanted - before) / max(float(counts[place]), 1.0)
        width = 2 * self._histogram.reach / BINS
        return -self._histogram.reach + (place + min(inside, 1.0)) * width


OBSERVERS.add("percentile", PercentileObserver)
