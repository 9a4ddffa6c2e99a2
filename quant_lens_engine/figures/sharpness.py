"""Sharpness: λmax of every variant as a bar from zero, its spread over the sample as error bar, the ratio beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line, x_axis, y_axis
from quant_lens_engine.figures.tokens import GROUND, TICK_SIZE, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, RunResult, numbers

_BAR_WIDTH = 0.42
_LABEL_ROOM = 1.42
"""The axis ends this far beyond the longest bar, so that its label has room."""

_SHORT_LABEL, _CROWDED_ROOM = 10, 1.62
"""Longer names before the bars leave the plot less width: then its label has more of it, and its title fewer words."""


@dataclass(frozen=True)
class Bar:
    """One variant: λmax, its spread over eight shards of the sample, and its ratio to the float model's."""

    style: VariantStyle
    value: float
    residual: float | None
    spread: float | None
    sampling_error: float
    ratio: float | None
    converged: bool

    @property
    def end(self) -> float:
        """Where bar and error bar end."""
        return max(self.value + (self.spread or 0.0), 0.0)


@dataclass(frozen=True)
class Sharpness:
    """The bars in the run's order; ``variants`` labels all of the run, so that each keeps its place from the start."""

    bars: list[Bar]
    variants: list[str]

    @property
    def baseline(self) -> Bar | None:
        """The float model's bar."""
        return next((bar for bar in self.bars if bar.style.name == FLOAT_VARIANT), None)


def gather_sharpness(result: RunResult) -> Sharpness | None:
    """λmax of the variants whose curvature is known; None where none is."""
    styles = variant_styles(result.variants)
    bars = []
    for variant in result.variants:
        found = variant.curvature.lambda_max if variant.curvature else None
        if found is None or found.value is None or variant.curvature is None:
            continue
        comparison = result.comparison(variant.name)
        bars.append(
            Bar(
                style=styles[variant.name],
                value=found.value,
                residual=found.residual,
                spread=found.batch_std,
                sampling_error=found.sampling_error,
                ratio=comparison.sharpness_ratio if comparison else None,
                converged=variant.curvature.converged,
            )
        )
    return Sharpness(bars, [style.label for style in styles.values()]) if bars else None


def draw_sharpness(data: Sharpness, mode: Mode) -> FigureSpec:
    """Horizontal bars from zero, the float model on top."""
    ground = GROUND[mode]
    low = min(0.0, *(bar.value for bar in data.bars))
    high = max(bar.end for bar in data.bars) or 1.0
    crowded = max(map(len, data.variants)) > _SHORT_LABEL
    room = _CROWDED_ROOM if crowded else _LABEL_ROOM
    title = f"λmax of ∇²L at Q(w){'' if crowded else ', straight-through'}"
    baseline = data.baseline
    return framed(
        mode,
        [_bar_trace(data.bars, mode)],
        left=56,
        height=max(200, 60 + 52 * len(data.variants)),
        bargap=0.0,
        shapes=[vertical_line(baseline.value, baseline.style.fill[mode], 1)] if baseline else [],
        annotations=[_bar_label(bar, mode) for bar in data.bars],
        xaxis=x_axis(mode, title, range=[low * 1.1, high * room], zeroline=True, zerolinecolor=ground.axis,
                     zerolinewidth=1),
        yaxis=y_axis(mode, "", range=[len(data.variants) - 0.5, -0.5], categoryorder="array",
                     categoryarray=[plain(name) for name in data.variants], showgrid=False, ticksuffix=" ",
                     tickfont={"size": 12, "color": ground.second}),
        uirevision="sharpness",
    )  # fmt: skip


def describe_sharpness(data: Sharpness) -> str:
    """Which variants lie within the float model's standard error, and which is the sharpest."""
    baseline = data.baseline
    others = [bar for bar in data.bars if bar is not baseline]
    if baseline is None or not others:
        return "± is the spread over eight shards."
    inside = [bar.style.name for bar in others if abs(bar.value - baseline.value) <= baseline.sampling_error]
    sharpest = max(others, key=lambda bar: bar.value)
    parts = []
    if inside:
        who = inside[0] if len(inside) == 1 else f"{len(inside)} of {len(others)} variants"
        parts.append(f"{who} within {FLOAT_VARIANT}'s standard error")
    if sharpest.style.name not in inside and sharpest.ratio is not None:
        parts.append(f"{sharpest.style.name} {numbers.number(sharpest.ratio)} × as sharp")
    return "; ".join([*parts, "± over eight shards"]) + "."


def tabulate_sharpness(data: Sharpness) -> DataTable:
    """One row a variant."""
    columns = ("variant", "lambda_max", "residual", "batch_std", "ratio_to_float", "converged")
    rows = [
        (bar.style.name, bar.value, bar.residual, bar.spread, bar.ratio, "yes" if bar.converged else "no")
        for bar in data.bars
    ]
    return DataTable(columns, rows)


def _bar_trace(bars: list[Bar], mode: Mode) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "y": [plain(bar.style.label) for bar in bars],
        "x": [bar.value for bar in bars],
        "width": _BAR_WIDTH,
        "marker": {"color": [bar.style.fill[mode] for bar in bars], "line": {"width": 0}},
        "error_x": {
            "type": "data",
            "array": [bar.spread or 0.0 for bar in bars],
            "color": GROUND[mode].text,
            "thickness": 1.2,
            "width": 4,
        },
        "customdata": [_hover(bar) for bar in bars],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _bar_label(bar: Bar, mode: Mode) -> dict[str, Any]:
    ground = GROUND[mode]
    return {
        "x": bar.end,
        "y": plain(bar.style.label),
        "text": _label(bar, ground.muted),
        "showarrow": False,
        "xanchor": "left",
        "xshift": 7,
        "font": {"size": TICK_SIZE, "color": ground.text},
        "bgcolor": ground.surface,
        "borderpad": 1,
    }


def _label(bar: Bar, muted: str) -> str:
    text = numbers.with_error(bar.value, bar.spread)
    notes = [] if bar.ratio is None else [f"{numbers.number(bar.ratio)} ×"]
    if not bar.converged:
        notes.append("not converged")
    return text + "".join(f'   <span style="color:{muted}">{note}</span>' for note in notes)


def _hover(bar: Bar) -> str:
    lines = [f"<b>{plain(bar.style.name)}</b>", f"λmax {numbers.exact(bar.value)}"]
    lines += [] if bar.residual is None else [f"residual {numbers.exact(bar.residual)}"]
    lines += [] if bar.spread is None else [f"spread over shards {numbers.exact(bar.spread)}"]
    return "<br>".join(lines)


figure(Chart("sharpness", "Sharpness", gather_sharpness, draw_sharpness, describe_sharpness, tabulate_sharpness))
