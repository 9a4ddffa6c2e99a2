"""The range that loses the least information: KL divergence of the values' distribution (TensorRT; Migacz, GTC
2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers._histogram import BINS, CountingObserver, shrunk_ranges
from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, Range

if TYPE_CHECKING:
    pass

SMALLEST = 0.05
CANDIDATES = 128


class EntropyObserver(CountingObserver):
    """For each candidate range: P is the histogram with what lies beyond put into the outermost bins, Q the same after
    rounding, each code's mass spread over its non-empty bins. The range with the least KL(P ‖ Q) is kept."""

    description = "the range of least KL divergence"

    def span(self, fmt: NumberFormat) -> Range:
        """The best of the candidates."""
        candidates = shrunk_ranges(self._histogram.ends.span(fmt), SMALLEST, CANDIDATES)
        divergences = [
            self._divergence(Range(low, high), fmt) for low, high in zip(candidates.low, candidates.high, strict=True)
        ]
        best = min(range(CANDIDATES), key=divergences.__getitem__)
        return Range(candidates.low[best], candidates.high[best])

    def _divergence(self, span: Range, fmt: NumberFormat) -> float:
        quantizer = QUANTIZERS[fmt.format]
        counts, centres = self._histogram.counts, self._histogram.centres()
        assert counts is not None
        qparams = quantizer.qparams(span, fmt, span)
        half = self._histogram.reach / BINS
        places = ((centres + half > span.low) & (centres - half <= span.high)).nonzero().reshape(-1)
        first, last = int(places[0]), int(places[-1])
        kept = counts[first : last + 1]
        reference = kept.clone()
        reference[0] += counts[:first].sum()
        reference[-1] += counts[last + 1 :].sum()
        codes = quantizer.encode(centres[None, first : last + 1], qparams, fmt)[0]
        changes = codes[1:] != codes[:-1]  # centres ascend, and so do their codes
        code_of_bin = codes.new_zeros(len(codes)).long()
        code_of_bin[1:] = changes.cumsum(0)
        used = (kept > 0).to(kept.dtype)
        codes_used = int(code_of_bin.max()) + 1
        mass = kept.new_zeros(codes_used).scatter_add_(0, code_of_bin, kept)
        bins = kept.new_zeros(codes_used).scatter_add_(0, code_of_bin, used)
        spread = (mass / bins.clamp(min=1))[code_of_bin] * used
        p, q = reference / reference.sum(), spread / spread.sum()
        seen = p > 0
        return float((p[seen] * (p[seen] / q[seen].clamp(min=1e-12)).log()).sum())


OBSERVERS.add("entropy", EntropyObserver)
