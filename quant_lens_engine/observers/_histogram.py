"""A histogram that grows with what it sees, and how ranges are tried on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers.min_max import MinMaxObserver
from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, Range
from quant_lens_engine.quantizers._scales import power_of_two_above

if TYPE_CHECKING:
    from torch import Tensor

BINS = 4096
_LARGEST_CALL = 2**24
"""histc counts in the dtype of its values: more than this in one bin would be lost in float32."""


class RunningHistogram:
    """Counts in equal bins of [−R, R], with R a power of two that doubles when a value lies beyond.

    Bins of a smaller R are pairs of a larger one's, so what was counted stays exact and the order of rows is no matter.

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
        self._grow(float(power_of_two_above(flat.abs().amax().float())), flat)
        for part in flat.tensor_split(-(-flat.numel() // _LARGEST_CALL)):
            counted = part.float().histc(BINS, -self.reach, self.reach).double()
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
