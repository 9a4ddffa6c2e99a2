"""The loss along the shared directions: one line a variant, deployed or smooth, with the band over directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations
from quant_lens_engine.figures.frame import HEIGHT, FigureSpec, framed, plain, vertical_line, x_axis, y_axis
from quant_lens_engine.figures.loss_axis import LossAxis, loss_axis
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.tokens import GROUND, Mode, transparent
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import Landscape, Line, RunResult

LANDSCAPES: dict[Landscape, str] = {"smooth": "Smooth L(Q(w) + αd)", "deployed": "Deployed L(Q(w + αd))"}
"""Each landscape's name with its formula."""

_HOW_READ: dict[Landscape, str] = {
    "smooth": "Around each variant's own weights, as λ sees it.",
    "deployed": "Quantized anew at every α, as it would run.",
}
_BAND_OPACITY = 0.08


@dataclass(frozen=True)
class LossLine:
    """One variant's mean loss over α, and its lowest and highest over the directions."""

    style: VariantStyle
    alphas: list[float]
    loss: list[float | None]
    low: list[float | None]
    high: list[float | None]

    @property
    def values(self) -> list[float | None]:
        """Every loss that is drawn."""
        return [*self.loss, *self.low, *self.high]

    @property
    def end(self) -> float | None:
        """The last loss that is known."""
        return next((value for value in reversed(self.loss) if value is not None), None)


@dataclass(frozen=True)
class LossLines:
    """The lines of one landscape, in the run's order."""

    landscape: Landscape
    lines: list[LossLine]
    directions: int
    unit: str = "nats"

    @property
    def axis(self) -> LossAxis:
        """The vertical axis that shows all of them."""
        return loss_axis([value for line in self.lines for value in line.values], self.unit)


def find_line(lines: list[Line], landscape: Landscape) -> Line | None:
    """The line of a landscape along the random directions, if it has a loss anywhere."""
    return next(
        (
            line
            for line in lines
            if line.landscape == landscape and line.direction == "random" and any(v is not None for v in line.loss)
        ),
        None,
    )


def loss_line(style: VariantStyle, line: Line) -> LossLine:
    """A line of a result with the style that it is drawn in."""
    band = line.band
    return LossLine(style, line.alphas, line.loss, band.low if band else [], band.high if band else [])


def gather_lines(result: RunResult, landscape: Landscape = "smooth") -> LossLines | None:
    """The lines of the variants that have one; None where none has."""
    styles = variant_styles(result.variants)
    found = [(variant.name, find_line(variant.lines, landscape)) for variant in result.variants]
    known = [(name, line) for name, line in found if line is not None]
    if not known:
        return None
    lines = [loss_line(styles[name], line) for name, line in known]
    return LossLines(landscape, lines, max(line.directions for _, line in known), loss_unit(result.task))


def draw_lines(data: LossLines, mode: Mode) -> FigureSpec:
    """Bands first, then the lines, labels at their ends."""
    axis = data.axis
    traces = [trace for line in data.lines for trace in band_traces(line, line.style.fill[mode])]
    traces += [line_trace(line, plain(line.style.label), line.style.fill[mode], line.style.dash) for line in data.lines]
    ends = [
        EndLabel(line.end, f"<b>{plain(line.style.label)}</b>", line.style.ink[mode])
        for line in data.lines
        if line.end is not None and axis.holds(line.end)
    ]
    alphas = [alpha for line in data.lines for alpha in line.alphas]
    return framed(
        mode,
        traces,
        right=26 + 7 * max(len(line.style.label) for line in data.lines),
        uirevision=f"lines-{data.landscape}",
        **line_layout(mode, axis, ends, (min(alphas), max(alphas))),
    )


def line_layout(mode: Mode, axis: LossAxis, ends: Sequence[EndLabel], span: tuple[float, float]) -> dict[str, Any]:
    """The layout of every chart of the loss over α: axes, the line at α = 0, labels at the lines' ends."""
    return {
        "hovermode": "x unified",
        "shapes": [vertical_line(0, GROUND[mode].axis)],
        "annotations": end_label_annotations(ends, x=span[1], y_range=axis.range, log=axis.log, height_px=HEIGHT - 50),
        "xaxis": x_axis(
            mode,
            "distance along d  α  (‖d‖ = ‖θ‖ per filter)",
            range=list(span),
            tickformat=".1f",
            hoverformat=".3g",
            unifiedhovertitle={"text": "α = %{x}"},
        ),
        "yaxis": y_axis(mode, axis.title, **axis.plotly()),
    }


def line_trace(line: LossLine, name: str, colour: str, dash: str) -> dict[str, Any]:
    """The mean loss; a gap where it is missing."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": line.alphas,
        "y": line.loss,
        "line": {"width": 2, "color": colour, "dash": dash},
        "hovertemplate": "%{y:.4g}",
        "connectgaps": False,
    }


def band_traces(line: LossLine, colour: str) -> list[dict[str, Any]]:
    """The area between lowest and highest loss, without an edge; nothing for a single direction."""
    known = [
        (alpha, low, high)
        for alpha, low, high in zip(line.alphas, line.low, line.high, strict=False)
        if low is not None and high is not None
    ]
    if len(known) < 2:
        return []
    alphas = [alpha for alpha, _, _ in known]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": alphas + alphas[::-1],
            "y": [high for _, _, high in known] + [low for _, low, _ in known][::-1],
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": transparent(colour, _BAND_OPACITY),
            "hoverinfo": "skip",
        }
    ]


def describe_lines(data: LossLines) -> str:
    """How the lines are read."""
    several = f"Mean of {data.directions} directions; the band is their range."
    single = "One direction."
    return f"{_HOW_READ[data.landscape]} {several if data.directions > 1 else single}"


def tabulate_lines(data: LossLines) -> DataTable:
    """One row an α; mean, lowest and highest of every variant."""
    columns = ["alpha"]
    series: list[dict[float, float | None]] = []
    for line in data.lines:
        for kind, values in (("loss", line.loss), ("low", line.low), ("high", line.high)):
            if values:
                columns.append(f"{line.style.name} {kind}")
                series.append(dict(zip(line.alphas, values, strict=False)))
    alphas = sorted({alpha for line in data.lines for alpha in line.alphas})
    return DataTable(columns, [[alpha, *(values.get(alpha) for values in series)] for alpha in alphas])


figure(Chart("lines", "Loss along shared directions", gather_lines, draw_lines, describe_lines, tabulate_lines))
