"""The notebook's picture: sharpness and loss lines, drawn by matplotlib without a display, a browser or pyplot."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from quant_lens_engine.errors import InputError
from quant_lens_engine.figures import FIGURES, draw, html_report
from quant_lens_engine.figures.end_labels import SPACING_PX, spread
from quant_lens_engine.figures.lines import LossLine, LossLines, describe_lines, gather_lines
from quant_lens_engine.figures.loss_axis import LossAxis, log_ticks
from quant_lens_engine.figures.sharpness import Bar, Sharpness, describe_sharpness, gather_sharpness
from quant_lens_engine.figures.tokens import GROUND, MODES, Ground, Mode
from quant_lens_engine.schema import Landscape, RunResult, numbers
from quant_lens_engine.schema.summary import Summary, verdict_sentence

IMAGE_FORMATS = (".png", ".svg", ".pdf")
DPI = 200
"""Of a saved PNG. One of the tokens' pixels is 1/100 inch."""

_PX = 0.72  # points
_WIDTH = 12.6  # inches, like the two below
_LETTER = 0.082
_COLUMNS_PER_INCH = 15.5


class DiagnosticFigure(Figure):
    """A matplotlib figure that a notebook shows by itself, whatever its backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI / 2)
        return buffer.getvalue()


def write_diagnostic(result: RunResult, path: Path, *, landscape: Landscape = "smooth", mode: str = "light") -> Path:
    """The picture as a file; ``.html`` is the self-contained interactive report.

    Raises:
        InputError: ``unknown_image_format``, ``unknown_landscape``, ``cannot_write``.
    """
    suffix = path.suffix.lower()
    if suffix not in (*IMAGE_FORMATS, ".html"):
        raise InputError(
            f"a plot cannot be written as {suffix or 'a file without an ending'}",
            hint=f"use {', '.join(IMAGE_FORMATS)} or .html",
            code="unknown_image_format",
        )
    try:
        if suffix == ".html":
            path.write_text(html_report(result), encoding="utf-8")
        else:
            draw_diagnostic(result, landscape=landscape, mode=mode).savefig(path, dpi=DPI)
    except OSError as error:
        raise InputError(f"{path} cannot be written", hint=error.strerror or "", code="cannot_write") from None
    return path


def draw_diagnostic(result: RunResult, *, landscape: Landscape = "smooth", mode: str = "light") -> DiagnosticFigure:
    """Bars of λmax at the left, the loss along the shared directions at the right.

    What has no data yet says so instead of being drawn.

    Example:
        >>> figure = draw_diagnostic(RunResult())
        >>> len(figure.axes)
        2
    """
    colours = _mode(mode)
    if landscape not in ("deployed", "smooth"):
        raise InputError(f"unknown landscape {landscape!r}", hint="'deployed' or 'smooth'", code="unknown_landscape")
    ground = GROUND[colours]
    names = [variant.name for variant in result.variants] or [""]
    layout = _Layout(rows=len(names), label=_LETTER * max(map(len, names)))
    figure = DiagnosticFigure(figsize=(_WIDTH, layout.height), facecolor=ground.surface)
    FigureCanvasAgg(figure)
    bars, lines = gather_sharpness(result), gather_lines(result, landscape)
    _write_header(figure, result, ground, layout)
    said = (describe_sharpness(bars) if bars else "No curvature was measured.",
            describe_lines(lines) if lines else "No line was measured.")  # fmt: skip
    left = _panel(figure, layout, layout.left_panel, ground, "Sharpness", said[0])
    right = _panel(figure, layout, layout.right_panel, ground, "Loss along shared directions", said[1])
    if bars:
        _draw_bars(left, bars, colours)
    if lines:
        _draw_lines(right, lines, colours)
    return figure


def draw_chart(result: RunResult, name: str, mode: str = "light", **options: Any) -> go.Figure:
    """One of the page's charts as a Plotly figure.

    Raises:
        InputError: ``unknown_figure``, ``unknown_mode``.

    Example:
        >>> len(draw_chart(RunResult(), "density").data)
        0
    """
    charts = [key for key in FIGURES if not FIGURES[key].many]
    if name not in charts:
        raise InputError(f"unknown chart {name!r}", hint=f"one of {', '.join(charts)}", code="unknown_figure")
    return draw(name, result, _mode(mode), **options)


@dataclass(frozen=True)
class _Layout:
    """Places in inches from the left and from the top: names of variants need room beside the bars and the lines.

    Attributes:
        rows: bars below one another.
        label: width of the longest name.
    """

    rows: int
    label: float

    @property
    def height(self) -> float:
        return max(4.7, 1.9 + 0.42 * self.rows)

    @property
    def left_panel(self) -> _Panel:
        return _Panel(0.21, max(0.6, 0.28 + self.label), 5.0)

    @property
    def right_panel(self) -> _Panel:
        return _Panel(5.5, 6.1, _WIDTH - 0.35 - self.label)

    def across(self, inches: float) -> float:
        return inches / _WIDTH

    def down(self, inches: float) -> float:
        return 1 - inches / self.height


class _Panel(NamedTuple):
    """Where a panel's words begin, and where its axes begin and end."""

    words: float
    start: float
    end: float


