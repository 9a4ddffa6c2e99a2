"""The loss on the way from the float model to each variant: whether a barrier stands between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line
from quant_lens_engine.figures.lines import LossLine, line_ends, line_layout, line_trace, loss_line
from quant_lens_engine.figures.loss_axis import LossAxis, loss_axis, tick_text
from quant_lens_engine.figures.loss_colours import LossScale
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.tokens import GROUND, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, RunResult, numbers


@dataclass(frozen=True)
class PathEnd:
    """A model at an end of a path, with its evaluated loss."""

    style: VariantStyle
    alpha: float
    loss: float


@dataclass(frozen=True)
class Paths:
    """The path to each variant that has one, in the run's order, and what stands at their ends."""

    lines: list[LossLine]
    barriers: dict[str, float | None]
    ends: list[PathEnd]
    unit: str
    scale: LossScale = "log"
    clip: float | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def axis(self) -> LossAxis:
        """The vertical axis that shows all of them."""
        values = [value for line in self.lines for value in line.values] + [end.loss for end in self.ends]
        return loss_axis(values, self.unit, scale=self.scale, clip=self.clip)


def gather_paths(result: RunResult, scale: LossScale = "log", clip: float | None = None) -> Paths | None:
    """The paths that are measured; None where none is."""
    styles = variant_styles(result.variants)
    known = [
        (variant, variant.path)
        for variant in result.variants
        if variant.path is not None and any(value is not None for value in variant.path.loss)
    ]
    if not known:
        return None
    ends = [
        PathEnd(styles[item.name], 0.0 if item.name == FLOAT_VARIANT else 1.0, item.evaluation.loss)
        for item in result.variants
        if item.evaluation is not None
        and item.evaluation.loss is not None
        and (item.name == FLOAT_VARIANT or item.path is not None)
    ]
    return Paths(
        [loss_line(styles[variant.name], path) for variant, path in known],
        {variant.name: path.barrier for variant, path in known}, ends, loss_unit(result.task), scale, clip,
        [f"{variant.name}: {path.reason}" for variant, path in known if path.reason],
    )  # fmt: skip


def draw_paths(data: Paths, mode: Mode) -> FigureSpec:
    """The lines, lines at both ends, and a marker for each evaluated loss."""
    axis, ground = data.axis, GROUND[mode]
    traces = [line_trace(line, plain(line.style.label), line.style.fill[mode], line.style.dash) for line in data.lines]
    traces += [_end_trace(end, data.unit, mode) for end in data.ends]
    alphas = [alpha for line in data.lines for alpha in line.alphas]
    layout = line_layout(mode, axis, line_ends(data.lines, axis, mode), (min(alphas), max(alphas)),
                         "α   FP32 → variant   (0: FP32, 1: the variant)")  # fmt: skip
    layout["shapes"] = [vertical_line(0, ground.axis), vertical_line(1, ground.axis)]
    return framed(
        mode, traces, right=26 + 7 * max(len(line.style.label) for line in data.lines),
        uirevision=f"path-{data.scale}-{data.clip}", **layout,
    )  # fmt: skip


def _end_trace(end: PathEnd, unit: str, mode: Mode) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [end.alpha], "y": [end.loss],
        "name": f"{plain(end.style.label)} evaluated",
        "marker": {"symbol": end.style.marker.removesuffix("-open"), "size": 9, "color": end.style.fill[mode],
                   "line": {"width": 1.5, "color": GROUND[mode].surface}},
        "hovertemplate": f"%{{y:.4g}} {unit}",
    }  # fmt: skip


def describe_paths(data: Paths) -> str:
    """Which variants lie behind a barrier."""
    none = [name for name, height in data.barriers.items() if height is not None and height <= 0]
    some = [(name, height) for name, height in data.barriers.items() if height is not None and height > 0]
    said = []
    if some:
        heights = ", ".join(f"{name} {numbers.number(height)}" for name, height in some)
        said.append(f"Barrier ({data.unit}): {heights}.")
    if none and not some:
        said.append("No barrier: never above the straight line between the ends.")
    elif none:
        said.append(f"None: {', '.join(none)}.")
    missing = [name for name, height in data.barriers.items() if height is None]
    if missing:
        said.append(f"Barrier not known: {', '.join(missing)}.")
    said.append("Markers: evaluated.")
    if any(value is not None and value > data.axis.range[1] for line in data.lines for value in line.values):
        said.append(f"Drawn up to L = {tick_text(data.axis.range[1])}.")
    said += [f"Gap, {reason.rstrip('.')}." for reason in data.reasons]
    return " ".join(said)


def tabulate_paths(data: Paths) -> DataTable:
    """One row an α, one column a variant."""
    series = [dict(zip(line.alphas, line.loss, strict=False)) for line in data.lines]
    alphas = sorted({alpha for line in data.lines for alpha in line.alphas})
    rows = [[alpha, *(values.get(alpha) for values in series)] for alpha in alphas]
    return DataTable(["alpha", *(f"{line.style.name} loss" for line in data.lines)], rows)


figure(Chart("path", "From FP32 to each variant", gather_paths, draw_paths, describe_paths, tabulate_paths))
