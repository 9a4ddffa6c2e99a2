"""How fast Lanczos closed in on λmax: the distance that is still possible above it, against products spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations
from quant_lens_engine.figures.frame import HEIGHT, FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_axis import log_ticks
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.spectra import LETTER_PX, exponents, known_curvatures, log_range
from quant_lens_engine.figures.tokens import Mode
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import ConvergenceStep, Curvature, RunResult, numbers

_ROUNDING = 1e-7
"""Relative to λmax: below that float32 has no digits, and what is left is drawn on the floor."""

_BEHIND = 0.015
_NEAR = 0.15
"""Of the axis: lines that end within it of each other have labels that could meet."""


@dataclass(frozen=True)
class Convergence:
    """One variant's first Lanczos process, its distances never below ``floor``."""

    style: VariantStyle
    steps: list[ConvergenceStep]
    products: list[int]
    distance: list[float]
    bounded: bool
    floor: float
    started_from: str | None
    converged: bool


@dataclass(frozen=True)
class Convergences:
    """The variants in the run's order."""

    lines: list[Convergence]
    unit: str = "nats"

    @property
    def y_range(self) -> tuple[float, float]:
        """In data units, the floor a little above its lower end."""
        return log_range([value for line in self.lines for value in line.distance], deepest=1e-12)


def gather_convergence(result: RunResult) -> Convergences | None:
    """The processes that were recorded; None where none was."""
    known = known_curvatures(result)
    # One axis has one meaning: a process whose start was given has no bound, and then all show their residuals.
    bounded = all(_bounded(curvature) for _, curvature in known if curvature.convergence)
    found = [_line(style, curvature, bounded) for style, curvature in known]
    lines = [line for line in found if line is not None]
    return Convergences(lines, loss_unit(result.task)) if lines else None


def _bounded(curvature: Curvature) -> bool:
    return any(step.highest_bound is not None for step in curvature.convergence)


def _line(style: VariantStyle, curvature: Curvature, bounded: bool) -> Convergence | None:
    steps = [step for step in curvature.convergence if step.highest is not None]
    scale = max((abs(step.highest) for step in steps if step.highest is not None), default=0.0) or 1.0
    floor = _ROUNDING * scale
    known = [(step.products, distance) for step in steps if (distance := _distance(step, bounded)) is not None]
    if not known:
        return None
    # Once it is down to rounding, more products only move the noise.
    last = next((place for place, (_, distance) in enumerate(known) if distance <= floor), len(known) - 1)
    shown = known[: last + 1]
    return Convergence(
        style, steps, [products for products, _ in shown], [max(distance, floor) for _, distance in shown], bounded,
        floor, curvature.started_from, curvature.converged,
    )  # fmt: skip


def _distance(step: ConvergenceStep, bounded: bool) -> float | None:
    if not bounded:
        return step.highest_residual
    if step.highest is None or step.highest_bound is None:
        return None
    return max(step.highest_bound - step.highest, 0.0)


def draw_convergence(data: Convergences, mode: Mode) -> FigureSpec:
    """A falling line a variant, labelled where it ends."""
    most = max(line.products[-1] for line in data.lines)
    longest = max(len(line.style.label) for line in data.lines)
    ticks = log_ticks(*data.y_range)
    bounded = all(line.bounded for line in data.lines)
    title = f"{'bound − θ  of λmax' if bounded else 'residual ‖Hv − θv‖'}  ({data.unit}, log)"
    return framed(
        mode,
        [_trace(line, mode) for line in data.lines],
        left=56,
        right=26 + round(LETTER_PX * longest),
        annotations=_labels(data, most, mode),
        xaxis=x_axis(mode, "Hessian-vector products", range=[0, most * 1.02]),
        yaxis=y_axis(mode, title, type="log", range=exponents(data.y_range), tickvals=ticks,
                     ticktext=[numbers.number(tick, digits=1) for tick in ticks]),
        uirevision="convergence",
    )  # fmt: skip


def _labels(data: Convergences, most: int, mode: Mode) -> list[dict[str, Any]]:
    """Lines end at products of their own; those that end near each other share the room beside them."""
    groups: list[list[Convergence]] = []
    for line in sorted(data.lines, key=lambda item: item.products[-1]):
        if groups and line.products[-1] - groups[-1][-1].products[-1] <= _NEAR * most:
            groups[-1].append(line)
        else:
            groups.append([line])
    notes = []
    for group in groups:
        ends = [
            EndLabel(line.distance[-1], f"<b>{plain(line.style.label)}</b>", line.style.ink[mode]) for line in group
        ]
        x = group[-1].products[-1]
        made = end_label_annotations(ends, x=x, y_range=data.y_range, log=True, height_px=HEIGHT - 50)
        # All labels of a group stand behind its longest line, so that none lies on a line that goes on.
        behind = {"axref": "x", "ax": x + _BEHIND * most}
        notes += [note | behind | {"x": line.products[-1]} for note, line in zip(made, group, strict=True)]
    return notes


def _trace(line: Convergence, mode: Mode) -> dict[str, Any]:
    name = plain(line.style.label)
    what = "bound − θ" if line.bounded else "residual"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": line.products,
        "y": line.distance,
        "line": {"width": 2, "color": line.style.fill[mode], "dash": line.style.dash},
        "hovertemplate": f"<b>{name}</b><br>%{{x}} products<br>{what} %{{y:.3g}}<extra></extra>",
    }


def describe_convergence(data: Convergences) -> str:
    """How many products it took, where it started, and what did not converge."""
    open_ends = [line.style.name for line in data.lines if not line.converged]
    if open_ends:
        return f"Not converged: {', '.join(open_ends)}. There λmax may be larger than what was found."
    counts = [line.products[-1] for line in data.lines]
    low, high = min(counts), max(counts)
    took = f"{low}" if low == high else f"{low} to {high}"
    said = f"Down to rounding after {took} products." if _all_down(data) else f"Closed in within {took} products."
    warm = [line for line in data.lines if line.started_from]
    if not warm:
        return said
    return f"{said} From {warm[0].started_from}'s eigenvectors: {', '.join(line.style.name for line in warm)}."


def _all_down(data: Convergences) -> bool:
    return all(line.distance[-1] <= line.floor for line in data.lines)


def tabulate_convergence(data: Convergences) -> DataTable:
    """One row a step of a variant."""
    columns = ("variant", "products", "highest", "highest_bound", "highest_residual", "lowest", "lowest_bound",
               "lowest_residual")  # fmt: skip
    rows = [
        (line.style.name, step.products, *(getattr(step, column) for column in columns[2:]))
        for line in data.lines
        for step in line.steps
    ]
    return DataTable(columns, rows)


figure(
    Chart("convergence", "Convergence of λmax", gather_convergence, draw_convergence, describe_convergence,
          tabulate_convergence)
)  # fmt: skip