def _mode(mode: str) -> Mode:
    for known in MODES:
        if mode == known:
            return known
    raise InputError(f"unknown mode {mode!r}", hint=f"use {' or '.join(MODES)}", code="unknown_mode")


def _write_header(figure: Figure, result: RunResult, ground: Ground, layout: _Layout) -> None:
    facts = [
        result.model.architecture,
        None if result.data.samples is None else f"{numbers.count(result.data.samples)} rows",
        f"seed {result.seed}",
    ]
    level = layout.down(0.26)
    right = figure.text(layout.across(_WIDTH - 0.21), level, _plain(" · ".join(fact for fact in facts if fact)),
                        size=8.2, color=ground.muted, va="center", ha="right")  # fmt: skip
    summary = verdict_sentence(result) if any(c.verdict for c in result.comparisons) else Summary(lead="Quant Lens")
    lead = figure.text(layout.across(0.21), level, _plain(summary.lead), size=12, weight="bold", color=ground.text,
                       va="center")  # fmt: skip
    end = lead.get_window_extent().x1 / figure.bbox.x1
    rest = figure.text(end + 0.006, level, _plain(summary.rest), size=12, color=ground.second, va="center")
    if rest.get_window_extent().x1 > right.get_window_extent().x0:
        rest.remove()  # the report has it


def _panel(figure: Figure, layout: _Layout, panel: _Panel, ground: Ground, title: str, sentence: str) -> Axes:
    start, end, bottom, top = (
        layout.across(panel.start), layout.across(panel.end), layout.down(layout.height - 0.6), layout.down(1.2)
    )  # fmt: skip
    axes = figure.add_axes((start, bottom, end - start, top - bottom), facecolor=ground.surface)
    words = layout.across(panel.words)
    columns = int((panel.end - panel.words) * _COLUMNS_PER_INCH)
    figure.text(words, layout.down(0.61), title, size=9.8, weight="bold", color=ground.text, va="center")
    figure.text(words, layout.down(0.74), textwrap.fill(_plain(sentence), columns), size=8, color=ground.muted,
                va="top", linespacing=1.35)  # fmt: skip
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(ground.axis)
    axes.tick_params(colors=ground.muted, labelsize=8, length=0, pad=5)
    axes.grid(color=ground.grid, linewidth=_PX)
    axes.set_axisbelow(True)
    return axes


