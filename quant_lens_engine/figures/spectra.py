"""What the charts of the spectrum share: whose curvature is known, axes of λ, and labels beside peaks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.frame import plain
from quant_lens_engine.figures.loss_axis import log_ticks
from quant_lens_engine.figures.tokens import GROUND, TICK_SIZE, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import Curvature, RunResult, numbers

LETTER_PX = 7.2
_SHORT = 3.0
"""A logarithmic axis that spans a smaller factor has its ticks at even distances."""
_LINE_PX = 15.0
_GAP_PX = 9.0


@dataclass(frozen=True)
class PeakLabel:
    """A label that belongs to a point of a curve: the point in shares of the plot, and in data units."""

    at: tuple[float, float]
    point: tuple[float, float]
    text: str
    colour: str


def known_curvatures(result: RunResult) -> list[tuple[VariantStyle, Curvature]]:
    """The variants whose curvature is measured, with their styles, in the run's order."""
    styles = variant_styles(result.variants)
    return [(styles[item.name], item.curvature) for item in result.variants if item.curvature is not None]


def lambda_ticks(low: float, high: float, sign: float = 1.0) -> dict[str, Any]:
    """Ticks of a logarithmic axis of |λ|, written with the sign of λ, in as many digits as tell them apart.

    Example:
        >>> lambda_ticks(8.4, 9.4)["ticktext"]
        ['8.4', '8.6', '8.8', '9.0', '9.2', '9.4']
    """
    ticks = log_ticks(low, high) if high / low > _SHORT else _even_ticks(low, high)
    for digits in range(1, 7):
        words = [numbers.number(sign * tick, digits=digits) for tick in ticks]
        if len(set(words)) == len(words):
            break
    return {"tickvals": ticks, "ticktext": words}


def _even_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers at even distances, for a range that is a small part of a decade."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(part * power for part in (1, 2, 5, 10, 20) if (high - low) / (part * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{count * step:.12g}") for count in range(first, last + 1)]


def log_range(values: Iterable[float], deepest: float = 1e-8, margin: float = 0.08) -> tuple[float, float]:
    """The range of a logarithmic axis, in data units, that shows all these positive values.

    Example:
        >>> low, high = log_range([0.1, 10.0])
        >>> 0.06 < low < 0.1 and 10 < high < 16
        True
    """
    known = [value for value in values if value > 0]
    if not known:
        return 0.1, 1.0
    high = max(known)
    low = max(min(known), high * deepest)
    factor = max(high / low, 2.0) ** margin
    return low / factor, high * factor


def exponents(span: tuple[float, float]) -> list[float]:
    """A range as Plotly takes it on a logarithmic axis."""
    return [math.log10(bound) for bound in span]


def key(mode: Mode) -> dict[str, Any]:
    """Plotly's legend as one line above the plot: only where marks have no end that a label could stand at."""
    font = {"size": TICK_SIZE, "color": GROUND[mode].text}
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "font": font,
            "itemwidth": 30, "bgcolor": "rgba(0,0,0,0)"}  # fmt: skip


def peak_annotations(labels: Sequence[PeakLabel], width_px: float, height_px: float) -> list[dict[str, Any]]:
    """Labels to the right of their points, stacked upwards where they would cover each other, with thin leaders.

    Args:
        labels: with their points.
        width_px: of the plot, about; it only decides which labels would meet.
        height_px: of the plot, about.
    """
    boxes: list[tuple[float, float, float]] = []
    placed = []
    for label in sorted(labels, key=lambda item: -item.at[0]):
        left = label.at[0] * width_px + _GAP_PX
        right = left + LETTER_PX * len(label.text) + _GAP_PX
        wanted = min(label.at[1] * height_px + _LINE_PX, height_px - _LINE_PX)
        while any(a < right and left < b and abs(wanted - y) < _LINE_PX for a, b, y in boxes):
            wanted += _LINE_PX
        boxes.append((left, right, wanted))
        placed.append(_annotation(label, wanted - label.at[1] * height_px))
    return placed


def _annotation(label: PeakLabel, rise_px: float) -> dict[str, Any]:
    return {
        "x": label.point[0],
        "y": label.point[1],
        "text": f"<b>{plain(label.text)}</b>",
        "font": {"size": TICK_SIZE, "color": label.colour},
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "arrowcolor": label.colour,
        "ax": _GAP_PX,
        "ay": -rise_px,  # Plotly counts downwards.
        "xanchor": "left",
        "yanchor": "middle",
        "borderpad": 1,
        "standoff": 2,
    }
