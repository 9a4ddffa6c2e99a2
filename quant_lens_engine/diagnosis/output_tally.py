"""What a layer gives, added up over micro-batches: range, outliers, histogram, percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from quant_lens_engine.diagnosis.moments import Moments
from quant_lens_engine.schema import Histogram, OutputStatistics

FINE_BINS = 2048
"""Of the histogram that percentiles come from; what is shown has fewer."""
OUTLIER_STDS = 6.0
PERCENTILES = (0.001, 0.999)


class Ruler(NamedTuple):
    """What all variants of a layer are measured against: range, mean and std of the float model's output."""

    low: float
    high: float
    mean: float
    std: float

    @property
    def has_bins(self) -> bool:
        """Whether there is a range to divide."""
        return math.isfinite(self.low) and math.isfinite(self.high) and self.high > self.low


@dataclass
class OutputTally:
    """One layer's output in one network, added up.

    Args:
        axis: of the channels.
        ruler: of the float model; None while that is being found.
    """

    axis: int
    ruler: Ruler | None = None
    moments: Moments = field(default_factory=Moments)
    minimum: float = math.inf
    maximum: float = -math.inf
    non_finite: int = 0
    fine: Tensor | None = None
    below: int = 0
    above: int = 0
    outliers: int = 0
    _spans: tuple[Tensor, Tensor] | None = None
    _mixed: bool = False

    def add(self, values: Tensor) -> None:
        """The output of one more call."""
        if not values.numel():
            return
        finite = torch.isfinite(values)
        if bool(finite.all()):
            kept = values.flatten()
        else:
            kept = values[finite]
            self.non_finite += values.numel() - kept.numel()
            self._mixed = True
            if not kept.numel():
                return
        self.moments.add(kept)
        low, high = (float(end) for end in kept.aminmax())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._add_channels(values)
        if self.ruler is not None:
            self._measure(kept, self.ruler)

    def _add_channels(self, values: Tensor) -> None:
        if self._mixed:
            return
        by_channel = values.movedim(self.axis, -1).flatten(0, -2) if values.dim() > 1 else values[None]
        low, high = by_channel.amin(0), by_channel.amax(0)
        if self._spans is None:
            self._spans = low, high
        elif self._spans[0].shape == low.shape:
            self._spans = torch.minimum(self._spans[0], low), torch.maximum(self._spans[1], high)
        else:
            self._mixed = True  # channels come and go: there is no channel to speak of

    def _measure(self, values: Tensor, ruler: Ruler) -> None:
        wide = values.double()
        if ruler.std > 0:
            self.outliers += int((wide - ruler.mean).abs().gt(OUTLIER_STDS * ruler.std).sum())
        if not ruler.has_bins:
            return
        below, above = wide < ruler.low, wide > ruler.high
        self.below, self.above = self.below + int(below.sum()), self.above + int(above.sum())
        places = ((wide - ruler.low) * (FINE_BINS / (ruler.high - ruler.low))).long().clamp_(0, FINE_BINS - 1)
        counts = torch.bincount(places[~(below | above)], minlength=FINE_BINS).cpu()
        self.fine = counts if self.fine is None else self.fine + counts

    def statistics(self, bins: int) -> OutputStatistics:
        """What a result says of it."""
        found = OutputStatistics(elements=self.moments.count + self.non_finite, non_finite=self.non_finite)
        if not self.moments.count:
            return found
        found.minimum, found.maximum = self.minimum, self.maximum
        found.mean, found.std, found.kurtosis = self.moments.mean, self.moments.std, self.moments.kurtosis
        if self._spans is not None and not self._mixed:
            widths = (self._spans[1] - self._spans[0]).double()
            found.channels = widths.numel()
            median = float(widths.quantile(0.5))
            if found.channels > 1 and median > 0:
                found.channel_range_ratio = float(widths.max()) / median
        if self.ruler is not None and self.ruler.std > 0:
            found.outlier_share = self.outliers / self.moments.count
        if self.fine is not None and self.ruler is not None:
            counts = self.fine.reshape(bins, -1).sum(1).tolist()
            found.histogram = Histogram(
                low=self.ruler.low, high=self.ruler.high, counts=counts, below=self.below, above=self.above
            )
            found.low_percentile, found.high_percentile = (self._percentile(share) for share in PERCENTILES)
        return OutputStatistics.model_validate(found.model_dump())

    def _percentile(self, share: float) -> float:
        """Between two edges, by linear interpolation; beyond the ruler's range, up to the values' own end."""
        assert self.fine is not None
        assert self.ruler is not None
        low, high = self.ruler.low, self.ruler.high
        inner = torch.linspace(low, high, FINE_BINS + 1, dtype=torch.float64)
        ends = [torch.tensor([edge], dtype=torch.float64) for edge in (min(self.minimum, low), max(self.maximum, high))]
        edges = torch.cat([ends[0], inner, ends[1]])
        counts = torch.cat([torch.tensor([self.below]), self.fine, torch.tensor([self.above])])
        reached = counts.cumsum(0).double()
        wanted = share * float(reached[-1])
        place = int(torch.searchsorted(reached, wanted).clamp(max=len(counts) - 1))
        before = float(reached[place] - counts[place])
        inside = (wanted - before) / float(counts[place]) if counts[place] else 0.0
        return float(edges[place] + inside * (edges[place + 1] - edges[place]))