def _draw_bars(axes: Axes, data: Sharpness, mode: Mode) -> None:
    ground = GROUND[mode]
    for place, bar in enumerate(data.bars):
        axes.barh(place, bar.value, height=0.42, color=bar.style.fill[mode])
        if bar.spread:
            axes.errorbar(
                bar.value, place, xerr=bar.spread, color=ground.text, elinewidth=0.9, capsize=2.2, capthick=0.9
            )
        value, ratio = _bar_label(bar)
        label = axes.annotate(_plain(value), (bar.end, place), xytext=(5, 0), textcoords="offset points", va="center",
                              size=8.2, color=ground.text)  # fmt: skip
        if ratio:
            axes.annotate(_plain(ratio), (1, 0.5), xycoords=label, xytext=(6, 0), textcoords="offset points",
                          va="center", size=8.2, color=ground.muted)  # fmt: skip
    if data.baseline is not None:
        axes.axvline(data.baseline.value, color=data.baseline.style.fill[mode], linewidth=0.9)
    axes.axvline(0, color=ground.axis, linewidth=_PX)
    axes.set_yticks(range(len(data.bars)), [bar.style.label for bar in data.bars], color=ground.second, size=8.6)
    axes.set_ylim(len(data.bars) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    low, high = min(0.0, *(bar.value for bar in data.bars)), max(bar.end for bar in data.bars) or 1.0
    axes.set_xlim(low * 1.1, high * 1.5)
    axes.set_xlabel("largest Hessian eigenvalue  λmax  (∇²L at Q(w), straight-through)", size=8.4, color=ground.second)


def _bar_label(bar: Bar) -> tuple[str, str]:
    notes = [] if bar.ratio is None else [f"{numbers.number(bar.ratio)} ×"]
    if not bar.converged:
        notes.append("not converged")
    return numbers.with_error(bar.value, bar.spread), "  ".join(notes)


def _draw_lines(axes: Axes, data: LossLines, mode: Mode) -> None:
    ground, axis = GROUND[mode], data.axis
    if axis.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(log_ticks(*axis.range)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", numbers.MINUS)))
    axes.set_ylim(*axis.range)
    axes.axvline(0, color=ground.axis, linewidth=0.9)
    for line in data.lines:
        _draw_band(axes, line, mode)
    for line in data.lines:
        axes.plot(line.alphas, _gaps(line.loss), color=line.style.fill[mode], **_dashes(line))
    alphas = [alpha for line in data.lines for alpha in line.alphas]
    axes.set_xlim(min(alphas), max(alphas))
    axes.set_xlabel("distance along d  α  (‖d‖ = ‖θ‖ per filter)", size=8.4, color=ground.second)
    axes.set_ylabel(axis.title, size=8.4, color=ground.second)
    _label_ends(axes, data, axis, mode)


def _draw_band(axes: Axes, line: LossLine, mode: Mode) -> None:
    if line.low and line.high:
        axes.fill_between(line.alphas, _gaps(line.low), _gaps(line.high), color=line.style.fill[mode], alpha=0.08,
                          linewidth=0)  # fmt: skip


def _dashes(line: LossLine) -> dict[str, Any]:
    lengths = [length * _PX / 1.5 for length in line.style.dash_lengths]  # in widths of the line
    return {"linewidth": 1.5, "linestyle": (0, lengths) if lengths else "solid"}


def _label_ends(axes: Axes, data: LossLines, axis: LossAxis, mode: Mode) -> None:
    """Names where lines end, spread so that none covers another, with a leader to its line."""
    ends = [(line, line.end) for line in data.lines if line.end is not None and axis.holds(line.end)]
    heights = [float(axes.transData.transform((0, end))[1]) for _, end in ends]
    box = axes.get_window_extent()
    places = spread(heights, SPACING_PX * axes.figure.dpi / 100, float(box.y0), float(box.y1))
    per_point = axes.figure.dpi / 72
    for (line, end), height, place in zip(ends, heights, places, strict=True):
        ink = line.style.ink[mode]
        axes.annotate(line.style.label, (max(line.alphas), end), xytext=(11, (place - height) / per_point),
                      textcoords="offset points", va="center", size=8.4, weight="bold", color=ink,
                      arrowprops={"arrowstyle": "-", "color": ink, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0,
                                  "relpos": (0, 0.5)}, annotation_clip=False)  # fmt: skip


def _gaps(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _plain(text: str) -> str:
    """Without thin spaces, which matplotlib's own font draws as boxes in some versions."""
    return text.replace(numbers.THIN_SPACE, "\u00a0")
