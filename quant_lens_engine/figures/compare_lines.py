"""Loss lines of one variant in several runs: colour and dash say the variant, marker and letter the run, and the
baseline is grey and solid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations
from quant_lens_engine.figures.frame import HEIGHT, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.lines import band_traces, find_line
from quant_lens_engine.figures.loss_axis import LossAxis, loss_axis
from quant_lens_engine.figures.tokens import GROUND, RUN_MARKERS, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import Landscape, Line, RunResult

_MARKS = 6
_NAME_LENGTH = 18


@dataclass(frozen=True)
class ComparedResult:
    """One run of a comparison: its letter, its name, its result, and which of its variants is compared."""

    letter: str
    name: str
    result: RunResult
    variant: str
    baseline: bool = False


@dataclass(frozen=True)
class ComparedLine:
    """One run's line."""

    run: ComparedResult
    style: VariantStyle
    line: Line
    marker: str

    @property
    def end(self) -> float | None:
        """The last loss that is known."""
        return next((value for value in reversed(self.line.loss) if value is not None), None)

    def colour(self, mode: Mode, ink: bool = False) -> str:
        """Grey for the baseline, the variant's for the others."""
        if self.run.baseline:
            return GROUND[mode].text if ink else GROUND[mode].muted
        return (self.style.ink if ink else self.style.fill)[mode]


@dataclass(frozen=True)
class ComparedLines:
    """The lines of the runs that have one."""

    landscape: Landscape
    lines: list[ComparedLine]

    @property
    def axis(self) -> LossAxis:
        """The vertical axis that shows all of them."""
        values = [value for item in self.lines for value in item.line.loss]
        for item in self.lines:
            if item.line.band is not None:
                values += [*item.line.band.low, *item.line.band.high]
        return loss_axis(values)


def gather_compared(runs: Sequence[ComparedResult], landscape: Landscape = "smooth") -> ComparedLines | None:
    """The line of each run's variant; None where no run has one."""
    lines = []
    for place, run in enumerate(runs):
        variant = next((item for item in run.result.variants if item.name == run.variant), None)
        line = find_line(variant.lines, landscape) if variant else None
        if line is not None:
            style = variant_styles(run.result.variants)[run.variant]
            lines.append(ComparedLine(run, style, line, RUN_MARKERS[place % len(RUN_MARKERS)]))
    return ComparedLines(landscape, lines) if lines else None


def draw_compared(data: ComparedLines, mode: Mode) -> go.Figure:
    """Bands, lines with a few marks each, and at the ends letter and name."""
    ground = GROUND[mode]
    texts = {id(item): f"<b>{item.run.letter}</b>  {plain(_short(item.run.name))}" for item in data.lines}
    longest = max(len(item.run.name[:_NAME_LENGTH]) for item in data.lines) + 3
    drawing = framed(mode, left=52, right=26 + round(5.8 * longest), hovermode="x unified")
    for item in data.lines:
        if item.line.band is not None:
            band = item.line.band
            drawing.add_traces(band_traces(item.line.alphas, band.low, band.high, item.colour(mode)))
    drawing.add_vline(x=0, line={"width": 1.2, "color": ground.axis})
    for item in data.lines:
        drawing.add_scatter(
            x=item.line.alphas, y=item.line.loss, mode="lines", name=f"{item.run.letter} {plain(item.style.name)}",
            line={"width": 2, "color": item.colour(mode), "dash": "solid" if item.run.baseline else item.style.dash},
            hovertemplate="%{y:.4g}",
        )  # fmt: skip
        drawing.add_trace(_marks(item, mode))
    axis, end = data.axis, max(alpha for item in data.lines for alpha in item.line.alphas)
    start = min(alpha for item in data.lines for alpha in item.line.alphas)
    drawing.update_xaxes(x_axis(mode, "distance along d  α  (‖d‖ = ‖θ‖ per filter)", range=[start, end],
                                tickformat=".1f", hoverformat=".3g",
                                unifiedhovertitle={"text": "α = %{x}"}))  # fmt: skip
    drawing.update_yaxes(y_axis(mode, axis.title, **axis.plotly()))
    labels = [
        EndLabel(item.end, texts[id(item)], item.colour(mode, ink=True)) for item in data.lines if item.end is not None
    ]
    drawing.update_layout(
        uirevision=f"compare-{data.landscape}",
        annotations=end_label_annotations(labels, x=end, y_range=axis.range, log=axis.log, height_px=HEIGHT - 50),
    )
    return drawing


def describe_compared(data: ComparedLines) -> str:
    """How the lines are read."""
    says = "Colour and dash: variant. Marker: run."
    return f"{says} Grey: the baseline." if any(item.run.baseline for item in data.lines) else says


def tabulate_compared(data: ComparedLines) -> DataTable:
    """One row an α, one column a run."""
    columns = ["alpha", *(f"{item.run.letter} {item.run.name} {item.style.name}" for item in data.lines)]
    values = [dict(zip(item.line.alphas, item.line.loss, strict=False)) for item in data.lines]
    alphas = sorted({alpha for item in data.lines for alpha in item.line.alphas})
    return DataTable(columns, [[alpha, *(column.get(alpha) for column in values)] for alpha in alphas])


def _marks(item: ComparedLine, mode: Mode) -> go.Scatter:
    count = len(item.line.alphas)
    middle, step = count // 2, max(1, count // _MARKS)
    places = sorted(index for index in range(middle % step, count, step) if 0 < index < count - 1)
    return go.Scatter(
        x=[item.line.alphas[index] for index in places],
        y=[item.line.loss[index] for index in places],
        mode="markers",
        marker={
            "symbol": item.marker,
            "size": 8,
            "color": GROUND[mode].surface,
            "line": {"width": 1.6, "color": item.colour(mode)},
        },
        hoverinfo="skip",
    )


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


figure(
    Chart(
        "compare-lines", "Loss along shared directions", gather_compared, draw_compared, describe_compared,
        tabulate_compared, many=True,
    )
)  # fmt: skip
