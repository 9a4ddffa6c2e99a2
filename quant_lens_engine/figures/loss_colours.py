"""The colours of a loss on planes: one scale, logarithmic or linear, clipped only where the drawing says so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from quant_lens_engine.figures.loss_axis import log_ticks, tick_text
from quant_lens_engine.figures.plane_grid import Grid
from quant_lens_engine.figures.tokens import GROUND, SEQUENTIAL, TICK_SIZE, Mode, colour_scale, scale_colour

LossScale = Literal["log", "linear"]
LOSS_SCALES: dict[LossScale, str] = {"log": "log", "linear": "linear"}
ColourRange = Literal["run", "plane"]
COLOUR_RANGES: dict[ColourRange, str] = {"run": "run", "plane": "this plane"}

LEVELS = 22


@dataclass(frozen=True)
class LossColours:
    """From losses to colours.

    Attributes:
        low: the darkest loss.
        high: the palest loss; higher ones are drawn like it where ``clip`` is that loss.
        log: the scale is logarithmic.
        clip: the loss at which the drawing is cut, or None.
        asked: the loss at which it was to be cut.
        unit: of the loss.
        refused: a logarithmic scale was asked for, but some loss has no logarithm.
    """

    low: float
    high: float
    log: bool
    clip: float | None = None
    asked: float | None = None
    unit: str = "nats"
    refused: bool = False

    def place(self, loss: float | None) -> float | None:
        """Where a loss stands on the scale; a gap stays a gap."""
        if loss is None or not math.isfinite(loss):
            return None
        drawn = loss if self.clip is None else min(loss, self.clip)
        if not self.log:
            return drawn
        return math.log10(drawn) if drawn > 0 else None

    def placed(self, grid: Grid) -> Grid:
        """A whole grid, each value with the digits that a screen can show."""
        return [[_short(self.place(value)) for value in row] for row in grid]

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends on the scale; never the same."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        return (low, high) if high - low > 1e-9 * max(1.0, abs(high)) else (low - 0.05, high + 0.05)

    def colour(self, place: float) -> str:
        """The colour at a place of the scale."""
        low, high = self.ends
        return scale_colour(SEQUENTIAL, (place - low) / (high - low))

    @property
    def fill_levels(self) -> dict[str, float]:
        """Plotly's levels of the filled contour."""
        low, high = self.ends
        size = (high - low) / LEVELS
        return {"start": low + size, "end": high - size / 2, "size": size}

    @property
    def iso_step(self) -> float:
        """Between isolines: half a decade, less where there would be fewer than three."""
        low, high = self.ends
        span = high - low
        if self.log:
            return next((step for step in (0.5, 0.25, 0.1, 0.05) if span / step >= 2.5), span / 4)
        power = 10.0 ** math.floor(math.log10(span / 4))
        return next((k * power for k in (1, 2, 2.5, 5, 10) if span / (k * power) <= 7), 10 * power)

    @property
    def isolines(self) -> list[float]:
        """The places of the isolines, within the scale."""
        low, high = self.ends
        step, margin = self.iso_step, 0.01 * (high - low)
        first = math.ceil((low + margin) / step)
        last = math.floor((high - margin) / step)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def loss_at(self, place: float) -> float:
        """The inverse of :meth:`place`."""
        return float(10.0**place) if self.log else place

    def axis(self, mode: Mode, **bar: Any) -> dict[str, Any]:
        """The colour axis with its bar, ticks in the loss' unit."""
        low, high = self.ends
        ground = GROUND[mode]
        places, words = self.ticks
        return {
            "cmin": low,
            "cmax": high,
            "colorscale": colour_scale(SEQUENTIAL),
            "colorbar": {
                "title": {"text": self.bar_title, "side": "top", "font": {"size": TICK_SIZE, "color": ground.second}},
                "thickness": 10,
                "outlinewidth": 0,
                "len": 1,
                "lenmode": "fraction",
                "x": 1.015,
                "xpad": 4,
                "ypad": 0,
                "tickvals": places,
                "ticktext": words,
                "tickfont": {"size": TICK_SIZE, "color": ground.muted},
                "ticks": "outside",
                "ticklen": 3,
                "tickcolor": ground.axis,
                **bar,
            },
        }

    @property
    def bar_title(self) -> str:
        """Over the colour bar."""
        return f"L ({'log' if self.log else self.unit})"

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Places and words; the last says where the drawing is cut."""
        low, high = self.ends
        if self.log:
            losses = log_ticks(self.loss_at(low), self.loss_at(high))
        else:
            step = self.iso_step
            losses = [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
        places = [math.log10(loss) if self.log else loss for loss in losses]
        words = [tick_text(loss) for loss in losses]
        if self.clip is not None:
            kept = [(p, w) for p, w in zip(places, words, strict=True) if p < high - 0.03 * (high - low)]
            places, words = (
                [*(p for p, _ in kept), high - 1e-6 * (high - low)],
                [w for _, w in kept] + [f"≥ {tick_text(self.clip)}"],
            )
        return places, words


def loss_colours(
    losses: Iterable[float], *, scale: LossScale = "log", clip: float | None = None, unit: str = "nats"
) -> LossColours:
    """The scale that shows these losses, cut at ``clip`` where some are higher.

    Example:
        >>> loss_colours([0.1, 10.0]).isolines
        [-0.5, 0.0, 0.5]
    """
    known = list(losses)
    if not known:
        return LossColours(0.0, 1.0, False, None, clip, unit)
    low, high = min(known), max(known)
    cut = clip if clip is not None and low < clip < high else None
    log = scale != "linear" and low > 0
    return LossColours(low, cut or high, log, cut, clip, unit, refused=scale != "linear" and not log)


def scale_notes(colours: LossColours, losses: Iterable[float]) -> list[str]:
    """What a reader has to know of the scale."""
    notes = []
    if colours.clip is not None:
        known = list(losses)
        higher = sum(loss > colours.clip for loss in known)
        notes.append(
            f"Drawn up to L = {tick_text(colours.clip)}; {higher} of {len(known)} points are higher, their values "
            "untouched."
        )
    elif colours.asked is not None:
        side = "below" if colours.asked <= colours.low else "above"
        notes.append(f"Nothing is {side} L = {tick_text(colours.asked)}: not cut.")
    if colours.refused:
        notes.append("Linear: some loss is not positive.")
    return notes


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
