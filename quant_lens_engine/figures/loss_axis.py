"""The vertical axis of a loss: logarithmic where every loss is positive, with ticks that people read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from quant_lens_engine.schema import numbers

_DEEPEST = 1e-8
"""A log axis never shows more than eight decades: below that a loss is rounding noise."""
_MARGIN = 0.04
_NARROW, _TICKS = 0.35, 6
"""Decades of a narrow log axis, and about how many ticks it has."""


@dataclass(frozen=True)
class LossAxis:
    """Range in data units, and whether it is logarithmic."""

    range: tuple[float, float]
    log: bool
    unit: str = "nats"
    name: str = "loss  L"

    @property
    def title(self) -> str:
        """With symbol, unit and scale."""
        return f"{self.name}  ({self.unit}, log)" if self.log else f"{self.name}  ({self.unit})"

    def holds(self, value: float) -> bool:
        """Whether a value can be shown."""
        return self.range[0] <= value <= self.range[1]

    def plotly(self) -> dict[str, Any]:
        """Plotly's settings; on a log axis Plotly takes the range, but not the ticks, as exponents."""
        if not self.log:
            return {"type": "linear", "range": list(self.range)}
        ticks = log_ticks(*self.range)
        return {
            "type": "log",
            "range": [math.log10(bound) for bound in self.range],
            "tickvals": ticks,
            "ticktext": [tick_text(tick) for tick in ticks],
        }


def loss_axis(
    losses: Iterable[float | None],
    unit: str = "nats",
    *,
    scale: str = "log",
    clip: float | None = None,
    name: str = "loss  L",
) -> LossAxis:
    """The axis that shows all these losses, or those up to ``clip`` where some are higher."""
    axis = _whole_axis(losses, unit, scale)
    cut = clip if clip is not None and axis.range[0] < clip < axis.range[1] else axis.range[1]
    return replace(axis, range=(axis.range[0], cut), name=name)


def _whole_axis(losses: Iterable[float | None], unit: str, scale: str) -> LossAxis:
    known = [value for value in losses if value is not None and math.isfinite(value)]
    if not known:
        return LossAxis((0.0, 1.0), False, unit)
    low, high = min(known), max(known)
    if low <= 0 or scale == "linear":
        margin = _MARGIN * ((high - low) or 1.0)
        return LossAxis((low - margin, high + margin), False, unit)
    low = max(low, high * _DEEPEST)
    factor = max(high / low, 1.2) ** _MARGIN
    return LossAxis((low / factor, high * factor), True, unit)


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a log axis: decades, with 3 or with 2 and 5 between them where there is room; within a third of a decade
    round steps, as on a linear one.

    Example:
        >>> log_ticks(0.05, 5.0), log_ticks(0.072, 0.131)
        ([0.1, 0.3, 1.0, 3.0], [0.08, 0.09, 0.1, 0.11, 0.12, 0.13])
    """
    decades = math.log10(high / low)
    steps: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < 1.3 else (1.0, 3.0) if decades < 3.2 else (1.0,)
    if decades < _NARROW:
        return _round_steps(low, high)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, round((last - first) / 6)) if len(steps) == 1 else 1
    ticks = [float(f"{step * 10.0**power:.3g}") for power in range(first, last + 1, stride) for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _round_steps(low: float, high: float) -> list[float]:
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return [float(f"{place * step:.12g}") for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def tick_text(tick: float) -> str:
    """A loss beside an axis or a colour bar.

    Example:
        >>> tick_text(0.3), tick_text(1e-05)
        ('0.3', '1e−5')
    """
    if 1e-3 <= tick < 1e4:
        return f"{tick:g}"
    if tick <= 0:
        return f"{tick:g}".replace("-", numbers.MINUS)
    exponent = math.floor(math.log10(tick) + 1e-9)
    return f"{tick / 10.0**exponent:g}e{exponent}".replace("-", numbers.MINUS)
