"""What a chart is: two functions, one that gathers plain data from results and one that draws it.

A chart's file registers it with :func:`figure`; notebooks, pages and the report draw it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import plotly.graph_objects as go

from quant_lens_engine.errors import InputError
from quant_lens_engine.figures.frame import FigureSpec
from quant_lens_engine.figures.tokens import Mode
from quant_lens_engine.registry import Registry
from quant_lens_engine.schema import RunResult

D = TypeVar("D")
Cell = str | float | int | None


@dataclass(frozen=True)
class DataTable:
    """The numbers behind a chart, in full precision: shown as table, saved as CSV and JSON."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()


@dataclass(frozen=True)
class Drawing:
    """A chart with everything that goes with it. A mode that was not asked for is None, and so are both where there
    is nothing to draw yet."""

    name: str
    title: str
    sentence: str = ""
    light: FigureSpec | None = None
    dark: FigureSpec | None = None
    table: DataTable = field(default_factory=DataTable)
    note: str = ""


@dataclass(frozen=True)
class Chart(Generic[D]):
    """A registered chart.

    Attributes:
        name: in :data:`FIGURES`.
        title: of its card.
        gather: results and options to plain data; None where there is nothing to draw yet.
        draw: the data in one mode.
        sentence: what the chart shows, or how it is read; one line.
        table: the numbers behind it.
        note: what the numbers rest on, beneath the chart; one line.
        many: it draws several results over each other; others draw one.
    """

    name: str
    title: str
    gather: Callable[..., D | None]
    draw: Callable[[D, Mode], FigureSpec]
    sentence: Callable[[D], str]
    table: Callable[[D], DataTable]
    many: bool = False
    note: Callable[[D], str] | None = None


class FigureError(InputError):
    """A chart that does not exist, or results that it cannot draw."""

    default_code = "unknown_figure"


FIGURES: Registry[Chart[Any]] = Registry("figure", FigureError)


def figure(chart: Chart[D]) -> Chart[D]:
    """Register a chart under its name."""
    FIGURES.add(chart.name, chart)
    return chart


def draw(name: str, result: RunResult | Sequence[Any], mode: Mode = "light", **options: Any) -> go.Figure:
    """One chart of a result as a Plotly figure; an empty figure where there is nothing to draw yet.

    Args:
        name: of a registered chart: ``sharpness``, ``lines``, ``compare-lines``.
        result: a result; for a comparison several ``ComparedResult``.
        mode: ``light`` or ``dark``.
        options: of the chart.

    Raises:
        FigureError: there is no such chart.

    Example:
        >>> len(draw("sharpness", RunResult()).data)
        0
    """
    chart = FIGURES[name]
    data = chart.gather(result, **options)
    return go.Figure() if data is None else go.Figure(chart.draw(data, mode))


def draw_both(name: str, result: RunResult | Sequence[Any], **options: Any) -> Drawing:
    """One chart in both modes as Plotly's JSON, with its sentence and the numbers behind it; quick, for pages."""
    chart = FIGURES[name]
    data = chart.gather(result, **options)
    if data is None:
        return Drawing(chart.name, chart.title)
    light, dark = chart.draw(data, "light"), chart.draw(data, "dark")
    return Drawing(
        chart.name,
        chart.title,
        chart.sentence(data),
        light,
        dark,
        chart.table(data),
        chart.note(data) if chart.note else "",
    )
