"""How the values of one layer's output are distributed, the float model's and a variant's over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.activation_layers import known_layers
from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line, x_axis, y_axis
from quant_lens_engine.figures.spectra import key
from quant_lens_engine.figures.tokens import GROUND, Mode, transparent
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import Histogram, LayerActivation, RunResult, numbers

HEIGHT = 320


@dataclass(frozen=True)
class LayerHistograms:
    """The histograms of one layer, the float model's first; they share their edges."""

    layer: str
    kind: str
    variants: list[tuple[VariantStyle, Histogram]]

    @property
    def edges(self) -> list[float]:
        """One more than there are bins."""
        histogram = self.variants[0][1]
        bins = len(histogram.counts)
        width = (histogram.high - histogram.low) / bins
        return [histogram.low + place * width for place in range(bins)] + [histogram.high]


def gather_histogram(result: RunResult, variant: str = "", layer: str = "") -> LayerHistograms | None:
    """One layer; without a name, the one with the lowest SQNR, or the last. None where it has no histogram."""
    variants = known_layers(result, variant)
    if not variants:
        return None
    last = variants[-1].layers
    chosen = layer if layer in last else _worst(list(last.values()))
    found = []
    for item in variants:
        known = item.layers.get(chosen)
        if known is not None and known.output is not None and known.output.histogram is not None:
            found.append((item.style, known.output.histogram))
    return LayerHistograms(chosen, last[chosen].kind, found) if found else None


def _worst(layers: Sequence[LayerActivation]) -> str:
    drawn = [layer for layer in layers if layer.output is not None and layer.output.histogram is not None]
    measured = [layer for layer in drawn if layer.sqnr_db is not None]
    if measured:
        return min(measured, key=lambda layer: layer.sqnr_db or 0.0).name
    return (drawn or layers)[-1].name


def draw_histogram(data: LayerHistograms, mode: Mode) -> FigureSpec:
    """Steps over a logarithmic count; an empty bin is a gap."""
    most = max((max(histogram.counts, default=0) for _, histogram in data.variants), default=1)
    edges = data.edges
    margin = 0.01 * (edges[-1] - edges[0])
    zero = [vertical_line(0, GROUND[mode].axis, 1)] if edges[0] < 0 < edges[-1] else []
    return framed(
        mode,
        [_steps(data, style, histogram, mode, place == 0) for place, (style, histogram) in enumerate(data.variants)],
        height=HEIGHT,
        left=56,
        margin={"l": 56, "r": 16, "t": 28, "b": 42},
        showlegend=True,
        legend=key(mode),
        xaxis=x_axis(
            mode, f"output of {plain(data.layer)}  (the activation's own unit)",
            range=[edges[0] - margin, edges[-1] + margin],
        ),
        yaxis=y_axis(
            mode, "values in a bin  (count, log)", type="log", range=[math.log10(0.7), math.log10(2.0 * max(most, 1))],
            dtick=1,
        ),
        shapes=zero,
        uirevision=f"histogram-{data.layer}",
    )  # fmt: skip


def _steps(
    data: LayerHistograms, style: VariantStyle, histogram: Histogram, mode: Mode, filled: bool
) -> dict[str, Any]:
    edges = data.edges
    x: list[float | None] = []
    y: list[float | None] = []
    for place, count in enumerate(histogram.counts):
        if count:
            x += [edges[place], edges[place + 1]]
            y += [count, count]
        else:
            x.append(None)
            y.append(None)
    words = [
        f"{plain(style.name)}: {numbers.count(count)} in {numbers.number(low)} to {numbers.number(high)}"
        for count, low, high in zip(histogram.counts, edges, edges[1:], strict=False)
    ]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(style.label),
        "x": x,
        "y": y,
        "line": {"color": style.fill[mode], "width": 1.8, "dash": style.dash},
        **({"fill": "tozeroy", "fillcolor": transparent(style.fill[mode], 0.1)} if filled else {}),
        "customdata": [word for word, count in zip(words, histogram.counts, strict=True) for word in
                       ([word, word] if count else [""])],
        "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip


def describe_histogram(data: LayerHistograms) -> str:
    """How much of the variant lies where the float model never is."""
    kind = f" ({data.kind})" if data.kind else ""
    if len(data.variants) == 1:
        return f"{data.layer}{kind}: {data.variants[0][0].name}'s values in {len(data.edges) - 1} bins."
    style, histogram = data.variants[1]
    outside = histogram.below + histogram.above
    total = sum(histogram.counts) + outside
    if not outside:
        return f"{data.layer}{kind}: no value of {style.name} leaves FP32's range."
    share = numbers.percent(outside / total)
    return f"{data.layer}{kind}: {share} of {style.name}'s values lie outside FP32's range, and are not drawn."


def tabulate_histogram(data: LayerHistograms) -> DataTable:
    """One row a bin; what lies outside in the first and the last."""
    columns = ("from", "to", *(style.name for style, _ in data.variants))
    edges = data.edges
    rows: list[tuple[float | int | None, ...]] = [
        (None, edges[0], *(histogram.below for _, histogram in data.variants)),
        *(
            (edges[place], edges[place + 1], *(histogram.counts[place] for _, histogram in data.variants))
            for place in range(len(edges) - 1)
        ),
        (edges[-1], None, *(histogram.above for _, histogram in data.variants)),
    ]
    return DataTable(columns, rows)


figure(Chart("activation-histogram", "Distribution of one layer's output", gather_histogram, draw_histogram,
             describe_histogram, tabulate_histogram))  # fmt: skip
