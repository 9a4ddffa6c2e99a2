"""The loss along the shared directions: one line a variant, deployed or smooth, with the band over directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations
from quant_lens_engine.figures.frame import HEIGHT, FigureSpec, framed, plain, vertical_line, x_axis, y_axis
from quant_lens_engine.figures.loss_axis import LossAxis, loss_axis, tick_text
from quant_lens_engine.figures.loss_colours import LossScale
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.method_words import method_words
from quant_lens_engine.figures.plane_grid import direction_words
from quant_lens_engine.figures.reach_words import reach_words
from quant_lens_engine.figures.tokens import GROUND, Mode, transparent
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import Landscape, Line, RunResult

LANDSCAPES: dict[Landscape, str] = {"smooth": "Smooth L(Q(w) + αd)", "deployed": "Deployed L(Q(w + αd))"}
"""Each landscape's name with its formula."""

Quantity = Literal["loss", "accuracy", "kl"]
QUANTITIES: dict[Quantity, str] = {"loss": "Loss", "accuracy": "Accuracy", "kl": "KL to FP32"}
"""What is drawn over α."""
LineBand = Literal["band", "each"]
LINE_BANDS: dict[LineBand, str] = {"band": "Band", "each": "Each direction"}
"""How several directions are shown."""

_HOW_READ: dict[Landscape, str] = {
    "smooth": "Around each variant's own weights, as λ sees it.",
    "deployed": "Quantized anew at every α, as it would run.",
}
_BAND_OPACITY = 0.08


@dataclass(frozen=True)
class LossLine:
    """One variant's mean loss over α, and its lowest and highest over the directions; the mean accuracy in per cent
    where it is told beside the loss."""

    style: VariantStyle
    alphas: list[float]
    loss: list[float | None]
    low: list[float | None]
    high: list[float | None]
    accuracy: list[float | None] = field(default_factory=list)

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
    """The lines of one landscape along one kind of direction, in the run's order.

    Attributes:
        quantity: what is drawn: of :data:`QUANTITIES`.
        along: title of the horizontal axis.
        chosen: how far the grid reaches, and why.
        each: the line along each direction, of every variant.
        reasons: why losses are missing.
        method: what made losses quicker to compute, in sentences.
    """

    landscape: Landscape
    lines: list[LossLine]
    directions: int
    unit: str = "nats"
    quantity: Quantity = "loss"
    along: str = ""
    chosen: str = ""
    each: list[tuple[LossLine, list[list[float | None]]]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    scale: LossScale = "log"
    clip: float | None = None
    method: str = ""

    @property
    def axis(self) -> LossAxis:
        """The vertical axis that shows all of them."""
        values = [value for line in self.lines for value in line.values]
        values += [value for _, found in self.each for one in found for value in one]
        if self.quantity == "accuracy":
            return loss_axis(values, "%", scale="linear", name="accuracy")
        name = "KL(float ‖ network)" if self.quantity == "kl" else "loss  L"
        unit = "nats" if self.quantity == "kl" else self.unit
        return loss_axis(values, unit, scale=self.scale, clip=self.clip, name=name)

    @property
    def symbol(self) -> str:
        """Of what is drawn."""
        return {"loss": "L", "accuracy": "accuracy", "kl": "KL"}[self.quantity]

    @property
    def cut(self) -> bool:
        """Whether something is higher than the drawing."""
        top = self.axis.range[1]
        return self.clip is not None and any(
            value is not None and value > top for line in self.lines for value in line.values
        )


def line_kinds(results: Sequence[RunResult]) -> list[str]:
    """The kinds of direction that there are lines along, ``random`` first."""
    found = dict.fromkeys(
        line.direction for result in results for variant in result.variants for line in variant.lines
    )  # fmt: skip
    return sorted(found, key=lambda kind: kind != "random")


def chosen_kind(wanted: str, kinds: Sequence[str]) -> str:
    """The kind that was asked for where there is one, else the first.

    Example:
        >>> chosen_kind("random", ["eigenvector:1"]), chosen_kind("gradient", ["random", "gradient"])
        ('eigenvector:1', 'gradient')
    """
    return wanted if wanted in kinds or not kinds else kinds[0]


def find_line(lines: list[Line], landscape: Landscape, direction: str = "random") -> Line | None:
    """The line of a landscape along a kind of direction, if it has a loss anywhere."""
    return next(
        (
            line
            for line in lines
            if line.landscape == landscape and line.direction == direction and any(v is not None for v in line.loss)
        ),
        None,
    )


def loss_line(style: VariantStyle, line: Line, quantity: Quantity = "loss") -> LossLine:
    """A line of a result with the style that it is drawn in; accuracy in per cent."""
    band = line.band
    if quantity == "loss":
        low, high = (band.low, band.high) if band else ([], [])
        return LossLine(style, line.alphas, line.loss, low, high, _per_cent(line.accuracy))
    return LossLine(style, line.alphas, _per_cent(line.accuracy) if quantity == "accuracy" else line.kl or [], [], [])


def _per_cent(shares: Sequence[float | None] | None) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares or []]


