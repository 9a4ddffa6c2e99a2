"""The loss along the shared directions: one line a variant, deployed or smooth, with the band over directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations
from quant_lens_engine.figures.frame import HEIGHT, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_axis import LossAxis, loss_axis
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
    def end(self) -> float | None:
        """The last loss that is known."""
        return next((value for value in reversed(self.loss) if value is not None), None)


@dataclass(frozen=True)
class LossLines:
    """The lines of one landscape, in the run's order."""

    landscape: Landscape
    lines: list[LossLine]
    directions: int

    @property
    def axis(self) -> LossAxis:
        """The vertical axis that shows all of them."""
        return loss_axis([value for line in self.lines for value in (*line.loss, *line.low, *line.high)])


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


def gather_lines(result: RunResult, landscape: Landscape = "smooth") -> LossLines | None:
    """The lines of the variants that have one; None where none has."""
    styles = variant_styles(result.variants)
    lines, directions = [], 1
    for variant in result.variants:
        found = find_line(variant.lines, landscape)
        if found is None:
            continue
        directions = max(directions, found.directions)
        band = found.band
        lines.append(
            LossLine(
                style=styles[variant.name],
                alphas=found.alphas,
                loss=found.loss,
                low=band.low if band else [],
                high=band.high if band else [],
            )
        )
    return LossLines(landscape, lines, directions) if lines else None


def draw_lines(data: LossLines, mode: Mode) -> go.Figure:
    """Bands first, then lines with the float model on top of the bands, labels at the ends."""
    ground = GROUND[mode]
    longest = max(len(line.style.name) for line in data.lines)
    drawing = framed(mode, left=52, right=26 + 7 * longest, hovermode="x unified")
    for line in data.lines:
        drawing.add_traces(band_traces(line.alphas, line.low, line.high, line.style.fill[mode]))
    drawing.add_vline(x=0, line={"width": 1.2, "color": ground.axis})
    for line in data.lines:
        drawing.add_scatter(
            x=line.alphas, y=line.loss, mode="lines", name=plain(line.style.name),
            line={"width": 2, "color": line.style.fill[mode], "dash": line.style.dash},
            hovertemplate="%{y:.4g}", connectgaps=False,
        )  # fmt: skip
    axis = data.axis
    drawing.update_xaxes(x_axis(mode, "distance along d  α  (‖d‖ = ‖θ‖ per filter)", range=_span(data.lines),
                                tickformat=".1f", hoverformat=".3g",
                                unifiedhovertitle={"text": "α = %{x}"}))  # fmt: skip
    drawing.update_yaxes(y_axis(mode, axis.title, **axis.plotly()))
    ends = [
        EndLabel(line.end, f"<b>{plain(line.style.name)}</b>", line.style.ink[mode])
        for line in data.lines
        if line.end is not None and axis.holds(line.end)
    ]
    drawing.update_layout(
        uirevision=f"lines-{data.landscape}",
        annotations=end_label_annotations(
            ends, x=_span(data.lines)[1], y_range=axis.range, log=axis.log, height_px=HEIGHT - 50
        ),
    )
    return drawing


def band_traces(
    alphas: list[float], low: list[float | None], high: list[float | None], colour: str
) -> list[go.Scatter]:
    """The area between low and high, without an edge; gaps where a loss is missing, nothing for a single direction."""
    known = [
        (alpha, bottom, top)
        for alpha, bottom, top in zip(alphas, low, high, strict=False)
        if bottom is not None and top is not None
    ]
    if len(known) < 2:
        return []
    xs = [alpha for alpha, _, _ in known]
    outline: dict[str, Any] = {
        "x": xs + xs[::-1],
        "y": [top for _, _, top in known] + [bottom for _, bottom, _ in known][::-1],
    }
    return [
        go.Scatter(
            **outline, mode="lines", line={"width": 0}, fill="toself", fillcolor=transparent(colour, _BAND_OPACITY),
            hoverinfo="skip",
        )
    ]  # fmt: skip


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


def _span(lines: list[LossLine]) -> tuple[float, float]:
    alphas = [alpha for line in lines for alpha in line.alphas]
    return min(alphas), max(alphas)


figure(Chart("lines", "Loss along shared directions", gather_lines, draw_lines, describe_lines, tabulate_lines))
