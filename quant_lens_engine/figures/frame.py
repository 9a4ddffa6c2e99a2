"""What every chart has in common: margins, axes, type, hover box; from the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quant_lens_engine.figures.tokens import FONT, GROUND, TICK_SIZE, TITLE_SIZE, Mode

HEIGHT = 320


FigureSpec = dict[str, Any]
"""A figure as Plotly's JSON. ``plotly.graph_objects`` checks every property, which takes a hundred times longer than
drawing; tests have it check each chart, pages need not."""


def framed(
    mode: Mode,
    traces: Sequence[dict[str, Any]],
    *,
    right: int = 16,
    left: int = 48,
    height: int = HEIGHT,
    **layout: Any,
) -> FigureSpec:
    """Traces in our frame.

    Args:
        mode: ``light`` or ``dark``.
        traces: of Plotly, each with its ``type``.
        right: margin; wider where lines are labelled at their ends.
        left: margin.
        height: in pixels.
        layout: more of Plotly's layout.
    """
    ground = GROUND[mode]
    return {
        "data": list(traces),
        "layout": {
            "autosize": True,
            "height": height,
            "margin": {"l": left, "r": right, "t": 8, "b": 42},
            "paper_bgcolor": ground.surface,
            "plot_bgcolor": ground.surface,
            "font": {"family": FONT, "size": TITLE_SIZE, "color": ground.second},
            "showlegend": False,
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": ground.surface,
                "bordercolor": ground.strong,
                "font": {"family": FONT, "size": TITLE_SIZE, "color": ground.text},
                "align": "left",
            },
            "dragmode": "zoom",
            **layout,
        },
    }


def vertical_line(x: float, colour: str, width: float = 1.2) -> dict[str, Any]:
    """A line over the whole height."""
    return {
        "type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain",
        "line": {"width": width, "color": colour},
    }  # fmt: skip


def plain(text: str) -> str:
    """A name that someone typed, for a place where Plotly would read tags and links.

    Example:
        >>> plain("a<b>")
        'a&lt;b>'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;")


def x_axis(mode: Mode, title: str, **axis: Any) -> dict[str, Any]:
    """A horizontal axis: with a line."""
    return _axis(mode, title) | {"showline": True, "linecolor": GROUND[mode].axis, "linewidth": 1, "ticks": "outside",
                                 "ticklen": 4, "tickcolor": GROUND[mode].axis} | axis  # fmt: skip


def y_axis(mode: Mode, title: str, **axis: Any) -> dict[str, Any]:
    """A vertical axis: without a line, the grid is enough."""
    return _axis(mode, title) | {"showline": False, "ticks": ""} | axis


def _axis(mode: Mode, title: str) -> dict[str, Any]:
    ground = GROUND[mode]
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": TITLE_SIZE, "color": ground.second}},
        "tickfont": {"size": TICK_SIZE, "color": ground.muted},
        "gridcolor": ground.grid,
        "gridwidth": 1,
        "zeroline": False,
        "automargin": True,
        "separatethousands": False,
    }