def along_title(line: Line) -> str:
    """Title of the axis of α: the direction, and what α = 1 is."""
    name = direction_words(line.direction)
    return f"distance along d  α   ({plain(line.unit if line.direction == 'random' else f'{name}; {line.unit}')})"


def gather_lines(
    result: RunResult,
    landscape: Landscape = "smooth",
    direction: str = "random",
    quantity: Quantity = "loss",
    scale: LossScale = "log",
    clip: float | None = None,
    band: LineBand = "band",
) -> LossLines | None:
    """The lines of the variants that have one; None where none has."""
    styles = variant_styles(result.variants)
    kind = chosen_kind(direction, line_kinds([result]))
    found = [(variant.name, find_line(variant.lines, landscape, kind)) for variant in result.variants]
    known = [(name, line) for name, line in found if line is not None]
    lines = [loss_line(styles[name], line, quantity) for name, line in known]
    if not any(value is not None for line in lines for value in line.loss):
        return None
    each = [
        (drawn, line.per_direction)
        for drawn, (_, line) in zip(lines, known, strict=True)
        if band == "each" and quantity == "loss"
    ]
    if each:
        lines = [replace(line, low=[], high=[]) for line in lines]
    return LossLines(
        landscape, lines, max(line.directions for _, line in known), loss_unit(result.task), quantity,
        along_title(known[0][1]), known[0][1].distance_choice, each,
        list(dict.fromkeys(f"{name}: {line.reason}" for name, line in known if line.reason)), scale, clip,
        method_words([(name, line.method) for name, line in known]),
    )  # fmt: skip


def draw_lines(data: LossLines, mode: Mode) -> FigureSpec:
    """Bands first, then the lines, labels at their ends."""
    axis = data.axis
    traces = [trace for line in data.lines for trace in band_traces(line, line.style.fill[mode])]
    traces += [trace for line, found in data.each for trace in _thin_traces(line, found, line.style.fill[mode])]
    traces += [line_trace(line, plain(line.style.label), line.style.fill[mode], line.style.dash) for line in data.lines]
    alphas = [alpha for line in data.lines for alpha in line.alphas]
    return framed(
        mode,
        traces,
        right=26 + 7 * max(len(line.style.label) for line in data.lines),
        uirevision=f"lines-{data.landscape}-{data.quantity}-{data.scale}-{data.clip}-{data.along}",
        **line_layout(mode, axis, line_ends(data.lines, axis, mode), (min(alphas), max(alphas)), data.along),
    )


def line_ends(lines: Sequence[LossLine], axis: LossAxis, mode: Mode) -> list[EndLabel]:
    """A label at the end of each line; at the upper edge where the drawing is cut below it."""
    return [
        EndLabel(min(line.end, axis.range[1]), f"<b>{plain(line.style.label)}</b>", line.style.ink[mode])
        for line in lines
        if line.end is not None and line.end >= axis.range[0]
    ]


