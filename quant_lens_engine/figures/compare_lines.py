"""Loss lines of one variant in several runs: colour and dash say the variant, marker and letter the run, and the
baseline is grey and solid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel
from quant_lens_engine.figures.frame import FigureSpec, framed, plain
from quant_lens_engine.figures.lines import (
    LossLine,
    along_title,
    band_traces,
    chosen_kind,
    find_line,
    line_kinds,
    line_layout,
    line_trace,
    loss_line,
)
from quant_lens_engine.figures.loss_axis import loss_axis
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.tokens import GROUND, RUN_MARKERS, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import Landscape, RunResult

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


def run_colour(run: ComparedResult, style: VariantStyle, mode: Mode, *, ink: bool = False) -> str:
    """Grey for the baseline, the variant's for the others."""
    if run.baseline:
        return GROUND[mode].text if ink else GROUND[mode].muted
    return (style.ink if ink else style.fill)[mode]


@dataclass(frozen=True)
class ComparedLine:
    """One run's line, and the marker that says the run."""

    run: ComparedResult
    line: LossLine
    marker: str

    def colour(self, mode: Mode, ink: bool = False) -> str:
        """Grey for the baseline, the variant's for the others."""
        return run_colour(self.run, self.line.style, mode, ink=ink)


@dataclass(frozen=True)
class ComparedLines:
    """The lines of the runs that have one."""

    landscape: Landscape
    lines: list[ComparedLine]
    along: str = ""


def gather_compared(
    runs: Sequence[ComparedResult], landscape: Landscape = "smooth", direction: str = "random"
) -> ComparedLines | None:
    """The line of each run's variant along one kind of direction; None where no run has one."""
    lines = []
    kind = chosen_kind(direction, line_kinds([run.result for run in runs]))
    title = ""
    for place, run in enumerate(runs):
        variant = next((item for item in run.result.variants if item.name == run.variant), None)
        line = find_line(variant.lines, landscape, kind) if variant else None
        if line is not None:
            title = title or along_title(line)
            style = variant_styles(run.result.variants)[run.variant]
            lines.append(ComparedLine(run, loss_line(style, line), RUN_MARKERS[place % len(RUN_MARKERS)]))
    return ComparedLines(landscape, lines, title) if lines else None


def draw_compared(data: ComparedLines, mode: Mode) -> FigureSpec:
    """Bands, lines with a few marks each, and at the ends letter and name."""
    traces = [trace for item in data.lines for trace in band_traces(item.line, item.colour(mode))]
    for item in data.lines:
        name = f"{item.run.letter} {plain(item.line.style.label)}"
        dash = "solid" if item.run.baseline else item.line.style.dash
        traces += [line_trace(item.line, name, item.colour(mode), dash), _marks(item, mode)]
    ends = [
        EndLabel(
            item.line.end,
            f"<b>{item.run.letter}</b>  {plain(short_name(item.run.name))}",
            item.colour(mode, ink=True),
            max(item.line.alphas),
        )
        for item in data.lines
        if item.line.end is not None
    ]
    unit = loss_unit(*(item.run.result.task for item in data.lines))
    axis = loss_axis([value for item in data.lines for value in item.line.values], unit)
    alphas = [alpha for item in data.lines for alpha in item.line.alphas]
    longest = max(len(short_name(item.run.name)) for item in data.lines) + 3
    return framed(
        mode,
        traces,
        right=26 + round(5.8 * longest),
        uirevision=f"compare-{data.landscape}",
        **line_layout(mode, axis, ends, (min(alphas), max(alphas)), data.along),
    )


def describe_compared(data: ComparedLines) -> str:
    """How the lines are read."""
    says = "Colour and dash: variant. Marker: run."
    return f"{says} Grey: the baseline." if any(item.run.baseline for item in data.lines) else says


def tabulate_compared(data: ComparedLines) -> DataTable:
    """One row an α, one column a run."""
    columns = ["alpha", *(f"{item.run.letter} {item.run.name} {item.line.style.name}" for item in data.lines)]
    values = [dict(zip(item.line.alphas, item.line.loss, strict=False)) for item in data.lines]
    alphas = sorted({alpha for item in data.lines for alpha in item.line.alphas})
    return DataTable(columns, [[alpha, *(column.get(alpha) for column in values)] for alpha in alphas])


def _marks(item: ComparedLine, mode: Mode) -> dict[str, Any]:
    count = len(item.line.alphas)
    middle, step = count // 2, max(1, count // _MARKS)
    places = sorted(index for index in range(middle % step, count, step) if 0 < index < count - 1)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [item.line.alphas[index] for index in places],
        "y": [item.line.loss[index] for index in places],
        "marker": {
            "symbol": item.marker,
            "size": 8,
            "color": GROUND[mode].surface,
            "line": {"width": 1.6, "color": item.colour(mode)},
        },
        "hoverinfo": "skip",
    }


def short_name(name: str) -> str:
    """A run's name as it stands beside the end of its line."""
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


figure(
    Chart(
        "compare-lines", "Loss along shared directions", gather_compared, draw_compared, describe_compared,
        tabulate_compared, many=True,
    )
)  # fmt: skip
