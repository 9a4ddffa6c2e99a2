"""What every chart has in common: margins, axes, type, hover box; from the tokens."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from quant_lens_engine.figures.tokens import FONT, GROUND, TICK_SIZE, TITLE_SIZE, Mode

HEIGHT = 320


def framed(mode: Mode, *, right: int = 16, left: int = 48, height: int = HEIGHT, **layout: Any) -> go.Figure:
    """An empty figure in our frame.

    Args:
        mode: ``light`` or ``dark``.
        right: margin; wider where lines are labelled at their ends.
        left: margin.
        height: in pixels.
        layout: more of Plotly's layout.
    """
    ground = GROUND[mode]
    return go.Figure(
        layout={
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
            "modebar": {"remove": []},
            **layout,
        }
    )


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
