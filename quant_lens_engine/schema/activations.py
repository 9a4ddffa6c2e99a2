"""What flows through a network: ranges, outliers and histograms of each layer's output, and what quantization made of
them."""

from __future__ import annotations

from quant_lens_engine.schema.base import MaybeFloat, Record


class Histogram(Record):
    """How many values fell into each of equally wide bins.

    Attributes:
        low: left edge of the first bin: the smallest value that the *float* model has at this layer, so that the
            histograms of all variants share their edges.
        high: right edge of the last bin: the largest one.
        counts: values in each bin; a value on the right edge is in the last one.
        below: values under ``low``; of a quantized variant only.
        above: values over ``high``.
    """

    low: float
    high: float
    counts: list[int] = []
    below: int = 0
    above: int = 0


class OutputStatistics(Record):
    """One layer's output in one network, over all rows of the sample and all positions. In the activation's own unit
    where nothing else is said.

    Attributes:
        elements: how many values.
        non_finite: how many of them are NaN or infinite; the other numbers leave these out.
        minimum: the smallest.
        maximum: the largest.
        mean: Σx / n.
        std: standard deviation, √(Σ(x − mean)² / n).
        kurtosis: Σ(x − mean)⁴ / n / std⁴, without unit; 3 for a normal distribution. Null where std is 0.
        low_percentile: 0.1 % of the values lie below; from a histogram of 2048 bins over the float model's range, so
            exact to the width of one.
        high_percentile: 99.9 % lie below.
        outlier_share: share of values further than 6 standard deviations of the *float* model's output from its mean,
            0 to 1: the same ruler for every variant. Null where that std is 0.
        channels: features of a layer, channels of a convolution.
        channel_range_ratio: the widest channel's range (largest − smallest value) over the median channel's, without
            unit, at least 1: how much one scale a tensor wastes. Null for a single channel, or a median of 0.
        histogram: of the values; null where the float model's output is constant or not finite.
    """

    elements: int = 0
    non_finite: int = 0
    minimum: MaybeFloat = None
    maximum: MaybeFloat = None
    mean: MaybeFloat = None
    std: MaybeFloat = None
    kurtosis: MaybeFloat = None
    low_percentile: MaybeFloat = None
    high_percentile: MaybeFloat = None
    outlier_share: MaybeFloat = None
    channels: int = 0
    channel_range_ratio: MaybeFloat = None
    histogram: Histogram | None = None


class InputRange(Record):
    """What a layer is given where the scheme rounds it: before rounding, in the variant's network.

    Attributes:
        minimum: the smallest value.
        maximum: the largest.
        low: lower end of the static range; null where the range comes from the values at each pass.
        high: its upper end.
        clipped_share: share of values outside of the static range, 0 to 1; null where there is none.
    """

    minimum: MaybeFloat = None
    maximum: MaybeFloat = None
    low: MaybeFloat = None
    high: MaybeFloat = None
    clipped_share: MaybeFloat = None


class LayerActivation(Record):
    """A layer with weights, in the order in which layers run.

    Attributes:
        name: of the module, as in ``named_modules()``; attention is one layer, its projections included.
        kind: the module's class.
        quantized: whether the scheme rounds its weights or its input.
        output: the statistics of what it gives; of a module that gives several tensors, of the first.
        input: what it is given; null where the scheme leaves that in float.
        sqnr_db: *cumulative*: 10·log₁₀(Σy² / Σ(y − ŷ)²) in dB of the variant's output ŷ against the float model's y on
            the same rows: everything before this layer is quantized too. Null where nothing was lost.
        isolated_sqnr_db: the same where only this layer is quantized and its input is the float model's.
        reason: why there are no statistics, or no SQNR.
    """

    name: str
    kind: str = ""
    quantized: bool = False
    output: OutputStatistics | None = None
    input: InputRange | None = None
    sqnr_db: MaybeFloat = None
    isolated_sqnr_db: MaybeFloat = None
    reason: str | None = None


class Activations(Record):
    """The activations of one variant.

    Attributes:
        layers: all layers with weights that were met, as they run, then those that were not, with the reason.
        samples: rows.
        notes: what a reader should know.
        reason: why there are none.
    """

    layers: list[LayerActivation] = []
    samples: int = 0
    notes: list[str] = []
    reason: str | None = None
    elapsed_s: float = 0.0
