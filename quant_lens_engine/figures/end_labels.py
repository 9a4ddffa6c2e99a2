"""Labels where lines end, instead of a legend: spread so that none covers another, with a thin leader to its line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.tokens import TICK_SIZE

SPACING_PX = 15.0
LEADER_PX = 10.0


@dataclass(frozen=True)
class EndLabel:
    """A line's label: at which data value the line ends, what it says, in which colour; and where it ends, if that is
    before the others do."""

    y: float
    text: str
    colour: str
    x: float | None = None


def spread(wanted: Sequence[float], spacing: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least ``spacing`` apart and within ``low`` to ``high`` where they fit.

    Neighbours that would overlap form a block around the mean of what they want (pool adjacent violators), so the
    summed squared displacement is the least possible.

    Example:
        >>> spread([10.0, 11.0, 40.0], 15.0, 0.0, 100.0)
        [3.0, 18.0, 40.0]
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    blocks: list[tuple[float, int]] = []  # start of the block, members
    for index in order:
        start, size = wanted[index], 1
        while blocks and blocks[-1][0] + blocks[-1][1] * spacing > start:
            previous, members = blocks.pop()
            # Weighted mean of where each block would start.
            start = (previous * members + (start - members * spacing) * size) / (members + size)
            size += members
        blocks.append((start, size))
    places = [start + step * spacing for start, size in blocks for step in range(size)]
    places = _within(places, spacing, low, high)
    result = [0.0] * len(wanted)
    for place, index in zip(places, order, strict=True):
        result[index] = place
    return result


def end_label_annotations(
    labels: Sequence[EndLabel], *, x: float, y_range: tuple[float, float], log: bool, height_px: float
) -> list[dict[str, Any]]:
    """Plotly annotations of the labels to the right of ``x``.

    Args:
        labels: of the lines.
        x: where the lines end, in data units.
        y_range: of the axis, in data units.
        log: the axis is logarithmic.
        height_px: of the plotting area, about; it only sets how far labels are spread.
    """
    low, high = (math.log10(bound) for bound in y_range) if log else y_range
    per_px = (high - low) / height_px
    ends = [math.log10(label.y) if log else label.y for label in labels]
    places = spread(ends, SPACING_PX * per_px, low + 6 * per_px, high - 6 * per_px)
    return [
        {
            "x": x if label.x is None else label.x,
            "y": end,
            "xref": "x",
            "yref": "y",
            "text": label.text,
            "font": {"size": TICK_SIZE, "color": label.colour},
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 1,
            "arrowcolor": label.colour,
            "ax": LEADER_PX,
            # Plotly counts downwards.
            "ay": -(place - end) / per_px,
            "xanchor": "left",
            "yanchor": "middle",
            "borderpad": 1,
            "standoff": 1,
        }
        for label, end, place in zip(labels, ends, places, strict=True)
    ]


def _within(places: list[float], spacing: float, low: float, high: float) -> list[float]:
    if not places:
        return places
    held = list(places)
    held[0] = max(held[0], low)
    for index in range(1, len(held)):
        held[index] = max(held[index], held[index - 1] + spacing)
    held[-1] = min(held[-1], high)
    for index in range(len(held) - 2, -1, -1):
        held[index] = min(held[index], held[index + 1] - spacing)
    return held
