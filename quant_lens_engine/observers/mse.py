"""The range whose rounding and clipping together cost the least squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers._histogram import CountingObserver, rounding_errors, shrunk_ranges
from quant_lens_engine.quantizers import NumberFormat, Range

if TYPE_CHECKING:
    pass

SMALLEST = 0.01
CANDIDATES = 200


class MseObserver(CountingObserver):
    """Tries 200 ranges, from all that was seen down to a hundredth of it, and keeps the best, for any number format."""

    description = "the range of least squared error"

    def span(self, fmt: NumberFormat) -> Range:
        """The best of the candidates."""
        candidates = shrunk_ranges(self._histogram.ends.span(fmt), SMALLEST, CANDIDATES)
        counts = self._histogram.counts
        assert counts is not None
        best = int(rounding_errors(self._histogram.centres(), counts, candidates, fmt).argmin())
        return Range(candidates.low[best], candidates.high[best])


OBSERVERS.add("mse", MseObserver)