def _thin_traces(line: LossLine, found: Sequence[Sequence[float | None]], colour: str) -> list[dict[str, Any]]:
    """The line along each direction."""
    return [
        {
            "type": "scatter", "mode": "lines", "x": line.alphas, "y": list(values), "connectgaps": False,
            "line": {"width": 0.9, "color": transparent(colour, 0.5), "dash": line.style.dash}, "hoverinfo": "skip",
        }
        for values in found
    ]  # fmt: skip


def line_layout(
    mode: Mode, axis: LossAxis, ends: Sequence[EndLabel], span: tuple[float, float], along: str
) -> dict[str, Any]:
    """The layout of every chart of the loss over α: axes, the line at α = 0, labels at the lines' ends."""
    return {
        "hovermode": "x unified",
        "shapes": [vertical_line(0, GROUND[mode].axis)],
        "annotations": end_label_annotations(ends, x=span[1], y_range=axis.range, log=axis.log, height_px=HEIGHT - 50),
        "xaxis": x_axis(
            mode,
            along,
            range=list(span),
            hoverformat=".3g",
            unifiedhovertitle={"text": "α = %{x}"},
        ),
        "yaxis": y_axis(mode, axis.title, **axis.plotly()),
    }


def line_trace(line: LossLine, name: str, colour: str, dash: str) -> dict[str, Any]:
    """The mean loss; a gap where it is missing. Hovering tells the accuracy too, where it is known."""
    told = {"customdata": line.accuracy, "hovertemplate": "%{y:.4g}   accuracy %{customdata:.3g} %"}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": line.alphas,
        "y": line.loss,
        "line": {"width": 2, "color": colour, "dash": dash},
        "connectgaps": False,
        **(told if line.accuracy else {"hovertemplate": "%{y:.4g}"}),
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
    """How the lines are read, and what is not as one would expect."""
    several = f"Mean of {data.directions} directions"
    drawn = "; thin: each of them." if data.each else "; the band is their range."
    banded = data.quantity == "loss"
    said = [_HOW_READ[data.landscape]]
    said.append(f"{several}{drawn if banded else '.'}" if data.directions > 1 else "One direction.")
    if data.cut:
        said.append(f"Drawn up to {data.symbol} = {tick_text(data.axis.range[1])}; what is higher keeps its value.")
    if data.scale == "log" and not data.axis.log and data.quantity == "loss":
        said.append("Linear: some loss is not positive.")
    said += [f"Gap, {reason.rstrip('.')}." for reason in data.reasons]
    return " ".join(said)


def tabulate_lines(data: LossLines) -> DataTable:
    """One row an α; mean, lowest and highest of every variant."""
    columns = ["alpha"]
    series: list[dict[float, float | None]] = []
    for line in data.lines:
        for kind, values in ((data.quantity, line.loss), ("low", line.low), ("high", line.high)):
            if values:
                columns.append(f"{line.style.name} {kind}")
                series.append(dict(zip(line.alphas, values, strict=False)))
    for line, found in data.each:
        for place, values in enumerate(found):
            columns.append(f"{line.style.name} direction {place + 1}")
            series.append(dict(zip(line.alphas, values, strict=False)))
    alphas = sorted({alpha for line in data.lines for alpha in line.alphas})
    return DataTable(columns, [[alpha, *(values.get(alpha) for values in series)] for alpha in alphas])


def note_lines(data: LossLines) -> str:
    """How far the grid reaches and why, and what made losses quicker to compute."""
    return " ".join(filter(None, (reach_words(data.chosen), data.method)))


figure(
    Chart(
        "lines", "Loss along shared directions", gather_lines, draw_lines, describe_lines, tabulate_lines,
        note=note_lines,
    )
)  # fmt: skip
