"""The horizontal axis of λ: linear, or symmetrically logarithmic: eigenvalues have both signs and span decades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quant_lens_engine.figures.loss_axis import log_ticks
from quant_lens_engine.schema import numbers

LambdaScale = Literal["linear", "symlog"]
LAMBDA_SCALES: dict[LambdaScale, str] = {"linear": "Linear λ", "symlog": "Log λ"}

_TITLE = "eigenvalue  λ  of ∇²L at Q(w)"
_CLOSEST = 0.055
"""Ticks nearer to each other than that share of the axis would write over each other."""


@dataclass(frozen=True)
class LambdaAxis:
    """Where each λ stands.

    Attributes:
        scale: ``symlog`` is asinh(λ / 2 knee): linear around zero, logarithmic beyond a few knees, odd.
        low: smallest λ that is shown.
        high: the largest.
        knee: in units of λ; of no meaning on a linear axis.
        unit: of the loss.
    """

    scale: LambdaScale
    low: float
    high: float
    knee: float = 1.0
    unit: str = "nats"

    def place(self, value: float) -> float:
        """The coordinate that Plotly is given for λ.

        Example:
            >>> axis = LambdaAxis("symlog", -1.0, 100.0, knee=0.1)
            >>> round(axis.place(100.0) - axis.place(10.0), 3), axis.place(0.0), axis.place(-5.0) == -axis.place(5.0)
            (2.302, 0.0, True)
        """
        return value if self.scale == "linear" else math.asinh(value / (2 * self.knee))

    @property
    def range(self) -> tuple[float, float]:
        """Of coordinates, with a small margin."""
        low, high = self.place(self.low), self.place(self.high)
        margin = 0.02 * ((high - low) or 1.0)
        return low - margin, high + margin

    def share(self, value: float) -> float:
        """Where λ stands, as a share of the axis's length."""
        left, right = self.range
        return (self.place(value) - left) / (right - left)

    @property
    def ticks(self) -> list[float]:
        """Of a symmetrically logarithmic axis, in units of λ: zero, and round values on both sides of it."""
        found, longest = [0.0], max(self.high, -self.low)
        if longest <= self.knee:
            return found
        # The ends first, then inwards: where room is short it is the crowd near zero that goes without.
        for tick in reversed(log_ticks(self.knee, longest)):
            for value in (tick, -tick):
                apart = all(abs(self.share(value) - self.share(other)) >= _CLOSEST for other in found)
                if self.low <= value <= self.high and apart:
                    found.append(value)
        return sorted(found)

    def plotly(self) -> dict[str, Any]:
        """Plotly's settings: a symmetric log axis is a linear one whose ticks say the λ that stands there."""
        if self.scale == "linear":
            return {"range": list(self.range), "hoverformat": ".4g"}
        ticks = self.ticks
        words = [_tick_text(tick) for tick in ticks]
        return {"range": list(self.range), "tickvals": [self.place(tick) for tick in ticks], "ticktext": words}

    @property
    def title(self) -> str:
        """With symbol, unit and scale; a log axis says where it is not one."""
        if self.scale == "linear":
            return f"{_TITLE}  ({self.unit})"
        return f"{_TITLE}  ({self.unit}, log; linear within ±{numbers.number(self.knee, digits=1)})"


def lambda_axis(scale: LambdaScale, low: float, high: float, widths: Sequence[float], unit: str = "nats") -> LambdaAxis:
    """The axis that shows zero and everything from ``low`` to ``high``.

    Args:
        scale: linear or symmetrically logarithmic.
        low: smallest λ of all curves.
        high: the largest.
        widths: of the curves' Gaussians: nothing below the narrowest is resolved, so there the log begins.
        unit: of the loss.
    """
    low, high = min(0.0, low), max(0.0, high)
    most = max(abs(low), abs(high)) or 1.0
    knee = max(min((width for width in widths if width > 0), default=most / 100), most / 1e6)
    return LambdaAxis(scale, low, high, knee, unit)


def _tick_text(tick: float) -> str:
    sign = numbers.MINUS if tick < 0 else ""
    return "0" if tick == 0 else f"{sign}{numbers.number(abs(tick), digits=1)}"
