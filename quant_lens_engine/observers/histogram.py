"""A greedy search for both ends apart: the tail that holds less is cut, as long as the squared error falls.

The search of torch's ``HistogramObserver`` (Caffe2's ``NormMinimization::NonlinearQuantizationParamsSearch``), with the
error taken by the number format itself rather than by a model of uniform steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers._histogram import BINS, CountingObserver, rounding_errors
from quant_lens_engine.quantizers import NumberFormat, Range

if TYPE_CHECKING:
    pass

STEP = 1e-5
"""Share of the values by which a tail is shortened at a time."""


class HistogramObserver(CountingObserver):
    """Cuts tails while that pays."""

    description = "both ends searched for least squared error, tail by tail"

    def span(self, fmt: NumberFormat) -> Range:
        """Where the search stops."""
        ends = self._histogram.ends.span(fmt)
        counts = self._histogram.counts
        assert counts is not None
        below = counts.cumsum(0).tolist()
        total = below[-1]
        occupied = counts.nonzero().reshape(-1)
        first, last = int(occupied[0]), int(occupied[-1])
        best = self._error(first, last, ends, fmt)
        low_share, high_share = 0.0, 1.0
        while low_share < high_share:
            left, right = first, last
            while left < last and below[left] < (low_share + STEP) * total:
                left += 1
            while right > first and below[right] > (high_share - STEP) * total:
                right -= 1
            if left - first > last - right:
                low_share, tried = low_share + STEP, (left, last)
            else:
                high_share, tried = high_share - STEP, (first, right)
            if tried == (first, last):
                continue
            error = self._error(*tried, ends, fmt)
            if error > best:
                break
            best, (first, last) = error, tried
        return self._range(first, last, ends)

    def _range(self, first: int, last: int, ends: Range) -> Range:
        """From the beginning of the first bin to the end of the last, never beyond what was seen."""
        reach, width = self._histogram.reach, 2 * self._histogram.reach / BINS
        low, high = first * width - reach, (last + 1) * width - reach
        return Range(ends.low.double().clamp(min=low), ends.high.double().clamp(max=high))

    def _error(self, first: int, last: int, ends: Range, fmt: NumberFormat) -> float:
        span = self._range(first, last, ends)
        counts = self._histogram.counts
        assert counts is not None
        candidate = Range(span.low[None], span.high[None])
        return float(rounding_errors(self._histogram.centres(), counts, candidate, fmt)[0])


OBSERVERS.add("histogram", HistogramObserver)
