"""A histogram that grows with what it sees, and how ranges are tried on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers.min_max import MinMaxObserver
from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, Range
from quant_lens_engine.quantizers._scales import power_of_two_below

if TYPE_CHECKING:
    from torch import Tensor

BINS = 4096
_LARGEST_CALL = 2**24
"""Values that are counted at a time."""

_SMALLEST_REACH = 2.0**-126


class RunningHistogram:
    """Counts in equal bins of [−R, R), with R a power of two above every value, that doubles when one lies beyond.

    Two bins of a smaller R are one of a larger R. A value's bin is ⌊x · bins / 2R⌋, where a power of two scales without
    rounding: so what was counted stays exact, and the order of rows is no matter.

    Attributes:
        ends: the smallest and the largest value.
        counts: ``(bins,)`` float64.
        reach: R.
    """

    def __init__(self) -> None:
        self.ends = MinMaxObserver()
        self.counts: Tensor | None = None
        self.reach = 0.0

    def update(self, values: Tensor) -> None:
        """Count some more."""
        if not values.numel():
            return
        self.ends.update(values)
        flat = values.reshape(-1)
        self._grow(max(_SMALLEST_REACH, 2 * float(power_of_two_below(flat.abs().amax().double()))), flat)
        for part in flat.tensor_split(-(-flat.numel() // _LARGEST_CALL)):
            places = (part.double() * (BINS / 2 / self.reach)).floor_().add_(BINS // 2).clamp_(0, BINS - 1)
            counted = places.long().bincount(minlength=BINS).double()
            self.counts = counted if self.counts is None else self.counts + counted

    def centres(self) -> Tensor:
        """The middle of each bin ``(bins,)``, float64."""
        assert self.counts is not None
        numbers = self.counts.new_ones(BINS).cumsum(0) - 0.5
        return numbers * (2 * self.reach / BINS) - self.reach

    def _grow(self, reach: float, like: Tensor) -> None:
        while self.counts is not None and self.reach < reach:
            merged = self.counts.reshape(-1, 2).sum(1)
            padding = merged.new_zeros(BINS // 4)
            self.counts = padding.new_zeros(BINS)
            self.counts[BINS // 4 : -BINS // 4] = merged
            self.reach *= 2
        if self.counts is None:
            self.counts, self.reach = like.new_zeros(BINS).double(), reach


class CountingObserver:
    """Keeps a histogram of what it sees: the part that observers of histograms have in common."""

    def __init__(self) -> None:
        self._histogram = RunningHistogram()

    def update(self, values: Tensor) -> None:
        """Count."""
        self._histogram.update(values)


def shrunk_ranges(ends: Range, smallest: float, count: int) -> Range:
    """``count`` candidates ``(count, 1)``: the full range, and down to ``smallest`` of it, both ends alike."""
    factors = ends.low.new_ones(count).double().cumsum(0).sub(1).mul((smallest - 1) / (count - 1)).add(1)
    return Range(factors[:, None] * ends.low.double(), factors[:, None] * ends.high.double())


def rounding_errors(centres: Tensor, counts: Tensor, candidates: Range, fmt: NumberFormat) -> Tensor:
    """Σ counts · (x − Q(x))² for each candidate range ``(candidates,)``."""
    quantizer = QUANTIZERS[fmt.format]
    qparams = quantizer.qparams(candidates, fmt, candidates)
    rounded = quantizer.decode(quantizer.encode(centres.expand(len(candidates.low), -1), qparams, fmt), qparams, fmt)
    return ((rounded - centres).square() * counts).sum(1)
